import type { StoredTrace } from "../../coordinator/contract.ts";
import { type TraceSource, traceOf } from "./trace-source.ts";

/**
 * How much of a trace is offered to a coordinator that does not take the whole: bytes of its head and as many of its
 * tail, less with each step; 0 is the notice alone.
 */
const STEPS = [256 * 1024, 16 * 1024, 0] as const;

/** The next smaller offer than `keepBytes` (Infinity: the whole trace); `null`: no trace at all. */
export function nextStep(size: number, keepBytes: number): number | null {
  return STEPS.find((step) => step < keepBytes && 2 * step < size) ?? null;
}

/** The runner's own line in place of what is not there: on a line of its own, bold yellow. */
export function noticeLine(text: string): Buffer {
  return Buffer.from(`\u001b[0m\u001b[33;1m${text}\u001b[0m\n`);
}

/**
 * Head and tail of a trace, cut at line ends where there are any, and a notice of what is missing between.
 * @param keepBytes of each; twice as much is less than `size`
 */
export async function shortenedTrace(trace: TraceSource, size: number, keepBytes: number): Promise<StoredTrace> {
  if (keepBytes === 0) {
    return traceOf(
      noticeLine(`WARNING: the coordinator did not take the output of this job (${size} bytes); it is left out`),
    );
  }
  const [first, last] = await Promise.all([trace.read(0, keepBytes), trace.read(size - keepBytes, keepBytes)]);
  const head = first.subarray(0, headEnd(first));
  const tail = last.subarray(tailStart(last));
  const missing = size - head.length - tail.length;
  const notice = noticeLine(
    `WARNING: the coordinator did not take the whole output; ${missing} bytes are left out here`,
  );
  const gap = head.length > 0 && head.at(-1) !== 0x0a ? Buffer.from("\n") : Buffer.alloc(0);
  return traceOf(Buffer.concat([head, gap, notice, tail]));
}

function headEnd(bytes: Buffer): number {
  const line = bytes.lastIndexOf(0x0a);
  if (line !== -1) return line + 1;
  // No line end at all: step back to where the last character begins, it may be incomplete.
  let end = bytes.length;
  while (end > 0 && isContinuation(bytes[end - 1])) end--;
  return Math.max(0, end - 1);
}

function tailStart(bytes: Buffer): number {
  const line = bytes.indexOf(0x0a);
  if (line !== -1 && line < bytes.length - 1) return line + 1;
  let start = 0;
  while (start < bytes.length && isContinuation(bytes[start])) start++;
  return start;
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}
