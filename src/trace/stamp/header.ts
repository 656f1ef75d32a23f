/**
 * What GitLab wants before each line of a trace with times: `2026-01-02T03:04:05.123456Z 01O `. It decides by the first line
 * whether a trace has them, and then takes 32 bytes off every line.
 */
export const HEADER_BYTES = 32;

/** Who wrote a line: the runner, a script of the job, or one of its services. */
export type Stream = "runner" | "script" | "service";

const CODES: Readonly<Record<Stream, string>> = { runner: "00", script: "01", service: "0f" };
const SHAPE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z [0-9a-f]{2}[OE][ +]$/;
const PLUS = 0x2b;

/** @param micros microseconds since 1970; `goesOn`: the line before it in the file has no end of its own */
export function headerOf(micros: number, stream: Stream, goesOn: boolean): Buffer {
  const ms = Math.floor(micros / 1000);
  const rest = String(Math.floor(micros - ms * 1000)).padStart(3, "0");
  return Buffer.from(`${new Date(ms).toISOString().slice(0, 23)}${rest}Z ${CODES[stream]}O${goesOn ? "+" : " "}`);
}

/** Do these bytes, which are the first ones of a trace, begin with a header? */
export function beginsWithHeader(bytes: Uint8Array): boolean {
  return bytes.length >= HEADER_BYTES && SHAPE.test(Buffer.from(bytes.subarray(0, HEADER_BYTES)).toString("latin1"));
}

/** Who wrote the line of this header. */
export function streamOf(header: Uint8Array): Stream {
  const code = Buffer.from(header.subarray(HEADER_BYTES - 4, HEADER_BYTES - 2)).toString("latin1");
  return code === CODES.runner ? "runner" : code === CODES.service ? "service" : "script";
}

/** When that was, in microseconds since 1970. */
export function timeOf(header: Uint8Array): number {
  const text = Buffer.from(header.subarray(0, HEADER_BYTES)).toString("latin1");
  return Date.parse(`${text.slice(0, 23)}Z`) * 1000 + Number(text.slice(23, 26));
}

/** Whether the line of this header belongs to the one before it. */
export function joins(header: Uint8Array): boolean {
  return header[HEADER_BYTES - 1] === PLUS;
}

/** The largest length ≤ `limit` at which whole lines with their headers can be cut: no header is left without text. */
export function stampedBoundary(bytes: Uint8Array, limit: number): number {
  if (limit >= bytes.length) return bytes.length;
  const lineStart = bytes.subarray(0, limit).lastIndexOf(0x0a) + 1;
  return limit - lineStart <= HEADER_BYTES ? lineStart : limit;
}
