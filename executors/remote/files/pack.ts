import { Readable } from "node:stream";
import { describeError, ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import { readTar, type TarEntry, type TarItem, tarEnd, tarHeader, tarPadding } from "../../../src/files/tar.ts";
import { tidyAfter } from "../../../src/files/tidy.ts";
import {
  createSentences,
  type FileName,
  fileName,
  fileNameText,
  type PackedFiles,
  type Sentences,
} from "../../../src/workspace.ts";
import { pathOf } from "../../common/files/paths.ts";
import type { RemoteCommand, RemoteCommands } from "../commands.ts";
import type { Packing, RemotePlace } from "../place.ts";
import { complaints } from "../run-to-end.ts";
import { packByCat } from "./pack-by-cat.ts";
import { bytesOfLines, calls } from "./rows.ts";

/** GNU's and libarchive's tar take any number of names on stdin. */
const FROM_LIST: Readonly<Record<"gnu" | "bsd", string>> = {
  gnu: `LC_ALL=C exec tar -C "$1" --no-recursion --hard-dereference --null -T - -cf -`,
  bsd: `LC_ALL=C exec tar -C "$1" --no-recursion --format pax --null -T - -cf -`,
};

/** Others get them as arguments, some at a time: one tar after the other. The first that fails is the last. */
const IN_BATCHES = `
LC_ALL=C; export LC_ALL
cd "$1" || exit
pack() { tar --no-recursion -cf - "$@" || exit 1; }
eval "$(cat)"
`;

const PIECE_BYTES = 256 * 1024;
/** Worth going on by itself; smaller blocks are put together first. */
const LARGE_BYTES = 16 * 1024;

/** What tar says of files that come, go and change while it reads: no reason to give up on the others. */
const HARMLESS =
  /No such file or directory|Not a directory|file changed as we read it|File removed before we read it|File shrank by|socket ignored|Exiting with failure status|Error exit delayed|error exit delayed|short read/;

/** `WorkspaceFiles.pack` over `commands`: headers are made here, from those that the far side sends; only contents pass. */
export function packRemote(
  commands: RemoteCommands,
  place: RemotePlace,
  paths: readonly FileName[],
  signal: AbortSignal,
): PackedFiles {
  const warnings = createSentences();
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const bytes = async function* (): AsyncGenerator<Buffer> {
    try {
      for await (const piece of packed({ commands, place, warnings, signal: both }, paths)) {
        tidyAfter(piece.length);
        yield piece;
      }
      yield tarEnd;
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      stop.abort(new Error("no more is read"));
    }
  };
  return { tar: Readable.from(bytes(), { objectMode: false, highWaterMark: PIECE_BYTES }), warnings: warnings.list };
}

function commandFor({ root, tools }: RemotePlace, paths: readonly FileName[]): RemoteCommand {
  const args = [pathOf(root)];
  if (tools.tar === "gnu" || tools.tar === "bsd") {
    const names = function* (): Generator<string> {
      for (const path of paths) yield `./${path}\0`;
    };
    return { script: FROM_LIST[tools.tar], args, stdin: bytesOfLines(joinedUp(names())) };
  }
  return { script: IN_BATCHES, args, stdin: bytesOfLines(calls("pack", paths, ".")) };
}

/** Many small texts as fewer large ones. */
function* joinedUp(texts: Iterable<string>): Generator<string> {
  let text = "";
  for (const next of texts) {
    text += next;
    if (text.length < PIECE_BYTES) continue;
    yield text;
    text = "";
  }
  if (text !== "") yield text;
}

async function* packed(packing: Packing, paths: readonly FileName[]): AsyncGenerator<Buffer> {
  if (packing.place.tools.tar === null) {
    yield* packByCat(packing, paths);
    return;
  }
  // What a tar tells only as a link to an entry before it, or had no time to tell, is read in another way.
  const others: FileName[] = [];
  for (let left = paths; left.length > 0; ) {
    const round = { wanted: new Set<string>(left), others, done: false };
    yield* oneTar(packing, left, round);
    if (round.done) {
      for (const path of round.wanted) packing.warnings.add(`${fileNameText(path)} has vanished: it is left out.`);
      break;
    }
    if (round.wanted.size === left.length) {
      others.push(...left);
      break;
    }
    // It stopped at the first trouble: what comes after the last one that was read has not been asked for.
    left = left.filter((path) => round.wanted.has(path));
  }
  if (others.length > 0) yield* packByCat(packing, others);
}

interface Round {
  /** Not read yet. */
  readonly wanted: Set<string>;
  readonly others: FileName[];
  /** Each path was looked at; what names none is said. */
  done: boolean;
}

async function* oneTar(packing: Packing, paths: readonly FileName[], round: Round): AsyncGenerator<Buffer> {
  const { commands, place, warnings, signal } = packing;
  const { stdout, exit } = await commands.start(commandFor(place, paths), signal);
  exit.catch(() => {}); // its failure is thrown where it is awaited below
  const gathered: Buffer[] = [];
  let size = 0;
  let cut: unknown;
  try {
    for await (const item of entriesOf(stdout, (error) => (cut = error))) {
      const path = fileName(item.name.replace(/^(?:\.\/)+/, ""));
      // Nothing is taken that was not asked for.
      if (!round.wanted.delete(path)) continue;
      if (item.kind === "hard link") round.others.push(path);
      else if (item.kind === "device" || item.kind === "other") {
        warnings.add(`${fileNameText(path)} is a socket, a pipe or a device: it is left out.`);
      } else {
        const blocks = entryBlocks({ ...item, name: path, mode: item.mode & 0o777 }, item, warnings);
        for await (const block of blocks) {
          const large = block.length >= LARGE_BYTES;
          if (!large) {
            gathered.push(block);
            size += block.length;
          }
          if (size >= PIECE_BYTES || (large && size > 0)) {
            yield Buffer.concat(gathered.splice(0));
            size = 0;
          }
          if (large) yield block;
        }
      }
    }
    if (size > 0) yield Buffer.concat(gathered);
  } finally {
    stdout.destroy();
  }
  const { code, stderr } = await exit;
  for (const [, name] of stderr.matchAll(/^tar: (?:\.\/)?(.*): File shrank by/gm)) {
    warnings.add(`${fileNameText(name ?? "")} has become shorter while it was read: zeros stand for the rest.`);
  }
  const bad = complaints(stderr).find((text) => !HARMLESS.test(text));
  if (code !== 0 && bad !== undefined) {
    const message = `Cannot read the files: ${bad.slice(0, 500).replaceAll("\n", " ")}`;
    // The job's own account may not read what the job has made.
    throw /: Permission denied/.test(bad) ? new ScriptFailure(message) : new SystemFailure(message);
  }
  if (cut !== undefined && place.tools.tar !== "plain") {
    throw new SystemFailure(`Cannot read the files: tar ended with status ${code} too early (${describeError(cut)})`);
  }
  round.done = place.tools.tar !== "plain" || (code === 0 && cut === undefined);
}

/** The entries of a tar. Where it is cut they end without an error: what was read until then is good. */
async function* entriesOf(stdout: Readable, onCut: (error: unknown) => void): AsyncGenerator<TarItem> {
  try {
    yield* readTar(stdout, { joined: true });
  } catch (error) {
    if (!(error instanceof ScriptFailure)) throw error;
    onCut(error);
  }
}

/**
 * The blocks of an entry as they are handed on. One whose content is cut is filled up, so that what follows it can be read.
 */
async function* entryBlocks(entry: TarEntry, { body }: TarItem, warnings: Sentences): AsyncGenerator<Buffer> {
  yield tarHeader(entry);
  let left = entry.size;
  while (left > 0) {
    let piece: Buffer;
    try {
      piece = await body.some(left);
    } catch (error) {
      if (!(error instanceof ScriptFailure)) throw error;
      warnings.add(`${fileNameText(entry.name)} has become shorter while it was read: zeros stand for the rest.`);
      yield* zeros(left);
      break;
    }
    left -= piece.length;
    yield piece;
  }
  yield Buffer.alloc(tarPadding(entry.size));
}

function* zeros(count: number): Generator<Buffer> {
  for (let left = count; left > 0; left -= PIECE_BYTES) yield Buffer.alloc(Math.min(left, PIECE_BYTES));
}
