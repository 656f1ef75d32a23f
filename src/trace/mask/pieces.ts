import { characterBoundary } from "./utf8.ts";

const NEWLINE = 0x0a;
const ESC = 0x1b;
/** No escape sequence that a coordinator would render is longer. */
const MAX_SEQUENCE_BYTES = 256;

/**
 * Where to end a piece of trace so that it can be rendered by itself: after the last line break that is outside an escape
 * sequence. 0: there is none.
 */
export function lastLineEnd(bytes: Uint8Array): number {
  let end = bytes.lastIndexOf(NEWLINE) + 1;
  for (let tries = 0; end > 0 && tries < 8; tries++) {
    const start = openSequence(bytes, end);
    if (start < 0) return end;
    end = bytes.lastIndexOf(NEWLINE, start) + 1;
  }
  return end;
}

/** The last place where an unterminated line can be cut: never within a character, nor within an escape sequence. */
export function lastCleanCut(bytes: Uint8Array): number {
  const start = openSequence(bytes, bytes.length);
  if (start > 0) return start;
  const whole = characterEnd(bytes);
  return whole === 0 ? bytes.length : whole;
}

/** Where the escape sequence begins that is not over at `end`, or -1. */
function openSequence(bytes: Uint8Array, end: number): number {
  const near = Math.max(0, end - MAX_SEQUENCE_BYTES);
  const start = near + bytes.subarray(near, end).lastIndexOf(ESC);
  if (start < near) return -1;
  if (start + 1 === end) return start;
  const kind = bytes[start + 1] ?? 0;
  if (kind === 0x5b) return hasByte(bytes, start + 2, end, 0x40, 0x7e) ? -1 : start; // CSI … letter
  // OSC, DCS, SOS, PM, APC … BEL; one that ends with ESC \ has a later ESC, which is a sequence by itself
  if (kind === 0x5d || kind === 0x50 || kind === 0x58 || kind === 0x5e || kind === 0x5f) {
    return hasByte(bytes, start + 2, end, 0x07, 0x07) ? -1 : start;
  }
  return hasByte(bytes, start + 1, end, 0x30, 0x7e) ? -1 : start; // ESC ( B
}

function hasByte(bytes: Uint8Array, from: number, to: number, least: number, most: number): boolean {
  for (let at = from; at < to; at++) {
    const byte = bytes[at] ?? 0;
    if (byte >= least && byte <= most) return true;
  }
  return false;
}

/** Length without a last character of which bytes are missing; `bytes` are part of valid UTF-8. */
function characterEnd(bytes: Uint8Array): number {
  const lead = characterBoundary(bytes, bytes.length - 1);
  const first = bytes[lead] ?? 0;
  const size = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  return lead + size > bytes.length ? lead : bytes.length;
}
