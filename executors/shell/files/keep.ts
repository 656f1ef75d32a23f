import { createHash, randomBytes } from "node:crypto";
import { type BigIntStats, lstatSync } from "node:fs";
import { lstat, mkdir, readdir, rename, rmdir, statfs } from "node:fs/promises";
import { createTurns, pause } from "../../../src/time.ts";
import { type FileKeeping, type FileName, type KeptFiles, MOST_ENTRIES } from "../../../src/workspace.ts";
import { below, compareBytes, parentOf, pathOf } from "../../common/files/paths.ts";
import { isOfGit } from "../../common/files/placed.ts";
import { bytesOf } from "./paths.ts";
import { removeTree } from "./unpack.ts";

/**
 * Which file systems change a file's `ctime`, which nobody can set, with everything that changes the file: ext4, XFS and btrfs.
 * Memory that is mapped is the hard part: on tmpfs a file that was read before is written to without a trace.
 */
const TELLING: ReadonlySet<number> = new Set([0xef53, 0x58465342, 0x9123683e]);

/** Changes within one tick of the kernel's clock, of which the longest has 10 ms, have one time. */
const TICK_MS = 12n;

/** Files of a job of this process's account, from one job to the next. */
export function keepingAt(places: { readonly root: string; readonly tmpDir: string }): FileKeeping {
  const [root, tmpDir] = [pathOf(places.root), pathOf(places.tmpDir)];
  return {
    place: places.root,
    async record({ placed: names = [] }, signal) {
      if (names.length === 0 || names.some(isOfGit) || !(await isTelling(root))) return null;
      const tops = names.map((name) => below(root, name));
      const seen = await look(root, tops, MOST_ENTRIES, signal).catch(() => null);
      signal.throwIfAborted();
      if (seen === null || !(await isPast(seen.newest, signal))) return null;
      const { states, inside, entries } = seen;
      return { tops: names.map((name, index) => ({ name, state: states[index] ?? "" })), inside, entries, aside: null };
    },
    async setAside(kept, signal) {
      for (const { name, state } of kept.tops) {
        if (!(await isWithinDirectories(root, name)) || stateAt(below(root, name)) !== state) return null;
      }
      signal.throwIfAborted();
      const aside = below(tmpDir, `kept-${randomBytes(8).toString("hex")}`);
      try {
        await mkdir(bytesOf(tmpDir), { recursive: true, mode: 0o700 });
        if (!(await lstat(bytesOf(tmpDir))).isDirectory()) return null;
        await mkdir(bytesOf(aside), { mode: 0o700 });
        for (const [index, { name }] of kept.tops.entries()) {
          await rename(bytesOf(below(root, name)), bytesOf(below(aside, String(index))));
        }
        const its = await moved(kept, aside, (_, index) => below(aside, String(index)), signal);
        if (its !== null) return its;
      } catch {
        signal.throwIfAborted();
      }
      await remove(aside);
      return null;
    },
    async putBack(kept, signal) {
      const { aside } = kept;
      if (aside === null) return null;
      try {
        const from = (index: number): FileName => below(aside, String(index));
        if (!(await isTelling(aside))) return null;
        const tops = kept.tops.map((_, index) => from(index));
        const seen = await look(aside, tops, kept.entries, signal);
        if (seen === null || seen.inside !== kept.inside) return null;
        if (kept.tops.some(({ state }, index) => seen.states[index] !== state)) return null;
        for (const { name } of kept.tops) {
          if (!(await isWithinDirectories(root, name)) || stateAt(below(root, name)) !== null) return null;
        }
        for (const [index, { name }] of kept.tops.entries())
          await rename(bytesOf(from(index)), bytesOf(below(root, name)));
        return await moved(kept, null, (name) => below(root, name), signal);
      } catch {
        signal.throwIfAborted();
        return null;
      } finally {
        await remove(aside);
      }
    },
    async drop({ aside }) {
      if (aside !== null) await remove(aside);
    },
  };
}

async function remove(aside: string): Promise<void> {
  await rmdir(bytesOf(aside))
    .catch(() => removeTree(aside))
    .catch(() => {}); // it lies where all is removed with the job
}

