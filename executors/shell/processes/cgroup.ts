import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { never, pause } from "../../../src/time.ts";

/**
 * A control group of one script: the kernel's own list of everything the script started, which neither a new session
 * nor an empty environment leads out of.
 */
export interface Cgroup {
  readonly dir: string;
  /** A process that writes `0` into this file is in from then on, with everything that it starts. */
  readonly door: string;
  /** Pids in it and below it. */
  pids(): number[];
  /** End all of them in one step, however fast they fork. False where the kernel cannot (before 5.14). */
  kill(): boolean;
  /** Remove it; false while somebody is in it. */
  remove(): boolean;
}

export interface Cgroups {
  /** Directory that scripts' groups are made in. */
  readonly base: string;
  /** `null`: not possible (any more). `name` is one path segment. */
  create(name: string): Cgroup | null;
  /** One that was made before; `null`: it is not there. */
  find(name: string): Cgroup | null;
  /** Groups made by whomever, whose names begin with `prefix`. */
  existing(prefix: string): Cgroup[];
}

function attempt(body: () => void): boolean {
  try {
    body();
    return true;
  } catch {
    return false;
  }
}

function readPids(dir: string): number[] {
  let text: string;
  try {
    text = readFileSync(join(dir, "cgroup.procs"), "latin1");
  } catch {
    return [];
  }
  const own = text.split("\n").flatMap((line) => (line === "" || line === "0" ? [] : Number(line)));
  return [...own, ...childrenOf(dir).flatMap((child) => readPids(child))];
}

function childrenOf(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? join(dir, entry.name) : [],
    );
  } catch {
    return [];
  }
}

function removeTree(dir: string): boolean {
  for (const child of childrenOf(dir)) removeTree(child);
  return attempt(() => rmdirSync(dir));
}

function openCgroup(dir: string): Cgroup {
  return {
    dir,
    door: join(dir, "cgroup.procs"),
    pids: () => {
      try {
        // One small read answers for the whole tree in the usual case.
        if (readFileSync(join(dir, "cgroup.events"), "latin1").includes("populated 0")) return [];
      } catch {
        return [];
      }
      return readPids(dir);
    },
    // Not created where it does not exist: cgroupfs refuses new files.
    kill: () => attempt(() => writeFileSync(join(dir, "cgroup.kill"), "1", { flag: "r+" })),
    remove: () => attempt(() => rmdirSync(dir)) || removeTree(dir),
  };
}

/** Remove a group whose last process has been reaped, which the kernel may hear of a moment later. */
export async function removeSoon(cgroup: Cgroup): Promise<boolean> {
  for (let tries = 0; tries < 10; tries++) {
    if (cgroup.remove()) return true;
    await pause(10, never);
  }
  return false;
}

/** What a runner that was killed while it removed a job has left of its groups; whatever has processes stays. */
export function removeGroups(cgroups: Cgroups | null, prefix: string): void {
  for (const cgroup of cgroups?.existing(prefix) ?? []) cgroup.remove();
}

/** The place below `base` for groups of scripts. */
export function openCgroups(base: string): Cgroups {
  return {
    base,
    create: (name) => {
      const dir = join(base, name);
      return attempt(() => mkdirSync(dir)) ? openCgroup(dir) : null;
    },
    find: (name) => (existsSync(join(base, name)) ? openCgroup(join(base, name)) : null),
    existing: (prefix) =>
      childrenOf(base).flatMap((dir) => (dir.startsWith(join(base, prefix)) ? openCgroup(dir) : [])),
  };
}

/** The cgroup (version 2) that this process is in, as a directory; `null` where there is none. */
function ownCgroup(): string | null {
  try {
    const path = /^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1];
    // `36 35 98:0 /root /mount/point options … - cgroup2 …`
    const mount = /^\S+ \S+ \S+ (\S+) (\S+) .* - cgroup2 /m.exec(readFileSync("/proc/self/mountinfo", "utf8"));
    const [, root = "", point = ""] = mount ?? [];
    if (path === undefined || mount === null || (root !== "/" && !path.startsWith(root))) return null;
    const dir = join(point, root === "/" ? path : path.slice(root.length));
    return readFileSync(join(dir, "cgroup.procs"), "latin1").split("\n").includes(String(process.pid)) ? dir : null;
  } catch {
    return null;
  }
}

const PROBE = "alloy-probe-";
const OLD_MS = 60_000;

/** A runner that was killed while it looked whether it can make groups has left one. */
function removeOldProbes(base: string): void {
  for (const dir of childrenOf(base)) {
    if (!dir.startsWith(join(base, PROBE))) continue;
    attempt(() => {
      if (Date.now() - statSync(dir).mtimeMs > OLD_MS) rmdirSync(dir);
    });
  }
}

/** Groups below the runner's own; `null` where it may make none: no root, no delegation, a read-only mount. */
export async function findCgroups(): Promise<Cgroups | null> {
  const base = ownCgroup();
  if (base === null) return null;
  const cgroups = openCgroups(base);
  removeOldProbes(base);
  const name = `${PROBE}${randomUUID()}`;
  const probe = cgroups.create(name);
  if (probe === null) return null;
  // An empty group is taken as proof that nothing is left, so entering it must be known to work.
  const entered = await promisify(execFile)("/bin/sh", [
    "-c",
    'echo 0 >"$0" && cat /proc/self/cgroup',
    probe.door,
  ]).then(
    ({ stdout }) => stdout.includes(`/${name}\n`),
    () => false,
  );
  await removeSoon(probe);
  return entered ? cgroups : null;
}
