import type { ShownTrace } from "../board/contract.ts";
import { openStampReader } from "../trace/stamp/reader.ts";

const TAIL_BYTES = 4096;
const LONGEST = 300;

/** Section markers, escape sequences and control characters: a terminal shows none of them. */
const UNSEEN =
  /section_(?:start|end):\d+:[^\r\n\x1b]*\r(?:\x1b\[0?K)?|\x1b\[[0-?]*[ -/]*[@-~]?|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?/g;
const CONTROLS = /[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g;

/** The last line of a trace that shows something, as plain text. Reads a few KB, whatever its size. */
export async function lastLine(trace: ShownTrace): Promise<string> {
  const tail = await tailOf(trace).catch(() => Buffer.alloc(0));
  const lines = tail
    .toString("utf8")
    .replace(UNSEEN, "")
    .split(/[\n\r]/);
  const last = lines.findLast((line) => line.trim() !== "") ?? "";
  return last.replace(CONTROLS, " ").trim().slice(0, LONGEST);
}

async function tailOf(trace: ShownTrace): Promise<Buffer> {
  const from = Math.max(0, trace.size - TAIL_BYTES);
  const stamps = await openStampReader(trace, from);
  if (stamps === null) return await trace.read(from, TAIL_BYTES);
  const start = stamps.position;
  return stamps.read(await trace.read(start, trace.size - start));
}
