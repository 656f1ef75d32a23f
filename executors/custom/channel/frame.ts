import type { Readable, Writable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { tidyAfter } from "../../../src/files/tidy.ts";
import type { RemoteExit } from "../../remote/index.ts";

/** A longer line cannot belong to a frame. */
const LONGEST_LINE = 200;
/** Output outside of a frame is passed on at the latest when a line has this many bytes. */
const PIECE_BYTES = 64 * 1024;
const STDERR_BYTES = 32 * 1024;

export interface FrameTargets {
  /** Takes what the framed program writes to its stdout; the caller ends it. */
  readonly inside: Writable;
  /** Takes everything that is not of the frame. */
  readonly outside: Writable;
  /** For sentences: `run_exec (/opt/driver/run) at stage restore_cache`. */
  readonly name: string;
}

/**
 * Sort what a driver prints while a framed program runs, up to the end of the frame; the stream is left open then, as the driver
 * may have more to say.
 * @returns how that program ended; `null`: the frame is not whole
 * @throws {SystemFailure} something else is among the frame's lines
 */
export async function readFrame(
  stdout: Readable,
  number: string,
  { inside, outside, name }: FrameTargets,
): Promise<RemoteExit | null> {
  const mark = (which: string): string => `ALLOY-${number}-${which}`;
  const [begin, end, done] = [mark("BEGIN"), mark("END"), mark("DONE")];
  const place: { state: "before" | "inside" | "status" | "after" } = { state: "before" };
  const lines = createLines();
  let rest: Buffer = Buffer.alloc(0);
  let status: number | null = null;
  let stderr = "";

  const garbled = (line: string): SystemFailure =>
    new SystemFailure(
      `${name} mixes words of its own into what a script prints: ${JSON.stringify(line.slice(0, 100))}. Its messages have to go to stderr, or come before and after the script`,
    );
  const foreign: string[] = [];
  /** The last of the frame's lines says how many came before it. */
  const close = (): void => {
    const last = lines.held();
    if (last === null || last === String(lines.count)) return;
    throw /^\d+$/.test(last)
      ? new SystemFailure(`${name} lost a part of what a script printed: ${lines.count} of ${last} lines came`)
      : garbled(last);
  };

  for await (const chunk of stdout.iterator({ destroyOnReturn: false })) {
    // Its bytes are there several times: as they came, as text, decoded, on their way through the stream, and in the archive.
    tidyAfter(8 * chunk.length);
    const bytes: Buffer = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let next = 0;
    for (;;) {
      if (place.state === "before" || place.state === "after") {
        const found = place.state === "before" ? bytes.indexOf(begin, next) : -1;
        if (found >= 0) {
          const line = bytes.indexOf(10, found);
          if (line < 0) break;
          await write(outside, bytes.subarray(next, found));
          next = line + 1;
          place.state = "inside";
          continue;
        }
        // The mark may be cut by the end of this piece.
        const keep = place.state === "before" ? Math.min(bytes.length - next, begin.length) : 0;
        const line = bytes.lastIndexOf(10, bytes.length - 1);
        const until =
          place.state === "after"
            ? bytes.length
            : line >= next
              ? line + 1
              : bytes.length - next > PIECE_BYTES
                ? bytes.length - keep
                : next;
        await write(outside, bytes.subarray(next, until));
        next = until;
        break;
      }
      const line = bytes.indexOf(10, next);
      if (line < 0) {
        if (bytes.length - next > LONGEST_LINE) throw garbled(bytes.toString("utf8", next, next + LONGEST_LINE));
        break;
      }
      let to = line;
      // A terminal on the way makes CRLF of LF.
      while (to > next && bytes[to - 1] === 13) to--;
      const from = next;
      next = line + 1;
      if (place.state === "inside") {
        if (to - from === end.length && bytes.toString("latin1", from, to) === end) {
          close();
          place.state = "status";
        } else if (to - from > LONGEST_LINE) throw garbled(bytes.toString("latin1", from, to));
        else if (!lines.add(bytes, from, to)) throw garbled(lines.held() ?? "");
        continue;
      }
      const text = bytes.toString("latin1", from, to);
      if (text === done) place.state = "after";
      else if (/^S:\d{1,3}$/.test(text)) status = Number(text.slice(2));
      else if (/^E:[A-Za-z0-9+/]+={0,2}$/.test(text)) {
        if (stderr.length < STDERR_BYTES) stderr += text.slice(2);
      } else if (text !== "") foreign.push(text);
      if (foreign.length > 0) throw garbled(foreign[0] ?? "");
    }
    const data = lines.take();
    if (data.length > 0) await write(inside, data);
    // Something that the driver has left running may hold its output for good.
    if (place.state === "after") break;
    rest = Buffer.from(bytes.subarray(next));
  }
  if (place.state === "before") await write(outside, rest);
  if (place.state !== "after" || status === null) return null;
  return { code: status, stderr: Buffer.from(stderr, "base64").toString("utf8") };
}

/** Lines of base64 that wait to be decoded: a string for each would take several times its bytes. */
interface Lines {
  /** How many lines were found to be base64. */
  readonly count: number;
  /** Adds a line. It is held back until the next one shows that it is not the number of lines. */
  add(bytes: Buffer, from: number, to: number): boolean;
  /** The last line; `null` if there was none. */
  held(): string | null;
  /** The decoded content of the lines that are not held back and were not taken before. */
  take(): Buffer;
}

function createLines(): Lines {
  let count = 0;
  let held: { readonly bytes: Buffer; readonly from: number; readonly to: number } | null = null;
  let text = Buffer.alloc(2 * PIECE_BYTES);
  let length = 0;
  return {
    get count() {
      return count;
    },
    add: (bytes, from, to) => {
      if (held !== null) {
        if (!isBase64(held.bytes, held.from, held.to)) return false;
        const size = held.to - held.from;
        if (length + size > text.length) text = Buffer.concat([text], 2 * (length + size));
        length += held.bytes.copy(text, length, held.from, held.to);
        count++;
      }
      held = { bytes, from, to };
      return true;
    },
    held: () => held?.bytes.toString("latin1", held.from, held.to) ?? null,
    take: () => {
      // The line is copied, because a slice would keep the whole piece in memory.
      if (held !== null)
        held = { bytes: Buffer.from(held.bytes.subarray(held.from, held.to)), from: 0, to: held.to - held.from };
      const found = Buffer.from(text.toString("latin1", 0, length), "base64");
      length = 0;
      return found;
    },
  };
}

const ALPHABET = new Uint8Array(256);
for (const one of Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")) ALPHABET[one] = 1;
const PADDING = 0x3d;

function isBase64(bytes: Buffer, from: number, to: number): boolean {
  if (to === from || (to - from) % 4 !== 0) return false;
  let end = to;
  while (end > to - 2 && bytes[end - 1] === PADDING) end--;
  for (let at = from; at < end; at++) if (ALPHABET[bytes[at] ?? 0] === 0) return false;
  return true;
}

/** Waits while the target is full. A target that broke is not waited for. */
async function write(target: Writable, bytes: Buffer): Promise<void> {
  if (bytes.length === 0 || target.destroyed || target.writableEnded) return;
  if (target.write(bytes) || target.destroyed) return;
  await new Promise<void>((resolve) => {
    const proceed = (): void => {
      target.off("drain", proceed).off("close", proceed).off("error", proceed);
      resolve();
    };
    target.on("drain", proceed).on("close", proceed).on("error", proceed);
  });
}
