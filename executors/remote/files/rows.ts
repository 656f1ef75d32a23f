import { Readable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { pathOf } from "../../common/files/paths.ts";
import type { RemoteCommands } from "../commands.ts";
import { complaints, quoted } from "../run-to-end.ts";
import type { RemoteTools } from "../tools.ts";

/** A file, directory or link as the far side describes it. */
export interface Row {
  /** Relative to the checkout; `""` is the checkout itself. */
  readonly path: string;
  readonly kind: "file" | "directory" | "symlink" | "special";
  readonly size: number;
  readonly mode: number;
  readonly mtimeMs: number;
}

export interface RowsRequest {
  /** Tell of these, and not of what is in them. */
  readonly look?: readonly string[];
  /** Tell of what is directly in these directories. */
  readonly flat?: readonly string[];
  /** Tell of these and of all that is in them. */
  readonly deep?: readonly string[];
}

/**
 * Names are followed by what no name holds: a NUL, or two slashes where `stat` cannot write one. The calls come from stdin as
 * text for `eval`, quoted: there is no other way to hand over any number of any names in any shell.
 */
const PROGRAM = `
LC_ALL=C; export LC_ALL
case $1 in
  'find -printf') end='\\0'; show() { find "$@" -printf '%y %m %s %T@\\0%p\\0'; };;
  'stat -c') end=//; show() { find "$@" -exec stat -c '%f %s %Y %y//%n//' {} +; };;
  *) end=//; show() { find "$@" -exec stat -f '%p %z %Fm//%N//' {} +; };;
esac
section() { printf "$1$end$end"; }
look() { show "$@" -maxdepth 0; }
flat() { show "$@" -mindepth 1 -maxdepth 1; }
deep() { show "$@"; }
eval "$(cat)"
section end
`;

/** Below the limit of any system for one list of arguments. */
const BATCH_BYTES = 60_000;
export const LONGEST_TOKEN = 64 * 1024;
/** The most things that one answer may name, whether they are kept or not. */
export const MOST_ROWS = 10_000_000;
const KINDS = new Map([
  ["f", "file"],
  ["d", "directory"],
  ["l", "symlink"],
] as const);

/** `NAME 'a' 'b'` in lines of bounded length. Absolute, so that no name is an option. */
export function* calls(name: string, paths: readonly string[], top: string): Generator<string> {
  let words: string[] = [];
  let size = 0;
  for (const path of paths) {
    const full = path === "" ? top : `${top}/${path}`;
    words.push(full);
    size += full.length + 10;
    if (size < BATCH_BYTES) continue;
    yield `${name} ${quoted(words)}\n`;
    [words, size] = [[], 0];
  }
  if (words.length > 0) yield `${name} ${quoted(words)}\n`;
}

/** Text for stdin, one character per byte. */
export function bytesOfLines(lines: Iterable<string>): Readable {
  const bytes = function* (): Generator<Buffer> {
    for (const line of lines) yield Buffer.from(line, "latin1");
  };
  return Readable.from(bytes(), { objectMode: false });
}

function parseMeta(meta: string): Omit<Row, "path"> | null {
  const gnu = /^([a-zA-Z?]) ([0-7]{1,5}) (\d{1,19}) (-?)(\d{1,15})(?:\.(\d+))?$/.exec(meta);
  if (gnu !== null) {
    const [, type = "", mode = "", size, minus, seconds, fraction] = gnu;
    const kind = [...KINDS].find(([letter]) => letter === type)?.[1] ?? "special";
    return { kind, mode: Number.parseInt(mode, 8), size: Number(size), mtimeMs: msOf(minus, seconds, fraction) };
  }
  const hex = /^\n?([0-9a-f]{1,8}) (\d{1,19}) (-?)(\d{1,15}) \S+ \d\d:\d\d:\d\d(?:\.(\d+))?(?: \S+)?$/.exec(meta);
  if (hex !== null) {
    const [, mode = "", size, minus, seconds, fraction] = hex;
    return { ...fromMode(Number.parseInt(mode, 16)), size: Number(size), mtimeMs: msOf(minus, seconds, fraction) };
  }
  const bsd = /^\n?([0-7]{1,11}) (\d{1,19}) (-?)(\d{1,15})(?:\.(\d+))?$/.exec(meta);
  if (bsd === null) return null;
  const [, mode = "", size, minus, seconds, fraction] = bsd;
  return { ...fromMode(Number.parseInt(mode, 8)), size: Number(size), mtimeMs: msOf(minus, seconds, fraction) };
}

function fromMode(mode: number): Pick<Row, "kind" | "mode"> {
  const kinds = new Map<number, Row["kind"]>([
    [0o100000, "file"],
    [0o040000, "directory"],
    [0o120000, "symlink"],
  ]);
  return { kind: kinds.get(mode & 0o170000) ?? "special", mode: mode & 0o7777 };
}

/** As Node has it: whole milliseconds and a fraction of one. */
function msOf(minus = "", seconds = "0", fraction = ""): number {
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, "0"));
  return minus === "" ? Number(seconds) * 1000 + nanoseconds / 1e6 : -Number(seconds) * 1000 + nanoseconds / 1e6;
}