async function isTelling(path: string): Promise<boolean> {
  return await statfs(bytesOf(path)).then(
    ({ type }) => TELLING.has(type),
    () => false,
  );
}

/** No part of the way to it leads elsewhere. */
async function isWithinDirectories(root: string, name: string): Promise<boolean> {
  for (let inside = parentOf(name); ; inside = parentOf(inside)) {
    const found = await lstat(bytesOf(inside === "" ? root : below(root, inside))).catch(() => null);
    if (found?.isDirectory() !== true) return false;
    if (inside === "") return true;
  }
}

/** Whether each later change gets a later time than this; waits until it is so. A time of the future was not set by this clock. */
async function isPast(newestNs: bigint, signal: AbortSignal): Promise<boolean> {
  const leftMs = newestNs / 1_000_000n + TICK_MS - BigInt(Date.now());
  if (leftMs > TICK_MS) return false;
  if (leftMs > 0n) await pause(Number(leftMs), signal);
  return true;
}

/** Being moved is a change of what was moved, and of nothing in it. */
async function moved(
  kept: KeptFiles,
  aside: string | null,
  placeOf: (name: FileName, index: number) => FileName,
  signal: AbortSignal,
): Promise<KeptFiles | null> {
  let newest = 0n;
  const tops = kept.tops.map(({ name }, index) => {
    const stats = lstatSync(bytesOf(placeOf(name, index)), { bigint: true });
    if (stats.ctimeNs > newest) newest = stats.ctimeNs;
    return { name, state: stateOf(stats) };
  });
  return (await isPast(newest, signal)) ? { ...kept, tops, aside } : null;
}

function stateAt(path: string): string | null {
  const stats = lstatSync(bytesOf(path), { bigint: true, throwIfNoEntry: false });
  return stats === undefined ? null : stateOf(stats);
}

function stateOf(stats: BigIntStats): string {
  const { dev, ino, mode, nlink, uid, gid, size, mtimeNs, ctimeNs } = stats;
  return [dev, ino, mode, nlink, uid, gid, size, mtimeNs, ctimeNs].join(" ");
}

interface Seen {
  readonly states: readonly string[];
  readonly inside: string;
  readonly entries: number;
  /** Of the times of last change. */
  readonly newest: bigint;
}

/**
 * These and all that is in them, by names and what the system says of each. `null`: there is something of which that would not be
 * all, such as a file with a second name elsewhere, or what is not of the file system of `base`, or there is more than `most`.
 */
async function look(base: string, tops: readonly FileName[], most: number, signal: AbortSignal): Promise<Seen | null> {
  const hash = createHash("sha256");
  const states: string[] = [];
  const turn = createTurns();
  let entries = 0;
  let newest = 0n;
  const device = lstatSync(bytesOf(base), { bigint: true }).dev;
  const take = (path: string): { readonly state: string; readonly isDirectory: boolean } | null => {
    const stats = lstatSync(bytesOf(path), { bigint: true });
    const isDirectory = stats.isDirectory();
    entries++;
    if (stats.ctimeNs > newest) newest = stats.ctimeNs;
    if (stats.dev !== device || entries > most) return null;
    if (!isDirectory && (stats.nlink !== 1n || !(stats.isFile() || stats.isSymbolicLink()))) return null;
    return { state: stateOf(stats), isDirectory };
  };
  const waiting: string[] = [];
  for (const top of tops) {
    const its = take(top);
    if (its === null) return null;
    states.push(its.state);
    if (its.isDirectory) waiting.push(top);
    hash.update("\0\0");
    for (let directory = waiting.pop(); directory !== undefined; directory = waiting.pop()) {
      signal.throwIfAborted();
      const names = (await readdir(bytesOf(directory), { encoding: "buffer" })).map((name) => name.toString("latin1"));
      if (entries + names.length > most) return null;
      let text = `${directory.slice(top.length)}\0`;
      for (const name of names.sort(compareBytes)) {
        const inside = `${directory}/${name}`;
        const found = take(inside);
        if (found === null) return null;
        text += `${name}\0${found.state}\0`;
        if (found.isDirectory) waiting.push(inside);
        await turn();
      }
      hash.update(text, "latin1");
    }
  }
  return { states, inside: hash.digest("hex"), entries, newest };
}
