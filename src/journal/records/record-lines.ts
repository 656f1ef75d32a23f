import { crc32 } from "node:zlib";

/**
 * The lines of a record file: `<version> <crc32 of the rest, 8 hex digits> <JSON>`. The frame is the same in all
 * versions, so that an older runner can tell a newer line from a damaged one.
 */
export const RECORD_VERSION = 1;

const frame = /^(\d{1,4}) ([0-9a-f]{8}) $/;

/** One line with its line end. `padTo`: blanks after the JSON, so that lines of one file are equally long. */
export function encodeLine(value: unknown, { padTo = 0 }: { padTo?: number } = {}): Buffer {
  return frameLine(JSON.stringify(value), padTo);
}

/** The same of what is JSON already. */
export function frameLine(text: string, padTo = 0): Buffer {
  const json = text.padEnd(padTo);
  return Buffer.from(`${RECORD_VERSION} ${checksum(json)} ${json}\n`);
}

export interface DecodedLines {
  /** What the sound lines hold, in order. */
  readonly values: readonly unknown[];
  /** Where the last sound line ends: what follows is a torn write. */
  readonly soundBytes: number;
  /** Broken lines before that: not torn but damaged. */
  readonly damaged: number;
  /** A sound line of a version that this runner does not know. */
  readonly newer: number | null;
}

export function decodeLines(bytes: Buffer): DecodedLines {
  const values: unknown[] = [];
  let soundBytes = 0;
  let damaged = 0;
  let newer: number | null = null;
  let broken = 0;
  for (let start = 0; start < bytes.length; ) {
    const end = bytes.indexOf(0x0a, start);
    if (end === -1) break;
    const line = decodeLine(bytes.subarray(start, end));
    start = end + 1;
    if (line === null) {
      broken++;
      continue;
    }
    damaged += broken;
    broken = 0;
    soundBytes = start;
    if (line.version > RECORD_VERSION) newer = line.version;
    else values.push(line.value);
  }
  return { values, soundBytes, damaged, newer };
}

function decodeLine(line: Buffer): { version: number; value: unknown } | null {
  const head = line.indexOf(0x20, line.indexOf(0x20) + 1) + 1;
  const match = frame.exec(line.toString("latin1", 0, Math.min(head, 16)));
  if (match === null || head > 16) return null;
  const json = line.subarray(head);
  if (match[2] !== checksum(json)) return null;
  const version = Number(match[1]);
  if (version > RECORD_VERSION) return { version, value: undefined };
  try {
    return { version, value: JSON.parse(json.toString("utf8")) };
  } catch {
    return null;
  }
}

/** Of a text: of its bytes in UTF-8. */
function checksum(content: Buffer | string): string {
  return crc32(content).toString(16).padStart(8, "0");
}
