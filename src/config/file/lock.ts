import { randomUUID } from "node:crypto";
import { link, open, readFile, rename, stat, unlink } from "node:fs/promises";
import { hostname } from "node:os";
import { ConfigError } from "../../errors.ts";
import { deadline, pause } from "../../time.ts";
import { errorCode } from "../error-code.ts";

/** One file, one writer, over processes. */
export interface FileLock extends AsyncDisposable {
  /** Is it still ours? Another process may have taken it for a dead one's. */
  held(): Promise<boolean>;
}

export interface LockOptions {
  /** How long others are waited for, ms. */
  readonly patienceMs?: number;
}

/** A holder needs milliseconds. Where it cannot be asked whether it lives, this long without release means it is dead. */
const STALE_MS = 60_000;
/** Between making the file and filling it there is nothing but a crash. */
const EMPTY_STALE_MS = 5000;

/**
 * Hold the lock file `path`, whose directory must exist. A lock of a process that is gone is taken over.
 * @throws {ConfigError} the file cannot be made, or somebody held it for longer than `patienceMs` (30 s)
 */
export async function lockFile(path: string, options: LockOptions, signal: AbortSignal): Promise<FileLock> {
  const { patienceMs = 30_000 } = options;
  const mine = JSON.stringify({
    pid: process.pid,
    started: await startTime(process.pid),
    host: hostname(),
    id: randomUUID(),
  });
  using limit = deadline(signal, patienceMs, new Error("held by another"));
  while (!(await take(path, mine))) {
    await breakStale(path);
    try {
      await pause(5 + Math.random() * 30, limit.signal);
    } catch (error) {
      if (signal.aborted) throw error;
      const holder = parseOwner((await contents(path)) ?? "")?.pid;
      const who = holder === undefined ? "another process" : `process ${holder}`;
      throw new ConfigError(
        `${path} has been held by ${who} for ${patienceMs / 1000} s. If that one is not at work on the configuration, remove the file and try again`,
        { file: path },
      );
    }
  }
  const held = async (): Promise<boolean> => (await contents(path)) === mine;
  return {
    held,
    async [Symbol.asyncDispose]() {
      if (await held()) await unlink(path).catch(() => {});
    },
  };
}

/** @returns false when somebody else has it */
async function take(path: string, mine: string): Promise<boolean> {
  try {
    const handle = await open(path, "wx", 0o600);
    try {
      await handle.writeFile(mine);
    } catch (error) {
      await unlink(path).catch(() => {});
      throw error;
    } finally {
      await handle.close();
    }
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    const text = `cannot make the lock file ${path} (${errorCode(error)}). The directory must be writable and its disk not full`;
    throw new ConfigError(text, { file: path, cause: error });
  }
}

async function breakStale(path: string): Promise<void> {
  const seen = await contents(path);
  if (seen === null || !(await isStale(path, seen))) return;
  // Renamed first: of several that want to take over, one gets the file, and sees whether it is still the stale one.
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch {
    return; // another was quicker
  }
  if ((await contents(aside)) !== seen) await link(aside, path).catch(() => {});
  await unlink(aside).catch(() => {});
}

async function isStale(path: string, text: string): Promise<boolean> {
  const age = await stat(path).then(
    (stats) => Date.now() - stats.mtimeMs,
    () => 0,
  );
  const owner = parseOwner(text);
  if (owner === undefined) return age > EMPTY_STALE_MS;
  // A name that another host, or a container with numbers of its own, gave itself.
  if (owner.host !== hostname()) return age > STALE_MS;
  if (!isAlive(owner.pid)) return true;
  const started = await startTime(owner.pid);
  return started === "" || owner.started === "" ? age > STALE_MS : started !== owner.started;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) !== "ESRCH";
  }
}

/** What tells a process from a later one with its number; empty where /proc does not say. */
async function startTime(pid: number): Promise<string> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    // The name in parentheses may hold blanks and parentheses itself.
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}

async function contents(path: string): Promise<string | null> {
  return readFile(path, "utf8").catch(() => null);
}

function parseOwner(text: string): { pid: number; started: string; host: string } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return undefined;
    if (!("pid" in value && "started" in value && "host" in value)) return undefined;
    const { pid, started, host } = value;
    if (typeof pid !== "number" || !Number.isSafeInteger(pid) || pid <= 0) return undefined;
    return { pid, started: String(started), host: String(host) };
  } catch {
    return undefined;
  }
}
