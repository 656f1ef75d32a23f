import type { Readable } from "node:stream";

declare const oneCharacterPerByte: unique symbol;

/**
 * A file's name as the system has it: bytes, not text. Held as a string with one character (0–255) per byte, so that names
 * that are no UTF-8 survive, and so that comparing strings compares bytes. `fileNameText` is for people.
 */
export type FileName = string & { readonly [oneCharacterPerByte]: true };

function isFileName(text: string): text is FileName {
  return /^[\x01-\xff]*$/.test(text);
}

/** @throws {RangeError} it holds a NUL, or characters that are no bytes */
export function fileName(bytes: Uint8Array | string): FileName {
  const text = typeof bytes === "string" ? bytes : Buffer.from(bytes).toString("latin1");
  if (!isFileName(text)) throw new RangeError("a file name is bytes without NUL");
  return text;
}

/** Text as a person writes it (UTF-8) → a name. @throws {RangeError} it holds a NUL */
export function fileNameOf(text: string): FileName {
  return fileName(Buffer.from(text));
}

/** A pattern such as `/\/+$/` would take time by the square of how many slashes there are. */
export function withoutTrailingSlashes(name: string): string {
  let end = name.length;
  while (end > 0 && name[end - 1] === "/") end--;
  return name.slice(0, end);
}

/** What is said of many files, one sentence each: the first ones, and how many more there are. */
export interface Sentences {
  readonly list: readonly string[];
  add(sentence: string): void;
}

/** More of them say nothing new. */
export const MOST_SENTENCES = 19;

export function createSentences(): Sentences {
  const list: string[] = [];
  let more = 0;
  return {
    list,
    add(sentence) {
      if (list.length < MOST_SENTENCES) list.push(sentence);
      else list[MOST_SENTENCES] = `${++more} more sentences like these are not shown.`;
    },
  };
}

/** For messages: decoded, control characters escaped, shortened. */
export function fileNameText(name: string): string {
  const text = Buffer.from(name, "latin1").toString();
  const shown = JSON.stringify(text.length > 300 ? `${text.slice(0, 300)}…` : text);
  const plain = shown.slice(1, -1);
  return plain === text ? text : shown;
}

/** No archive has more, nor has a list of files that is to become one. */
export const MOST_ENTRIES = 500_000;

export interface FileSelection {
  /**
   * Patterns, `/` between segments: `*`, `?`, `[a-z]`, `{a,b}`, and `**` for any depth. A directory stands for all that is in
   * it. Absolute ones may point into `root`; whatever lies outside is refused with a warning.
   */
  readonly globs: readonly string[];
  readonly exclude: readonly string[];
  /** Also what git does not know, ignored files included. */
  readonly untracked: boolean;
}

export interface FileList {
  /** Relative to `root`, sorted by byte, each once: regular files, directories (also empty ones) and symbolic links. */
  readonly paths: readonly FileName[];
  /** Of the regular files. */
  readonly bytes: number;
  /** SHA-256 over names, kinds, sizes, times, modes and link targets: the same text, the same files. */
  readonly fingerprint: string;
  /** The fingerprint that these files will have once they were packed and unpacked: archives keep whole seconds. */
  readonly unpackedFingerprint: string;
  /** What each pattern found, one sentence each. */
  readonly notes: readonly string[];
  /** Patterns without a match, refused and special files, one sentence each. */
  readonly warnings: readonly string[];
}

export interface PackedFiles {
  /** Uncompressed tar (pax where names or sizes need it), modes and times kept. Later errors arrive on the stream. */
  readonly tar: Readable;
  /** What is missing or changed under way: vanished, shrunken, special files. Complete when `tar` has ended. */
  readonly warnings: readonly string[];
}

export interface UnpackLimits {
  /** Of all files together. */
  readonly bytes: number;
  readonly entries: number;
  /** What the disk must still have free afterwards. */
  readonly freeBytes: number;
}

export interface UnpackReport {
  readonly entries: number;
  readonly bytes: number;
  readonly warnings: readonly string[];
  /** Where nothing was before, and all of the archive is in these: few names. Absent where that is not so. */
  readonly placed?: readonly FileName[];
  /** Of all that is `placed`, as it came and not as it was found there; only where files are kept by it. */
  readonly contents?: ContentsDigest;
}

/** What stands for a tree of files. */
export interface ContentsDigest {
  readonly entries: number;
  /** SHA-256 over names, kinds, modes, sizes, times of files, and where links lead. */
  readonly attributes: string;
  /** The same, and what is in files. */
  readonly all: string;
}

/** What the system says of files, in a form that only who made it understands. */
export interface KeptFiles {
  /** Names below `root` and, for each, what is known of it. */
  readonly tops: readonly { readonly name: FileName; readonly state: string }[];
  /** What stands for all that is in them. */
  readonly inside: string;
  /** How many files and directories there are in them. */
  readonly entries: number;
  /** Where they wait; `null`: at their places. */
  readonly aside: string | null;
}

/**
 * Files that stay untouched from one job to the next, where a working copy outlives a job. Whether they are untouched is told by
 * what no job can set. `null` where it cannot be told, or is not so; then nothing of them has to be expected anywhere.
 */
export interface FileKeeping {
  /** The place of the working copy among all that this runner uses. */
  readonly place: string;
  /** What was unpacked just now, with all that is in it. Resolves once every later change will show. */
  record(unpacked: Pick<UnpackReport, "placed" | "contents">, signal: AbortSignal): Promise<KeptFiles | null>;
  /** Out of the checkout, so that it can be cleaned. What is in them is not looked at. */
  setAside(kept: KeptFiles, signal: AbortSignal): Promise<KeptFiles | null>;
  /** Back to their places, if each is what it was. Whatever is not put back is removed. */
  putBack(kept: KeptFiles, signal: AbortSignal): Promise<KeptFiles | null>;
  /** Removes what was set aside. */
  drop(kept: KeptFiles, signal: AbortSignal): Promise<void>;
}

/** Reaching into a job's files, with the job's rights. */
export interface WorkspaceFiles {
  /**
   * What matches. Nothing is an empty list, not an error.
   * @throws {SystemFailure} the checkout cannot be read
   */
  list(select: FileSelection, signal: AbortSignal): Promise<FileList>;
  /** Those files; a directory is packed without what is in it. Nothing is followed: links are packed as links. */
  pack(paths: readonly FileName[], signal: AbortSignal): Promise<PackedFiles>;
  /**
   * Put the entries of a tar below `root`: all of them or, with an error that names the entry, none. Nothing outside is
   * touched by whatever name or link; no setuid bit, owner or device is restored.
   * @throws {ScriptFailure} the archive is damaged, hostile or larger than `limits`
   * @throws {SystemFailure} a full disk, missing rights
   */
  unpack(tar: Readable, limits: UnpackLimits, signal: AbortSignal): Promise<UnpackReport>;
  /**
   * How many `unpack` may be called at the same time; by default one, as it may hold a process, or one of few sessions, until its
   * tar has ended. Wherever it is, nothing is moved to its place before that.
   */
  readonly unpacksAtOnce?: number;
  /** Absent where no working copy stays, or where changes can be hidden. */
  readonly keeping?: FileKeeping;
}

/** The files of one job. Paths are as scripts see them, absolute, without a trailing slash. */
export interface Workspace extends WorkspaceFiles {
  /** The checkout, `CI_PROJECT_DIR`: `/builds/7e3b05c2/0/group/project`. */
  readonly root: string;
  /** Private to this job and outside the checkout: file variables, git's credentials. Removed with the environment. */
  readonly tmpDir: string;
}
