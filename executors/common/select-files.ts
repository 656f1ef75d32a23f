import { createHash } from "node:crypto";
import { describeError } from "../../src/errors.ts";
import { type FileList, type FileName, type FileSelection, fileName, fileNameText } from "../../src/workspace.ts";
import { expandBraces, fitsPath, parseSegment, type Segment } from "./glob.ts";
import { compareBytes, pathOf } from "./paths.ts";

/** What is known of one thing in a checkout. */
export interface FoundFile {
  readonly kind: "file" | "directory" | "symlink";
  readonly size: number;
  readonly mode: number;
  readonly mtimeMs: number;
}

/** What patterns mean, by paths relative to the checkout. */
export interface Found {
  readonly files: ReadonlyMap<string, FoundFile>;
  /** Sockets, pipes, devices: left out. */
  readonly special: readonly string[];
}

/** Looks into a checkout, wherever it is. A link is never gone through. */
export interface FileSource {
  /** Things that fit; of a directory that fits, all that is in it. One answer for each pattern. */
  find(patterns: readonly (readonly (readonly Segment[])[])[]): Promise<readonly Found[]>;
  /** What git does not know, and all that is in it. */
  untracked(): Promise<Found>;
  /** Where links lead; one that cannot be read is not in the answer. */
  targets(links: readonly FileName[]): Promise<ReadonlyMap<string, string>>;
}

/** Longest list of warnings of one kind. */
const MOST_WARNINGS = 20;

interface Pattern {
  readonly shown: string;
  /** Alternatives that lie in the project. */
  readonly inside: readonly (readonly Segment[])[];
  readonly warnings: readonly string[];
}

/** `WorkspaceFiles.list` over any source. `root` is the checkout, absolute. */
export async function selectFiles(
  root: string,
  select: FileSelection,
  source: FileSource,
  signal: AbortSignal,
): Promise<FileList> {
  const top = pathOf(root);
  const found = new Map<string, FoundFile>();
  const [notes, warnings]: [string[], string[]] = [[], []];
  let special = 0;
  const take = (its: Found): void => {
    for (const path of its.special) {
      if (special++ < MOST_WARNINGS)
        warnings.push(`${fileNameText(path)} is a socket, a pipe or a device: it is left out.`);
    }
    for (const [path, file] of its.files) found.set(path, file);
  };

  const patterns = select.globs.map((glob) => parsePattern(glob, root, top));
  const answers = await source.find(patterns.map((pattern) => pattern.inside));
  for (const [index, { shown, inside, warnings: its }] of patterns.entries()) {
    warnings.push(...its);
    const answer = answers[index];
    if (answer === undefined || inside.length === 0) continue;
    take(answer);
    if (answer.files.size > 0) notes.push(`${shown}: found ${answer.files.size} matching files and directories.`);
    else if (its.length === 0) warnings.push(`${shown}: no matching files.`);
  }
  if (select.untracked) {
    try {
      const answer = await source.untracked();
      take(answer);
      notes.push(`untracked: found ${answer.files.size} files.`);
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
  const links = paths.filter((path) => found.get(path)?.kind === "symlink");
  const targets = links.length === 0 ? new Map<string, string>() : await source.targets(links);
  return { paths, ...fingerprintOf(paths, found, targets), notes, warnings };
}

function parsePattern(glob: string, root: string, top: string): Pattern {
  if (glob.trim() === "") return { shown: "", inside: [], warnings: ["A path is empty: it is left out."] };
  const pattern = pathOf(glob);
  const shown = fileNameText(pattern);
  const texts = expandBraces(pattern);
  if (texts === null) {
    return { shown, inside: [], warnings: [`${shown}: a pattern with so many alternatives is not used.`] };
  }
  const warnings: string[] = [];
  const inside = texts.flatMap((text) => {
    const segments = insideOf(top, text);
    if (segments !== null) return [segments];
    warnings.push(`${fileNameText(text)} is outside of the project (${root}): it is left out.`);
    return [];
  });
  return { shown, inside, warnings };
}

/**
 * Segments below `top` of a pattern that is absolute or relative to it; `null` if it leaves. What a segment is counts, not how
 * it is written: `\.\.` is `..`, too.
 */
function insideOf(top: string, pattern: string): Segment[] | null {
  const found: { readonly text: string; readonly segment: Segment }[] = [];
  for (const text of (pattern.startsWith("/") ? pattern : `${top}/${pattern}`).split("/")) {
    const segment = parseSegment(text);
    const name = segment.kind === "literal" ? segment.name : null;
    if (name === "..") found.pop();
    else if (name !== "" && name !== ".") found.push({ text, segment });
  }
  const above = top.split("/").filter((name) => name !== "");
  return above.every((name, index) => found[index]?.text === name)
    ? found.slice(above.length).map(({ segment }) => segment)
    : null;
}

/** Take away what an exclude pattern fits. @returns pattern and number, for those that fit something */
function exclude(found: Map<string, FoundFile>, patterns: readonly string[], top: string): [string, number][] {
  const counts: [string, number][] = [];
  for (const pattern of patterns) {
    let count = 0;
    for (const text of expandBraces(pathOf(pattern)) ?? []) {
      const segments = insideOf(top, text);
      if (segments === null || segments.length === 0) continue;
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

function fingerprintOf(
  paths: readonly FileName[],
  found: ReadonlyMap<string, FoundFile>,
  targets: ReadonlyMap<string, string>,
): Pick<FileList, "bytes" | "fingerprint" | "unpackedFingerprint"> {
  const hash = createHash("sha256");
  const unpacked = createHash("sha256");
  let bytes = 0;
  for (const path of paths) {
    const its = found.get(path);
    if (its === undefined) continue;
    if (its.kind === "file") bytes += its.size;
    // The time of a directory tells only that something came or went, which the names tell better.
    const facts = (mtimeMs: number): string =>
      its.kind === "directory"
        ? "d"
        : its.kind === "symlink"
          ? `l${targets.get(path) ?? "?"}`
          : `f${its.size} ${mtimeMs}`;
    hash.update(`${path}\0${facts(its.mtimeMs)}\0${its.mode & 0o7777}\0`, "latin1");
    const wholeMs = Math.max(0, Math.floor(its.mtimeMs / 1000)) * 1000;
    unpacked.update(`${path}\0${facts(wholeMs)}\0${its.mode & 0o777}\0`, "latin1");
  }
  return { bytes, fingerprint: hash.digest("hex"), unpackedFingerprint: unpacked.digest("hex") };
}