/** It is not there (any more), in the words of every C library. */
const GONE = /(?:No such file or directory|Not a directory)$/;

/**
 * Ask about things in a checkout. `onRow` hears of each as it comes, `look` before `flat` before `deep`, what is in a directory
 * after the directory. What is not there is not told of.
 * @throws {SystemFailure} something cannot be read, or the answer is none
 */
export async function askRows(
  commands: RemoteCommands,
  { root, tools }: { readonly root: string; readonly tools: RemoteTools },
  { look = [], flat = [], deep = [] }: RowsRequest,
  onRow: (row: Row, section: keyof RowsRequest) => void,
  signal: AbortSignal,
): Promise<void> {
  if (tools.stat === null) {
    throw new SystemFailure(
      "Files cannot be listed: find with -printf, or find and stat, are needed where the job runs",
    );
  }
  const top = pathOf(root);
  const lines = function* (): Generator<string> {
    yield "section look\n";
    yield* calls("look", look, top);
    yield "section flat\n";
    yield* calls("flat", flat, top);
    yield "section deep\n";
    yield* calls("deep", deep, top);
  };
  const { stdout, exit } = await commands.start(
    { script: PROGRAM, args: [tools.stat], stdin: bytesOfLines(lines()) },
    signal,
  );
  exit.catch(() => {}); // its failure is thrown where it is awaited below
  let section: keyof RowsRequest = "look";
  let ended = false;
  let meta: string | null = null;
  let rows = 0;
  const take = (token: string): void => {
    if (meta === null) {
      meta = token;
      return;
    }
    const [its, name] = [meta, token];
    meta = null;
    if (name === "") {
      const said = its.trim();
      if (said === "look" || said === "flat" || said === "deep") section = said;
      else if (said === "end") ended = true;
      return;
    }
    if (++rows > MOST_ROWS)
      throw new SystemFailure(`Files cannot be listed: the answer tells of more than ${MOST_ROWS} things`);
    if (name !== top && !name.startsWith(`${top}/`)) return;
    const facts = parseMeta(its);
    if (facts === null)
      throw new SystemFailure(`Files cannot be listed: "${its.slice(0, 100)}" tells nothing of a file`);
    onRow({ path: name === top ? "" : name.slice(top.length + 1), ...facts }, section);
  };
  const mark = tools.stat === "find -printf" ? "\0" : "//";
  let rest = "";
  try {
    for await (const chunk of stdout) {
      const text: string = rest + Buffer.from(chunk).toString("latin1");
      let at = 0;
      for (let next = text.indexOf(mark); next >= 0; next = text.indexOf(mark, at)) {
        take(text.slice(at, next));
        at = next + mark.length;
      }
      rest = text.slice(at);
      if (rest.length > LONGEST_TOKEN)
        throw new SystemFailure(`Files cannot be listed: a name has no end after ${LONGEST_TOKEN} bytes`);
    }
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    stdout.destroy();
  }
  const { code, stderr } = await exit;
  const bad = complaints(stderr).find((text) => !GONE.test(text));
  if (bad !== undefined || !ended) {
    throw new SystemFailure(
      `Cannot read the checkout: ${bad?.slice(0, 500).replaceAll("\n", " ") ?? `the listing ended with status ${code}`}`,
    );
  }
}
