import type { LimitState } from "./contract.ts";
import { characterBoundary } from "./mask/utf8.ts";

/** Lines of the runner that are kept beyond the limit: enough for any verdict, whatever was printed before it. */
const RUNNER_ALLOWANCE_BYTES = 64 * 1024;
/** The part of it that only warnings, errors and success may use: small talk never costs a job its verdict. */
const RESERVED_BYTES = 16 * 1024;

/** Keeps count of a trace's bytes and says what of the next ones is kept. */
export interface Limit {
  /** Output was cut: whatever follows of it can be dropped unseen. */
  readonly reached: boolean;
  /** How many of these bytes of output are kept; fewer than all sets `reached`. Never cuts a character. */
  admitOutput(bytes: Uint8Array): number;
  /** How many bytes of a runner's line are kept: all of them up to the limit, and from a bounded allowance beyond it. */
  admitLine(bytes: Uint8Array, important: boolean): number;
  /** What decides besides the size of the trace. */
  readonly state: LimitState;
}

export function createLimit(limitBytes: number, storedBytes: number, from?: LimitState): Limit {
  let stored = storedBytes;
  let beyond = from?.beyond ?? 0;
  let reached = from?.reached ?? false;
  return {
    get state() {
      return { beyond, reached };
    },
    get reached() {
      return reached;
    },
    admitOutput(bytes) {
      const room = limitBytes - stored;
      if (!reached && bytes.length <= room) {
        stored += bytes.length;
        return bytes.length;
      }
      if (bytes.length === 0 || reached) return 0;
      reached = true;
      const kept = characterBoundary(bytes, room);
      stored += kept;
      return kept;
    },
    admitLine(bytes, important) {
      if (!reached && stored + bytes.length <= limitBytes) {
        stored += bytes.length;
        return bytes.length;
      }
      const room = RUNNER_ALLOWANCE_BYTES - (important ? 0 : RESERVED_BYTES) - beyond;
      const kept = characterBoundary(bytes, room);
      beyond += kept;
      stored += kept;
      return kept;
    },
  };
}

/** The one line that a trace shows where its output was cut. */
export function limitNotice(limitBytes: number): string {
  return `Job's output exceeded the limit of ${limitBytes} bytes. The job continues, but nothing more of its output is kept.`;
}
