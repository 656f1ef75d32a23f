import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const top = join(import.meta.dirname, "../..");

/** The built binary for this machine, or with `RUNTIME=node` the bundle under Node. Tests never run the sources. */
export function program(runtime: "binary" | "node" = "binary"): readonly [string, ...string[]] {
  if (runtime === "node") return [process.execPath, built("dist/alloy-runner.mjs")];
  return [built(`out/alloy-runner-${process.platform}-${process.arch}`)];
}

function built(path: string): string {
  const file = join(top, path);
  if (!existsSync(file)) throw new Error(`${path} is not built: run "npm run binary" first`);
  return file;
}

/** An empty directory with a user's home, temporary files and state. Removed by `dispose`. */
export async function emptyHome(): Promise<{ dir: string; dispose(): Promise<void> }> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-e2e-"));
  return { dir, dispose: () => rm(dir, { recursive: true, force: true }) };
}

export interface StartOptions {
  readonly home: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly cwd?: string;
  readonly runtime?: "binary" | "node";
  /** A command that starts the program: `["prlimit", "--nofile=64"]`. */
  readonly under?: readonly string[];
}

export interface Running {
  readonly pid: number;
  readonly child: ChildProcess;
  readonly stdout: () => string;
  readonly stderr: () => string;
  /** Resolves with the match once stdout or stderr has one; rejects when the program ends without it. */
  seen(pattern: RegExp, options?: { timeoutMs?: number; from?: number }): Promise<RegExpExecArray>;
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Sends a signal and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
}

/** Only these variables of the test's environment reach the program. */
function cleanEnvironment({ home, env }: StartOptions): Record<string, string> {
  return { PATH: process.env.PATH ?? "/usr/bin:/bin", HOME: home, TMPDIR: home, LANG: "C.UTF-8", ...env };
}

export function start(args: readonly string[], options: StartOptions): Running {
  const [command, ...rest] = [...(options.under ?? []), ...program(options.runtime)];
  if (command === undefined) throw new Error("nothing to start");
  const child = spawn(command, [...rest, ...args], {
    cwd: options.cwd ?? options.home,
    env: cleanEnvironment(options),
    stdio: ["pipe", "pipe", "pipe"],
  });
  child.stdin.on("error", () => {});
  child.stdin.end(options.stdin ?? "");
  let out = "";
  let err = "";
  const listeners = new Set<() => void>();
  const tell = (): void => {
    for (const listener of [...listeners]) listener();
  };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
    tell();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
    tell();
  });
  let ended = false;
  const exit = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      ended = true;
      tell();
      resolve({ code, signal });
    });
  });
  exit.catch(() => {});
  return {
    pid: child.pid ?? -1,
    child,
    stdout: () => out,
    stderr: () => err,
    exit,
    seen(pattern, { timeoutMs = 30_000, from = 0 } = {}) {
      return new Promise((resolve, reject) => {
        const look = (): void => {
          const match = pattern.exec(err.slice(from)) ?? pattern.exec(out.slice(from));
          if (match) done(() => resolve(match));
          else if (ended) done(() => reject(new Error(`ended without ${pattern}\n${out}\n${err}`)));
        };
        const timer = setTimeout(
          () => done(() => reject(new Error(`no ${pattern} in time\n${out}\n${err}`))),
          timeoutMs,
        );
        const done = (settle: () => void): void => {
          clearTimeout(timer);
          listeners.delete(look);
          settle();
        };
        listeners.add(look);
        look();
      });
    },
    async stop(signal = "SIGTERM") {
      if (!ended) child.kill(signal);
      return await exit;
    },
  };
}

/** Runs the program to its end. */
export async function runProgram(
  args: readonly string[],
  options: StartOptions,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const running = start(args, options);
  const { code } = await running.exit;
  return { code, stdout: running.stdout(), stderr: running.stderr() };
}

/** Arguments that register a runner of the shell executor without a question. */
export function registering(
  { config, url, token }: { readonly config: string; readonly url: string; readonly token: string },
  ...more: readonly string[]
): string[] {
  return ["register", "-n", "-c", config, "-u", url, "-r", token, "--executor", "shell", ...more];
}
