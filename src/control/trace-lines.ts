import { StringDecoder } from "node:string_decoder";
import type { Board, JobView, ShownTrace } from "../board/contract.ts";
import { jobLine } from "./lines.ts";
import type { TraceLine } from "./protocol.ts";

export interface Followed {
  readonly job: JobView;
  /** First byte; negative ones are counted from the end. */
  readonly from: number;
  /** Whether to wait for output that is still to come. */
  readonly follow: boolean;
}

const PIECE_BYTES = 64 * 1024;

/**
 * Yields a trace in pieces, as fast as they are taken, and then its end. A piece is read only when it is asked for, so
 * nothing is kept.
 */
export async function* traceLines(
  board: Board,
  { job, from, follow }: Followed,
  signal: AbortSignal,
): AsyncGenerator<TraceLine> {
  const decoder = new StringDecoder("utf8");
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
    for (;;) {
      // Any change from here on ends the wait below, even one that comes while pieces are being sent.
      const changed = new Promise<void>((resolve) => {
        look = resolve;
      });
      const trace = board.trace(job.number);
      if (trace === null || signal.aborted) break;
      const { ended, size } = trace;
      while (at < size && !signal.aborted) {
        const bytes = await readPiece(trace, at, Math.min(PIECE_BYTES, size - at));
        // The trace's file was closed meanwhile: another handle has it now, or it has been delivered to the
        // coordinator.
        if (bytes === null) break;
        const text = decoder.write(bytes);
        if (text !== "") yield { at, text };
        at += bytes.length;
      }
      if (at >= size && (ended || !follow)) break;
      if (at < size && board.trace(job.number) === trace) break;
      if (at < size) continue;
      await changed;
    }
    const rest = decoder.end();
    if (rest !== "") yield { at, text: rest };
    yield { end: at, job: jobLine(latest, Date.now(), board.trace(job.number) === null) };
  } finally {
    stop();
    signal.removeEventListener("abort", wake);
  }
}

async function readPiece(trace: ShownTrace, at: number, bytes: number): Promise<Buffer | null> {
  const piece = await trace.read(at, bytes).catch(() => null);
  return piece === null || piece.length === 0 ? null : piece;
}
