import { createHash, randomBytes } from "node:crypto";
import { chmod, lstat, mkdir, readdir, rm, stat } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { execa } from "execa";
import { removeTree } from "../../../files/remove-tree.ts";

/** Where `exec` keeps things. All absolute; one run shares nothing with another but the caches. */
export interface ExecPlaces {
  /** Kept from run to run. */
  readonly cachesDir: string;
  /** Directory of all runs, of living and dead processes. */
  readonly runsDir: string;
  /** This run, 0700, removed at its end. */
  readonly runDir: string;
}

export interface RunPlaces {
  readonly stateDir: string;
  readonly buildsDir: string;
  /** The repository that jobs fetch from. */
  readonly sourcesDir: string;
  /** The same as jobs on this machine copy it. */
  readonly templateDir: string;
}

export function placesOfRun(runDir: string): RunPlaces {
  return {
    stateDir: join(runDir, "state"),
    buildsDir: join(runDir, "builds"),
    sourcesDir: join(runDir, "sources.git"),
    templateDir: join(runDir, "sources.template"),
  };
}

/** Distinguishes projects of the same name in different directories, so that they share no caches. From 1 to 2³². */
export function projectIdOf(dir: string): number {
  return Number.parseInt(createHash("sha256").update(dir).digest("hex").slice(0, 8), 16) + 1;
}

/** `$XDG_CACHE_HOME/alloy-runner/exec`, or what the platform has for it. */
function baseOf(env: Readonly<Record<string, string | undefined>>): string {
  const own = join("alloy-runner", "exec");
  // The XDG specification: a relative path is to be ignored.
  if (env.XDG_CACHE_HOME !== undefined && isAbsolute(env.XDG_CACHE_HOME)) return join(env.XDG_CACHE_HOME, own);
  if (process.platform === "win32" && env.LOCALAPPDATA) return join(env.LOCALAPPDATA, own);
  const home = env.HOME || homedir();
  if (home === "" || home === "/") return join(tmpdir(), `alloy-runner-${process.getuid?.() ?? ""}`, "exec");
  return process.platform === "darwin" ? join(home, "Library", "Caches", own) : join(home, ".cache", own);
}

/** Included files that were fetched, for runs without a network. */
export function includesDir(env: Readonly<Record<string, string | undefined>>): string {
  return join(baseOf(env), "includes");
}

/** In a directory that others can write to, others may have put what is found there. */
async function mustBeOwn(dir: string): Promise<void> {
  await mkdir(dir, { mode: 0o700 }).catch(() => undefined); // the directory exists, or the check below says what is wrong
  const found = await lstat(dir);
  const uid = process.getuid?.();
  if (!found.isDirectory() || (uid !== undefined && (found.uid !== uid || (found.mode & 0o022) !== 0))) {
    throw new Error(`${dir} was made by somebody else; set HOME or XDG_CACHE_HOME to a directory of your own`);
  }
}

/** Make the directories of a new run. Rejects with what the system said. */
export async function openPlaces(env: Readonly<Record<string, string | undefined>>): Promise<ExecPlaces> {
  const base = baseOf(env);
  if (base.startsWith(join(tmpdir(), "alloy-runner-"))) await mustBeOwn(dirname(base));
  const cachesDir = join(base, "caches");
  const runsDir = join(base, "runs");
  const runDir = join(runsDir, `${process.pid}-${randomBytes(4).toString("hex")}`);
  await mkdir(cachesDir, { recursive: true, mode: 0o700 });
  await mkdir(runsDir, { recursive: true, mode: 0o700 });
  await mkdir(runDir, { mode: 0o700 });
  const places = placesOfRun(runDir);
  for (const dir of [places.buildsDir, places.sourcesDir]) await mkdir(dir, { mode: 0o700 });
  return { cachesDir, runsDir, runDir };
}

/** A run whose process exists gets this much time to take its state directory. */
const STARTING_MS = 60_000;

/** Runs beside `runDir`; whether they are dead shows when one tries to take their state directory. */
export async function otherRuns({ runsDir, runDir }: ExecPlaces): Promise<string[]> {
  const names = await readdir(runsDir).catch(() => []);
  const others: string[] = [];
  for (const name of names) {
    const dir = join(runsDir, name);
    const made = dir === runDir ? null : await stat(dir).catch(() => null);
    if (made === null) continue;
    const starting = Date.now() - made.birthtimeMs < STARTING_MS && isThere(Number.parseInt(name, 10));
    if (!starting) others.push(dir);
  }
  return others;
}

function isThere(pid: number): boolean {
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // The process exists, and belongs to somebody else.
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** Removes directories that a job has made read-only, too, as package managers do. */
export async function removeJobFiles(dir: string): Promise<void> {
  try {
    await removeTree(dir);
  } catch {
    await chmod(dir, 0o700).catch(() => undefined);
    await execa("chmod", ["-R", "u+rwX", "--", dir], { reject: false, stdio: "ignore" });
    await rm(dir, { recursive: true, force: true, maxRetries: 3 });
  }
}
