import { execFile } from "node:child_process";
import { readFile, readlink } from "node:fs/promises";
import { promisify } from "node:util";

const execute = promisify(execFile);

/**
 * Names one process over all times of a host: process numbers come again, number, start time and boot together do not.
 * Empty parts are unknown on this platform.
 */
export interface ProcessIdentity {
  readonly pid: number;
  /** Start time in the platform's own words; only ever compared. */
  readonly started: string;
  readonly boot: string;
  /** Linux: the namespace in which `pid` counts. Another container's 1 is not ours. */
  readonly namespace: string;
}

export async function ownIdentity(): Promise<ProcessIdentity> {
  const [started, boot, namespace] = await Promise.all([
    startedAt(process.pid),
    bootId(),
    readlink("/proc/self/ns/pid").catch(() => ""),
  ]);
  return { pid: process.pid, started: started ?? "", boot, namespace };
}

/** Does this process still run? Asked only for identities of the same boot and namespace. */
export async function isAlive({ pid, started }: ProcessIdentity): Promise<boolean> {
  const now = await startedAt(pid);
  return now !== null && (now === "" || started === "" || now === started);
}

/** When the process started; empty if that cannot be told, `null` if there is no such process (or only its zombie). */
async function startedAt(pid: number): Promise<string | null> {
  if (!answersSignals(pid)) return null;
  if (process.platform === "linux") {
    const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "");
    // The command in parentheses may hold spaces and parentheses of its own: count from its end.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z" || fields[0] === "X") return null;
    return fields[19] ?? "";
  }
  if (process.platform === "win32") return "";
  return await ask("ps", ["-o", "lstart=", "-p", String(pid)]);
}

function answersSignals(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it is there, and somebody else's.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** Changes with each start of the machine; empty where the platform has no such thing. */
async function bootId(): Promise<string> {
  if (process.platform === "linux") {
    return (await readFile("/proc/sys/kernel/random/boot_id", "latin1").catch(() => "")).trim();
  }
  if (process.platform === "darwin") return await ask("sysctl", ["-n", "kern.bootsessionuuid"]);
  if (process.platform === "freebsd") return await ask("sysctl", ["-n", "kern.boottime"]);
  return "";
}

async function ask(program: string, args: readonly string[]): Promise<string> {
  try {
    const env = { PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C", TZ: "UTC" };
    return (await execute(program, [...args], { env, timeout: 5000 })).stdout.trim();
  } catch {
    return "";
  }
}
