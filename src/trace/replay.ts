import type { OwnLine } from "./contract.ts";

/**
 * What a spool has beyond the position where its trace goes on. It comes once more, as the bytes that it was made of come once
 * more, and is compared instead of written; what the spool lacks is written.
 */
export interface Replay {
  /** Where the next byte stands in the spool. */
  readonly end: number;
  /** How many bytes of output stand before the next line of the runner's own. */
  readonly room: number;
  /** The line of the runner's own that stands here; it has been taken then. */
  takeLine(): OwnLine | null;
  /** What of `bytes` the spool lacks; `differs`: it has something else in their place. */
  pass(bytes: Uint8Array): { readonly lacking: Uint8Array; readonly differs: boolean };
  /** Nothing is left to be compared, nor to be put in its place. */
  readonly over: boolean;
  /** Lines that the spool lacks altogether. */
  lackingLines(): readonly OwnLine[];
}

/**
 * @param from where `tail`, the end of the spool, begins
 * @param lines all that were kept, in order; those before `from` do not count, nor those in whose place others were put later
 */
export function createReplay(from: number, tail: Buffer, lines: readonly OwnLine[]): Replay {
  const pending: OwnLine[] = [];
  for (const line of lines) {
    while ((pending.at(-1)?.at ?? -1) >= line.at) pending.pop();
    if (line.at >= from) pending.push(line);
  }
  const size = from + tail.length;
  let end = from;
  return {
    get end() {
      return end;
    },
    get room() {
      const [next] = pending;
      return next === undefined ? Number.POSITIVE_INFINITY : next.at - end;
    },
    takeLine() {
      const [next] = pending;
      return next !== undefined && next.at <= end ? (pending.shift() ?? null) : null;
    },
    pass(bytes) {
      const known = tail.subarray(Math.min(end - from, tail.length), end - from + bytes.length);
      end += bytes.length;
      const differs = !known.equals(bytes.subarray(0, known.length));
      return { lacking: bytes.subarray(differs ? firstDifference(known, bytes) : known.length), differs };
    },
    get over() {
      return end >= size && pending.length === 0;
    },
    lackingLines: () => pending.filter(({ at }) => at >= size),
  };
}

function firstDifference(known: Uint8Array, bytes: Uint8Array): number {
  let at = 0;
  while (known[at] === bytes[at]) at++;
  // The rest begins with a whole character.
  while (at > 0 && ((bytes[at] ?? 0) & 0xc0) === 0x80) at--;
  return at;
}
