import { createHash } from "node:crypto";
import { describeError, ScriptFailure } from "../../../src/errors.ts";
import { createTurns } from "../../../src/time.ts";
import {
  createSentences,
  type FileList,
  type FileName,
  type FileSelection,
  fileName,
  fileNameText,
} from "../../../src/workspace.ts";
import { expandBraces, LONGEST_PATTERN, MOST_ALTERNATIVE_CHARACTERS, MOST_ALTERNATIVES } from "./braces.ts";
import type { Found, FoundFile } from "./found.ts";
import { fitsPath, parseSegment, type Segment } from "./glob.ts";
import { pathOf } from "./paths.ts";
import { sortedNames } from "./sort.ts";
import { DEEPEST } from "./unpack-rules.ts";

/** Looks into a checkout, wherever it is. A link is never gone through. */
interface FileSource {
  /** What matches, one answer for each pattern; of a directory that matches, also all that is in it. */
  find(patterns: readonly (readonly (readonly Segment[])[])[]): Promise<readonly Found[]>;
  /** What git does not know, and all that is in it. */
  untracked(): Promise<Found>;
  /** Where links lead; one that cannot be read is not in the answer. */
  targets(links: readonly FileName[]): Promise<ReadonlyMap<string, string>>;
}

interface Pattern {
  readonly shown: string;
  /** Alternatives that lie in the project. */
  readonly inside: readonly (readonly Segment[])[];
  /** What of it asks for too much. */
  readonly unused: readonly string[];
  /** Alternatives that name no file of the project. */
  readonly outside: readonly string[];
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
  const special = createSentences();
  const turn = createTurns();
  const take = async (its: Found): Promise<void> => {
    for (const path of its.special) {
      special.add(`${fileNameText(path)} is a socket, a pipe or a device: it is left out.`);
    }
    for (const [path, file] of its.files) {
      found.set(path, file);
      await turn();
    }
  };

  const parse = patternReader(root, top);
  const patterns = select.globs.map(parse);
  const excludes = select.exclude.map(patternReader(root, top));
  const answers = await source.find(patterns.map((pattern) => pattern.inside));
  for (const [index, { shown, inside, unused, outside }] of patterns.entries()) {
    const its = [...unused, ...outside];
    warnings.push(...its);
    const answer = answers[index];
    if (answer === undefined || inside.length === 0) continue;
    await take(answer);
    if (answer.files.size > 0) notes.push(`${shown}: found ${answer.files.size} matching files and directories.`);
    else if (its.length === 0) warnings.push(`${shown}: no matching files.`);
  }
  if (select.untracked) {
    try {
      const answer = await source.untracked();
      await take(answer);
      notes.push(`untracked: found ${answer.files.size} files.`);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ScriptFailure) throw error;
      warnings.push(`Untracked files cannot be listed: ${describeError(error)}.`);
    }
  }

  for (const { unused } of excludes) warnings.push(...unused);
  for (const [pattern, count] of await exclude(found, excludes, turn, signal)) {
    notes.push(`${pattern}: excluded ${count} files.`);
  }
  warnings.unshift(...special.list);
  const paths: FileName[] = [];
  for (const path of await sortedNames(found.keys())) paths.push(fileName(path));
  if (paths.some((path) => path === ".git" || path.startsWith(".git/"))) {
    warnings.push("The .git directory, or a part of it, is among the files; it may hold credentials.");
  }
  const links = paths.filter((path) => found.get(path)?.kind === "symlink");
  const targets = links.length === 0 ? new Map<string, string>() : await source.targets(links);
  return { paths, ...(await fingerprintOf(paths, found, targets, turn)), notes, warnings };
}

/**
 * Patterns of one list, read one after the other.
 * @throws {ScriptFailure} all of them together stand for more than anybody means
 */
function patternReader(root: string, top: string): (glob: string) => Pattern {
  let [alternatives, characters] = [0, 0];
  return (glob) => {
    if (glob.trim() === "") {
      return { shown: "", inside: [], unused: [], outside: ["A path is empty: it is left out."] };
    }
    const pattern = pathOf(glob);
    const shown = fileNameText(pattern);
    const tooMuch = (why: string): Pattern => ({
      shown,
      inside: [],
      unused: [`${shown}: a pattern ${why} is not used.`],
      outside: [],
    });
    if (pattern.length > LONGEST_PATTERN) return tooMuch(`of more than ${LONGEST_PATTERN} bytes`);
    const texts = expandBraces(pattern);
    if (texts === null) {
      return tooMuch("with so many alternatives");
    }
    alternatives += texts.length;
    characters = texts.reduce((sum, { length }) => sum + length, characters);
    if (alternatives > MOST_ALTERNATIVES || characters > MOST_ALTERNATIVE_CHARACTERS) {
      throw new ScriptFailure(
        `the patterns for files stand for more than ${MOST_ALTERNATIVES} alternatives, or more than ${MOST_ALTERNATIVE_CHARACTERS} characters, together`,
      );
    }
    const [unused, outside] = [createSentences(), createSentences()];
    const inside = texts.flatMap((text) => {
      const segments = insideOf(top, text);
      if (segments === null) outside.add(`${fileNameText(text)} is outside of the project (${root}): it is left out.`);
      else if (segments.length > DEEPEST) {
        unused.add(`${fileNameText(text)}: a pattern of more than ${DEEPEST} segments is not used.`);
      } else return [segments];
      return [];
    });
    return { shown, inside, unused: unused.list, outside: outside.list };
  };
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
async function exclude(
  found: Map<string, FoundFile>,
  patterns: readonly Pattern[],
  turn: () => Promise<void> | undefined,
  signal: AbortSignal,
): Promise<[string, number][]> {
  const counts = new Map<Pattern, number>();
  const meant = patterns.map((pattern) => ({ pattern, ways: pattern.inside.filter(({ length }) => length > 0) }));
  for (const path of meant.length === 0 ? [] : found.keys()) {
    const names = path.split("/");
    for (const { pattern, ways } of meant) {
      signal.throwIfAborted();
      if (ways.some((segments) => fitsPath(segments, names))) {
        found.delete(path);
        counts.set(pattern, (counts.get(pattern) ?? 0) + 1);
        break;
      }
      await turn();
    }
  }
  return patterns.flatMap((pattern) => {
    const count = counts.get(pattern);
    return count === undefined ? [] : [[pattern.shown, count]];
  });
}

async function fingerprintOf(
  paths: readonly FileName[],
  found: ReadonlyMap<string, FoundFile>,
  targets: ReadonlyMap<string, string>,
  turn: () => Promise<void> | undefined,
): Promise<Pick<FileList, "bytes" | "fingerprint" | "unpackedFingerprint">> {
  const hash = createHash("sha256");
  const unpacked = createHash("sha256");
  let bytes = 0;
  for (const path of paths) {
    await turn();
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
