import { closeSync, lstatSync, readSync } from "node:fs";
import { Readable } from "node:stream";
import { never, pause } from "../../../src/time.ts";
import { openReader } from "../processes/pipe.ts";
import { hangBell } from "./bell.ts";
import { type Losses, pieceOffset, type Root, readCode, readEnd, readLosses, readRoot } from "./files.ts";
import { openPieces } from "./pieces.ts";

const BUFFERED_BYTES = 256 * 1024;
/** Where an attendant was killed its pump may still have something, and says so when that was all. */
const LAST_WORDS_MS = 1000;

const SETTLING_MS = 50;

/** What went wrong with a script's output, as it is found out. */
export type Trouble =
  /** So many more reads could not be saved, or may not have been. */
  | { readonly kind: "lost"; readonly reads: number; readonly why: Losses["why"] }
  /** Somebody removed so many bytes that were not read yet. */
  | { readonly kind: "removed"; readonly bytes: number }
  /** What moves the output was killed, so that its end may be missing. */
  | { readonly kind: "unended" };

export interface ReaderOptions {
  readonly directory: string;
  /** The read end of the pipe that the attendant holds, not blocking. The reader closes it. */
  readonly lifeFd: number;
  /** Raw bytes before this one are not wanted. */
  readonly from: number;
  /** Raw bytes that need not be kept any more; by default those that were read. */
  settled?(): number;
  onTrouble(trouble: Trouble): void;
}

/** A script that an attendant runs on this machine, whoever started that. */
export interface ScriptReader {
  /** Raw output; ends with it. Nothing is read ahead of whoever takes it. */
  readonly output: Readable;
  /** The script's shell, as soon as there is one; `null`: there never was. */
  readonly root: Promise<Root | null>;
  /** The status, whoever still holds the output; `null`: nobody is left who would write it. Never rejects. */
  readonly code: Promise<number | null>;
  /** All is known: the status, and all of the output. */
  readonly complete: boolean;
  /** Its directory is still there. */
  isThere(): boolean;
  close(): void;
}

/** Nobody holds the other end. A pipe that was opened after its last writer had gone would never tell. */
function isForsaken(lifeFd: number): boolean {
  try {
    return readSync(lifeFd, Buffer.alloc(1)) === 0;
  } catch (error) {
    return !(error instanceof Error && "code" in error && error.code === "EAGAIN");
  }
}

export function readScript({ directory, lifeFd, from, settled, onTrouble }: ReaderOptions): ScriptReader {
  const root = Promise.withResolvers<Root | null>();
  const code = Promise.withResolvers<number | null>();
  let hasRoot = false;
  let hasCode = false;
  let end: number | null = null;
  let gone = isForsaken(lifeFd);
  let patient = !gone;
  /** Pieces that come later may be there: something was heard of that is not the one that is read. */
  let mayBeGap = true;
  const lookFor = (name: string | null): void => {
    const offset = name === null ? null : pieceOffset(name);
    if (name === null || (offset !== null && offset >= pieces.at)) mayBeGap = true;
    if (!hasRoot && (name === null || name === "root")) {
      const found = readRoot(directory);
      hasRoot = found !== null;
      if (found !== null) root.resolve(found);
    }
    if (!hasCode && (name === null || name === "code")) {
      const found = readCode(directory);
      hasCode = found !== null;
      if (found !== null) code.resolve(found);
    }
    if (end === null && (name === null || name === "end")) end = readEnd(directory);
    // Who would have written more has gone, and this look was after that.
    if (gone) {
      root.resolve(null);
      code.resolve(null);
    }
  };
  const bell = hangBell(directory, lookFor);
  let lastWords: NodeJS.Timeout | undefined;
  const closeLife = holdLife(lifeFd, gone, () => {
    gone = true;
    bell.ring();
    lastWords = setTimeout(() => {
      patient = false;
      bell.ring();
    }, LAST_WORDS_MS);
  });
  let told = 0;
  const tellLosses = (at: number): void => {
    const losses = readLosses(directory);
    if (losses === null || losses.at > at || losses.reads <= told) return;
    onTrouble({ kind: "lost", reads: losses.reads - told, why: losses.why });
    told = losses.reads;
  };
  const pieces = openPieces({
    directory,
    from,
    onPiece: (at) => {
      if (at > 0) tellLosses(at);
    },
  });
  lookFor(null);

  const settledNow = (): number => settled?.() ?? pieces.at;
  let complete = false;
  let closed = false;
  async function* all(): AsyncGenerator<Buffer> {
    try {
      for (;;) {
        const { rings } = bell;
        // Looked at before the pieces: what was written before these is read below.
        const wasGone = gone && !patient;
        const total = end;
        let took = false;
        for (let bytes = pieces.read(); bytes !== null; bytes = pieces.read()) {
          took = true;
          yield bytes;
          pieces.forget(settledNow());
        }
        if (total !== null && pieces.at >= total) break;
        // Where more is certain to be known by now, nobody has to ring.
        if (took && (total !== null || wasGone)) continue;
        // A gap is found by listing the directory.
        if (!took && (mayBeGap || total !== null || wasGone)) {
          const lost = pieces.skip(total ?? (wasGone ? pieces.at : null));
          mayBeGap = lost !== null;
          if (lost !== null && lost > 0) {
            onTrouble({ kind: "removed", bytes: lost });
            continue;
          }
          if (wasGone) {
            onTrouble({ kind: "unended" });
            return;
          }
        }
        // The pump may wait for what is settled only now, and nobody tells of that.
        const waits = pieces.forget(settledNow());
        if (bell.rings === rings)
          await (waits ? Promise.race([bell.after(rings), pause(SETTLING_MS, never)]) : bell.after(rings));
        if (closed) return;
      }
      tellLosses(pieces.at);
      complete = true;
    } finally {
      pieces.close();
    }
  }
  const output = Readable.from(all(), { objectMode: false, highWaterMark: BUFFERED_BYTES });

  return {
    output,
    root: root.promise,
    code: code.promise,
    get complete() {
      return complete && hasCode;
    },
    isThere: () => {
      try {
        return lstatSync(directory).isDirectory();
      } catch {
        return false;
      }
    },
    close() {
      closed = true;
      clearTimeout(lastWords);
      bell.close();
      output.destroy();
      root.resolve(null);
      code.resolve(null);
      closeLife();
    },
  };
}

/** Calls `onGone` when nobody holds the other end any more. */
function holdLife(lifeFd: number, gone: boolean, onGone: () => void): () => void {
  if (gone) {
    closeSync(lifeFd);
    return () => {};
  }
  const { stream, closesFd } = openReader(lifeFd);
  stream.on("data", () => {});
  stream.on("end", onGone);
  stream.on("error", onGone);
  stream.on("close", () => {
    if (!closesFd) closeSync(lifeFd);
  });
  return () => void stream.destroy();
}
