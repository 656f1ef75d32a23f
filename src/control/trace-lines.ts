import type { Board, JobView, ShownTrace } from "../board/contract.ts";
import { completeLength } from "../trace/mask/utf8.ts";
import { openStampReader, type StampReader } from "../trace/stamp/reader.ts";
import { jobLine } from "./lines.ts";
import type { TraceLine } from "./protocol.ts";

export interface Followed {
  readonly job: JobView;
  /** First byte; negative ones are counted from the end. */
  readonly from: number;
  /** Whether to wait for output that is still to come. */
  readonly follow: boolean;
}

/** What is told of a trace, and the byte where whoever loses the connection then goes on. */
export interface ToldLine {
  readonly line: TraceLine;
  readonly next: number;
}

const PIECE_BYTES = 64 * 1024;

/**
 * Yields a trace in pieces, as fast as they are taken, and then its end. A piece is read only when it is asked for, so
 * nothing is kept. Times that GitLab wants before its lines are left out.
 */
export async function* traceLines(
  board: Board,
  { job, from, follow }: Followed,
  signal: AbortSignal,
): AsyncGenerator<ToldLine> {
  let latest = job;
  let look: (() => void) | undefined;
  const stop = board.watch((view) => {
    if (view.number !== job.number) return;
    latest = view;
    look?.();
  });
  const wake = (): void => look?.();
  signal.addEventListener("abort", wake);
  try {
    let at = Math.max(0, from < 0 ? (board.trace(job.number)?.size ?? 0) + from : from);
    const shown = createShown(at);
    for (;;) {
      // Any change from here on ends the wait below, even one that comes while pieces are being sent.
      const changed = new Promise<void>((resolve) => {
        look = resolve;
      });
      const trace = board.trace(job.number);
      if (trace === null || signal.aborted) break;
      const { ended, size, lineOpen = false } = trace;
      if (at < size && !(await shown.open(trace))) break;
      at = shown.from(at);
      while (at < size && !signal.aborted) {
        const bytes = await readPiece(trace, at, Math.min(PIECE_BYTES, size - at));
        // The trace's file was closed meanwhile: another handle has it now, or it has been delivered to the
        // coordinator.
        if (bytes === null) break;
        yield* told(at, shown.read(bytes), shown.position);
        at += bytes.length;
      }
      if (at >= size) yield* told(at, shown.settle(lineOpen && !ended), shown.position);
      if (at >= size && (ended || !follow)) break;
      if (at < size && board.trace(job.number) === trace) break;
      if (at < size) continue;
      await changed;
    }
    yield* told(at, shown.end(), at);
    yield { line: { end: at, job: jobLine(latest, Date.now(), board.trace(job.number) === null) }, next: at };
  } finally {
    stop();
    signal.removeEventListener("abort", wake);
  }
}

async function readPiece(trace: ShownTrace, at: number, bytes: number): Promise<Buffer | null> {
  const piece = await trace.read(at, bytes).catch(() => null);
  return piece === null || piece.length === 0 ? null : piece;
}

function* told(at: number, text: string, next: number): Generator<ToldLine> {
  if (text !== "") yield { line: { at, text }, next };
}

/** Bytes of a trace → its text. */
interface Shown {
  /** Sees by the trace's first line how it is to be read. @returns `false`: it cannot be read any more */
  open(trace: ShownTrace): Promise<boolean>;
  /** Where reading begins, the first time: not within the time of a line. */
  from(at: number): number;
  read(bytes: Buffer): string;
  settle(lineOpen: boolean): string;
  /** The beginning of a character that does not come any more. */
  end(): string;
  readonly position: number;
}

function createShown(start: number): Shown {
  let stamps: StampReader | null | undefined;
  let begun = false;
  let consumed = start;
  let torn = Buffer.alloc(0);
  const text = (bytes: Buffer): string => {
    const all = torn.length === 0 ? bytes : Buffer.concat([torn, bytes]);
    const length = completeLength(all);
    torn = Buffer.from(all.subarray(length));
    return all.toString("utf8", 0, length);
  };
  return {
    async open(trace) {
      if (stamps !== undefined) return true;
      stamps = await openStampReader(trace, start).catch(() => undefined);
      return stamps !== undefined;
    },
    from(at) {
      if (begun || stamps === undefined) return at;
      begun = true;
      consumed = stamps?.position ?? at;
      return consumed;
    },
    read(bytes) {
      consumed += bytes.length;
      return text(stamps?.read(bytes) ?? bytes);
    },
    settle: (lineOpen) => text(stamps?.settle(lineOpen) ?? Buffer.alloc(0)),
    end() {
      const rest = torn.toString();
      torn = Buffer.alloc(0);
      return rest;
    },
    get position() {
      return (stamps?.position ?? consumed) - torn.length;
    },
  };
}
