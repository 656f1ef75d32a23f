/** `2026-01-02T03:04:05.123456Z 01O `, before each line of a trace whose first line has it. */
const HEADER_BYTES = 32;
const HEADER = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [0-9a-f]{2}[EO][ +]/;

/**
 * A trace as GitLab's page shows it: where its first line has a time, 32 bytes are taken off each, and a line whose next one has
 * a `+` at their end goes on in that.
 */
export function withoutTimes(trace: Buffer): Buffer {
  if (!HEADER.test(trace.toString("latin1", 0, HEADER_BYTES))) return trace;
  const parts: Buffer[] = [];
  for (let at = 0; at < trace.length; ) {
    const lf = trace.indexOf(0x0a, at);
    const next = lf < 0 ? trace.length : lf + 1;
    const joined = trace[next + HEADER_BYTES - 1] === 0x2b;
    parts.push(trace.subarray(Math.min(at + HEADER_BYTES, next), joined && lf >= 0 ? lf : next));
    at = next;
  }
  return Buffer.concat(parts);
}
