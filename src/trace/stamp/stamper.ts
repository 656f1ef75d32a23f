import type { StampState } from "../contract.ts";
import { createStampClock } from "./clock.ts";
import { HEADER_BYTES, headerOf, type Stream } from "./header.ts";
import { createSheet } from "./sheet.ts";

/** The most that waits for the end of its line. */
const MOST_HELD_BYTES = 8192;
const LF = 0x0a;
const CR = 0x0d;
const LF_BYTES = Buffer.from("\n");
const NOTHING = Buffer.alloc(0);

/**
 * Text → lines with headers. A line is whole when its break comes; the beginning of one waits for that, unless it returns to
 * its start (a progress bar) or is long: then it gets a break that was not there, and its next part says that it goes on.
 */
export interface Stamper {
  /**
   * What is whole by now, of this and of what waited. A line of one stream ends what another one has begun. Valid until the next
   * call of any stamper.
   */
  push(stream: Stream, bytes: Buffer): Buffer;
  /** What waits, as a line that may go on. */
  flush(): Buffer;
  /** Since when something waits, in microseconds since 1970. */
  readonly heldSince: number | undefined;
  /** Of what was handed out. Nothing must wait (`flush`) where it is to be used. */
  readonly state: StampState;
}

export interface StamperOptions {
  readonly resume?: StampState;
  /** Microseconds since 1970, never backwards. */
  readonly clock?: () => number;
}

export function createStamper({ resume, clock = createStampClock(resume?.lastMicros) }: StamperOptions = {}): Stamper {
  let open: Stream | null = resume?.open ?? null;
  let lastMicros = resume?.lastMicros ?? 0;
  let held = NOTHING;
  let heldStream: Stream = "script";
  let heldMicros = 0;

  /** `before` and `text` as lines; the last one gets a break where it has none. */
  function stamp(stream: Stream, before: Buffer, text: Buffer, micros: number): Buffer {
    const first = headerOf(before.length > 0 ? heldMicros : micros, stream, open === stream);
    const lead = HEADER_BYTES + before.length;
    const out = createSheet(lead + text.length + 1);
    out.put(first);
    out.put(before);
    const last = text.length - 1;
    let next: Buffer | undefined;
    for (let from = 0; from <= last; ) {
      if (from > 0) out.put((next ??= headerOf(micros, stream, false)));
      const end = text.indexOf(LF, from);
      const until = end < 0 ? text.length : end + 1;
      out.put(text, from, until);
      from = until;
    }
    const isWhole = text[last] === LF;
    if (!isWhole) out.put(LF_BYTES);
    open = isWhole ? null : stream;
    lastMicros = micros;
    return out.bytes();
  }

  function flush(): Buffer {
    if (held.length === 0) return NOTHING;
    const text = held;
    held = NOTHING;
    return stamp(heldStream, text, NOTHING, heldMicros);
  }

  return {
    push(stream, bytes) {
      if (bytes.length === 0) return NOTHING;
      const micros = clock();
      const other = heldStream === stream ? NOTHING : flush();
      const end = bytes.lastIndexOf(LF) + 1;
      const rest = bytes.subarray(end);
      const waiting = end === 0 ? held.length : 0;
      const parts: Buffer[] = [other];
      if (rest.includes(CR) || waiting + rest.length > MOST_HELD_BYTES) {
        parts.push(stamp(stream, held, bytes, micros));
        held = NOTHING;
      } else {
        if (end > 0) {
          parts.push(stamp(stream, held, bytes.subarray(0, end), micros));
          held = NOTHING;
        }
        if (rest.length > 0) {
          if (held.length === 0) heldMicros = micros;
          // A copy: the bytes may lie in a buffer that is written again.
          held = Buffer.concat([held, rest]);
        }
      }
      heldStream = stream;
      const [only] = parts.filter((part) => part.length > 0);
      return parts.every((part) => part.length === 0 || part === only) ? (only ?? NOTHING) : Buffer.concat(parts);
    },
    flush,
    get heldSince() {
      return held.length === 0 ? undefined : heldMicros;
    },
    get state() {
      return { open, lastMicros };
    },
  };
}

/** Lines of the runner for a trace that nobody has open: each with its header. */
export function stampLines(lines: Buffer): Buffer {
  const stamper = createStamper();
  return Buffer.concat([stamper.push("runner", lines), stamper.flush()]);
}
