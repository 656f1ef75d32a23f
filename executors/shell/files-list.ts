import { createHash } from "node:crypto";
import type { Stats } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { describeError, SystemFailure } from "../../src/errors.ts";
import { type FileList, type FileName, type FileSelection, fileName, fileNameText } from "../../src/workspace.ts";
import { expandBraces, fitsPath, fitsSegment, parseSegment, type Segment } from "../common/glob.ts";
import { below, bytesOf, inParallel, isMissing, pathOf } from "./files-path.ts";

export interface ListHost {
  /** The checkout, absolute. */
  readonly root: string;
  /** What git does not know, relative to the checkout; a nested repository ends with a slash. */
  untracked(signal: AbortSignal): Promise<readonly string[]>;
}

/** Calls to the file system at once. */
const WIDTH = 16;
/** Longest list of warnings of one kind. */
const MOST_WARNINGS = 20;

/** `WorkspaceFiles.list` on this machine. */
export async function listFiles(
  { root, untracked }: ListHost,
  select: FileSelection,
  signal: AbortSignal,
): Promise<FileList> {
  const top = pathOf(root);
  const found = new Map<string, Stats>();
  const [notes, warnings]: [string[], string[]] = [[], []];
  let special = 0;
  const at = (path: string): Buffer => bytesOf(path === "" ? top : `${top}/${path}`);

  const look = async (path: string): Promise<Stats | null> =>
    await lstat(at(path)).catch((error: unknown) => {
      if (isMissing(error)) return null;
      throw unreadable(path, error);
    });
  const namesIn = async (path: string): Promise<FileName[]> => {
    signal.throwIfAborted();
    const names = await readdir(at(path), { encoding: "buffer" }).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw unreadable(path, error);
    });
    return names.map((name) => fileName(name));
  };
  /** A thing and, for a directory, all that is in it. @returns how many */
  const add = async (path: string, stats: Stats, into: Map<string, Stats>): Promise<void> => {
    if (into.has(path)) return;
    if (!stats.isFile() && !stats.isDirectory() && !stats.isSymbolicLink()) {
      if (special++ < MOST_WARNINGS)
        warnings.push(`${fileNameText(path)} is a socket, a pipe or a device: it is left out.`);
      return;
    }
    if (path !== "") into.set(path, stats);
    if (!stats.isDirectory()) return;
    await inParallel(await namesIn(path), WIDTH, async (name) => {
      const inside = below(path, name);
      const its = await look(inside);
      if (its !== null) await add(inside, its, into);
    });
  };

  const addPattern = async (pattern: string): Promise<void> => {
    const texts = expandBraces(pathOf(pattern));
    if (texts === null) {
      warnings.push(`${fileNameText(pathOf(pattern))}: a pattern with so many alternatives is not used.`);
      return;
    }
    const matched = new Map<string, Stats>();
    let refused = false;
    for (const text of texts) {
      const inside = insideOf(top, text);
      if (inside === null) {
        warnings.push(`${fileNameText(text)} is outside of the project (${root}): it is left out.`);
        refused = true;
        continue;
      }
      await expand("", inside.map(parseSegment), { look, namesIn, at: (path, stats) => add(path, stats, matched) });
    }
    for (const [path, stats] of matched) found.set(path, stats);
    const shown = fileNameText(pathOf(pattern));
    if (matched.size === 0 && refused) return;
    if (matched.size === 0) warnings.push(`${shown}: no matching files.`);
    else notes.push(`${shown}: found ${matched.size} matching files and directories.`);
  };

  for (const glob of select.globs) {
    if (glob.trim() === "") warnings.push("A path is empty: it is left out.");
    else await addPattern(glob);
  }
  if (select.untracked) {
    try {
      const names = await untracked(signal);
      const matched = new Map<string, Stats>();
      await inParallel(names, WIDTH, async (name) => {
        const path = name.replace(/\/+$/, "");
        const stats = await look(path);
        if (stats !== null) await add(path, stats, matched);
      });
      for (const [path, stats] of matched) found.set(path, stats);
      notes.push(`untracked: found ${matched.size} files.`);
    } catch (error) {
      signal.throwIfAborted();
      warnings.push(`Untracked files cannot be listed: ${describeError(error)}.`);
    }
  }

  const excluded = exclude(found, select.exclude, top);
  for (const [pattern, count] of excluded) notes.push(`${pattern}: excluded ${count} files.`);
  if (special > MOST_WARNINGS) warnings.push(`${special} special files in all are left out.`);
  const paths = [...found.keys()].sort(compareBytes).map((path) => fileName(path));
  if (paths.some((path) => path === ".git" || path.startsWith(".git/"))) {
    warnings.push("The .git directory, or a part of it, is among the files; it may hold credentials.");
  }
  const summary = await fingerprintOf(paths, found, at);
  return { paths, ...summary, notes, warnings };
}

