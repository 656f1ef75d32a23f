import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { z } from "zod";
import { never, pause } from "../../../src/time.ts";
import { type Ended, printable } from "../../common/processes/say-ended.ts";
import type { Process, ProcessTable } from "../processes/process-table.ts";

const run = promisify(execFile);
const OPTIONS = { encoding: "utf8", windowsHide: true, maxBuffer: 64 * 1024 * 1024, timeout: 30_000 } as const;

/** A process and whether its command line names what was asked for. */
interface Listed extends Process {
  readonly named: boolean;
}

/** `4711 4000 133765432100000000 1 node.exe`: number, parent, start (100 ns since 1601), named or not, program. */
export function parseListing(text: string): Listed[] {
  return text.split(/\r?\n/).flatMap((line): Listed[] => {
    const [, pid, parent, started, named, name = ""] = /^(\d+) (\d+) (\d+) ([01]) (.*)$/.exec(line) ?? [];
    if (pid === undefined || pid === "0") return [];
    const numbers = { pid: Number(pid), parent: Number(parent), startedAt: Number(started) };
    return [{ ...numbers, group: 0, session: 0, name: printable(name), named: named === "1" }];
  });
}

/** Command lines stay where they are: they may hold secrets. @param word letters, digits and dashes */
export function listingScript(word: string): string {
  return [
    `$word = '*${word.replace(/[^\w-]/g, "")}*'`,
    "Get-CimInstance Win32_Process | ForEach-Object { '{0} {1} {2} {3} {4}' -f $_.ProcessId, $_.ParentProcessId, " +
      "$(if ($_.CreationDate) { $_.CreationDate.ToFileTimeUtc() } else { 0 }), [int] ($_.CommandLine -like $word), $_.Name }",
  ].join("; ");
}

const READY = "ready";
const NO_CONSOLE = 3;
const endSchema = z.object({ code: z.number(), stdout: z.string() });

/** @returns whether the processes of its console were asked to end */
async function sendBreak(pid: number): Promise<boolean> {
  try {
    return (await powershell(breakScript(pid))).includes(READY);
  } catch (error) {
    const end = endSchema.safeParse(error);
    return end.success && end.data.code !== NO_CONSOLE && end.data.stdout.includes(READY);
  }
}

/** CTRL_BREAK for all that share a console with process `pid`. A console is a process's own, so a helper has to enter it. */
export function breakScript(pid: number): string {
  const natives = [
    "[DllImport(''kernel32'')] public static extern bool FreeConsole();",
    "[DllImport(''kernel32'')] public static extern bool AttachConsole(uint pid);",
    "[DllImport(''kernel32'')] public static extern bool SetConsoleCtrlHandler(IntPtr handler, bool add);",
    "[DllImport(''kernel32'')] public static extern bool GenerateConsoleCtrlEvent(uint signal, uint group);",
  ]
    .join(" ")
    .replaceAll("''kernel32''", '"kernel32"');
  return [
    // The helper hears the break, too, and may not live to say more.
    `[Console]::Out.Write('${READY}'); [Console]::Out.Flush()`,
    `$console = Add-Type -PassThru -Name Console -Namespace Alloy -MemberDefinition '${natives}'`,
    "$null = $console::FreeConsole()",
    `if (-not $console::AttachConsole(${Math.trunc(pid)})) { exit ${NO_CONSOLE} }`,
    "$null = $console::SetConsoleCtrlHandler([IntPtr]::Zero, $true)",
    "$null = $console::GenerateConsoleCtrlEvent(1, 0)",
  ].join("; ");
}

async function powershell(script: string): Promise<string> {
  // Encoded, because quotes in an argument are read differently by every program.
  const encoded = Buffer.from(`$ProgressPreference = 'SilentlyContinue'; ${script}`, "utf16le").toString("base64");
  const flags = ["-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-OutputFormat", "Text"];
  return (await run("powershell.exe", [...flags, "-EncodedCommand", encoded], OPTIONS)).stdout;
}

/** All processes; empty where Windows does not tell. */
export async function listProcesses(word = "-"): Promise<Listed[]> {
  return parseListing(await powershell(listingScript(word)).catch(() => ""));
}

/** A shell that was started for a job. Times as the table has them; 0 where unknown. */
export interface Root {
  readonly pid: number;
  readonly startedAt: number;
  /** Nothing that started later is its child: its number may have gone to another. */
  readonly endedAt: number;
}

/** `roots`, as far as they are there, and all that descends from them, also where what is between has ended. */
export function descendantsOf(all: readonly Process[], roots: readonly Root[]): Process[] {
  const found = new Map<number, Process>();
  const isChild = (one: Process): boolean => {
    const parent = found.get(one.parent);
    if (parent !== undefined) return one.startedAt >= parent.startedAt;
    return roots.some((root) => root.pid === one.parent && within(root, one));
  };
  for (const one of all) {
    if (roots.some((root) => root.pid === one.pid && within(root, one))) found.set(one.pid, one);
  }
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const one of all) if (!found.has(one.pid) && one.pid !== process.pid && isChild(one)) found.set(one.pid, one);
  }
  return [...found.values()].sort((a, b) => a.startedAt - b.startedAt || a.pid - b.pid);
}

function within({ startedAt, endedAt }: Root, one: Process): boolean {
  return one.startedAt >= startedAt && one.startedAt <= endedAt;
}

/** 100 ns since 1601, as Windows counts, with room for its clock's grain. */
export function fileTime(slackMs = 0): number {
  return (Date.now() + slackMs + 11_644_473_600_000) * 10_000;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function untilGone(pids: readonly number[], limitMs: number): Promise<void> {
  const end = performance.now() + limitMs;
  for (let waitMs = 10; pids.some(isAlive) && performance.now() < end; waitMs = Math.min(waitMs * 2, 250)) {
    await pause(waitMs, never);
  }
}

interface StopOptions {
  /** Whether the first of `members` still has its console, so that it can be asked to end. */
  readonly polite: boolean;
  readonly graceMs: number;
  readonly limitMs: number;
}

/** CTRL_BREAK, a grace, and then the end, of whole trees at once where `taskkill` can do that. */
export async function stopProcesses(members: readonly Process[], options: StopOptions): Promise<Ended> {
  const pids = members.map((one) => one.pid);
  const [first] = pids;
  if (first === undefined) return { ended: [], killed: [], survived: [] };
  let asked = false;
  if (options.polite && options.graceMs > 0) {
    asked = await sendBreak(first);
    // Where nobody can be asked, there is no reason to wait.
    if (asked) await untilGone(pids, options.graceMs);
  }
  const left = members.filter((one) => isAlive(one.pid));
  for (const { pid } of left) {
    await run("taskkill.exe", ["/F", "/T", "/PID", String(pid)], OPTIONS).catch(() => {});
    try {
      if (isAlive(pid)) process.kill(pid, "SIGKILL");
    } catch {
      // Gone meanwhile, or not ours to end: then it is reported.
    }
  }
  await untilGone(pids, options.limitMs);
  const survived = members.filter((one) => isAlive(one.pid));
  const gone = (one: Process): boolean => !survived.includes(one);
  return { ended: members.filter(gone), killed: asked ? left.filter(gone) : [], survived };
}

/** What locks need: who is alive. A number that went to another process costs a slot's number, no more. */
export const aliveTable: ProcessTable = {
  list: async () => [],
  find: (pid) => (isAlive(pid) ? { pid, parent: 0, group: 0, session: 0, startedAt: 0, name: "" } : null),
  marked: async () => [],
  now: () => 0,
  byNow: () => Infinity,
  bootId: "",
};
