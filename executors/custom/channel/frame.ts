import type { Readable, Writable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { tidyAfter } from "../../../src/files/tidy.ts";
import type { RemoteExit } from "../../remote/index.ts";

/** Longer lines than those of a frame are no lines of a frame. */
const LONGEST_LINE = 200;
/** What is outside goes on at the latest when so much of a line has come. */
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
 * Sort what a driver prints while a framed program runs.
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
  let rest: Buffer = Buffer.alloc(0);
  let lines = 0;
  let last: string | null = null;
  let status: number | null = null;
  let stderr = "";

  const garbled = (line: string): SystemFailure =>
    new SystemFailure(
      `${name} mixes words of its own into what a script prints: ${JSON.stringify(line.slice(0, 100))}. Its messages have to go to stderr, or come before and after the script`,
    );
  const foreign: string[] = [];
  /** One that is held back until the next shows that it is not the number of lines. */
  const take = (line: string, into: string[]): void => {
    if (last !== null) {
      if (last.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(last)) throw garbled(last);
      into.push(last);
      lines++;
    }
    last = line;
  };
  const close = (): void => {
    if (last === null) return;
    if (last !== String(lines)) {
      throw new SystemFailure(
        /^\d+$/.test(last)
          ? `${name} lost a part of what a script printed: ${lines} of ${last} lines came`
          : garbled(last).message,
      );
    }
  };

  for await (const chunk of stdout) {
    tidyAfter(chunk.length);
    const bytes: Buffer = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let next = 0;
    const data: string[] = [];
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
        // The mark may have come in part.
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
      // A terminal on the way makes CRLF of LF.
      const text = bytes.toString("latin1", next, line).replace(/\r+$/, "");
      next = line + 1;
      if (place.state === "inside") {
        if (text === end) {
          close();
          place.state = "status";
        } else if (text.length > LONGEST_LINE) throw garbled(text);
        else take(text, data);
      } else if (text === done) place.state = "after";
      else if (/^S:\d{1,3}$/.test(text)) status = Number(text.slice(2));
      else if (/^E:[A-Za-z0-9+/]+={0,2}$/.test(text)) {
        if (stderr.length < STDERR_BYTES) stderr += text.slice(2);
      } else if (text !== "") foreign.push(text);
      if (foreign.length > 0) throw garbled(foreign[0] ?? "");
    }
    if (data.length > 0) await write(inside, Buffer.from(data.join(""), "base64"));
    rest = Buffer.from(bytes.subarray(next));
  }
  if (place.state === "before" || place.state === "after") await write(outside, rest);
  if (place.state !== "after" || status === null) return null;
  return { code: status, stderr: Buffer.from(stderr, "base64").toString("utf8") };
}

/** Waits while it is full. What breaks is not waited for. */
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