function unreadable(path: string, cause: unknown): SystemFailure {
  return new SystemFailure(`Cannot read ${path === "" ? "the checkout" : fileNameText(path)}`, { cause });
}

export function compareBytes(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Segments below `top` of a pattern that is absolute or relative to it; `null` if it leaves. */
function insideOf(top: string, pattern: string): string[] | null {
  const segments: string[] = [];
  for (const segment of (pattern.startsWith("/") ? pattern : `${top}/${pattern}`).split("/")) {
    if (segment === "..") segments.pop();
    else if (segment !== "" && segment !== ".") segments.push(segment);
  }
  const above = top.split("/").filter((segment) => segment !== "");
  return above.every((segment, index) => segments[index] === segment) ? segments.slice(above.length) : null;
}

interface Expansion {
  look(path: string): Promise<Stats | null>;
  namesIn(path: string): Promise<readonly FileName[]>;
  at(path: string, stats: Stats): Promise<void>;
}

/** Find what a pattern means, one directory at a time; a link is never gone through. */
async function expand(start: string, segments: readonly Segment[], { look, namesIn, at }: Expansion): Promise<void> {
  const seen = new Set<string>();
  const visit = async (path: string, index: number): Promise<void> => {
    // With several `**` there are many ways to the same place.
    const key = `${index}/${path}`;
    if (seen.has(key)) return;
    seen.add(key);
    const segment = segments[index];
    const stats = await look(path);
    if (stats === null) return;
    if (segment === undefined) {
      await at(path, stats);
      return;
    }
    if (!stats.isDirectory()) return;
    if (segment.kind === "literal") {
      await visit(below(path, segment.name), index + 1);
      return;
    }
    const last = segment.kind === "any depth" && index === segments.length - 1;
    if (last) {
      await at(path, stats);
      return;
    }
    if (segment.kind === "any depth") await visit(path, index + 1);
    await inParallel(await namesIn(path), WIDTH, async (name) => {
      if (!fitsSegment(segment, name)) return;
      await visit(below(path, name), segment.kind === "any depth" ? index : index + 1);
    });
  };
  await visit(start, 0);
}

/** Take away what an exclude pattern fits. @returns pattern and number, for those that fit something */
function exclude(found: Map<string, Stats>, patterns: readonly string[], top: string): [string, number][] {
  const counts: [string, number][] = [];
  for (const pattern of patterns) {
    let count = 0;
    for (const text of expandBraces(pathOf(pattern)) ?? []) {
      const inside = insideOf(top, text);
      if (inside === null || inside.length === 0) continue;
      const segments = inside.map(parseSegment);
      for (const path of found.keys()) {
        if (!fitsPath(segments, path.split("/"))) continue;
        found.delete(path);
        count++;
      }
    }
    if (count > 0) counts.push([fileNameText(pathOf(pattern)), count]);
  }
  return counts;
}

async function fingerprintOf(
  paths: readonly FileName[],
  stats: ReadonlyMap<string, Stats>,
  at: (path: string) => Buffer,
): Promise<Pick<FileList, "bytes" | "fingerprint" | "unpackedFingerprint">> {
  const targets = new Map<string, string>();
  await inParallel(paths, WIDTH, async (path) => {
    if (stats.get(path)?.isSymbolicLink() !== true) return;
    const target = await readlink(at(path), { encoding: "buffer" }).catch(() => Buffer.from("?"));
    targets.set(path, target.toString("latin1"));
  });
  const hash = createHash("sha256");
  const unpacked = createHash("sha256");
  let bytes = 0;
  for (const path of paths) {
    const its = stats.get(path);
    if (its === undefined) continue;
    const target = targets.get(path);
    if (its.isFile()) bytes += its.size;
    // The time of a directory tells only that something came or went, which the names tell better.
    const facts = (mtimeMs: number): string =>
      its.isDirectory() ? "d" : target === undefined ? `f${its.size} ${mtimeMs}` : `l${target}`;
    hash.update(`${path}\0${facts(its.mtimeMs)}\0${its.mode & 0o7777}\0`, "latin1");
    const wholeMs = Math.max(0, Math.floor(its.mtimeMs / 1000)) * 1000;
    unpacked.update(`${path}\0${facts(wholeMs)}\0${its.mode & 0o777}\0`, "latin1");
  }
  return { bytes, fingerprint: hash.digest("hex"), unpackedFingerprint: unpacked.digest("hex") };
}
