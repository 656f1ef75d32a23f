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
  /** So it is where nothing more comes. */
  readonly complete: boolean;
  /** Lines that the spool lacks altogether. */
  lackingLines(): readonly OwnLine[];
}

const LF = 0x0a;

/**
 * @param from where `tail`, the end of the spool, begins
 * @param lines the runner's own from there on (`standingLines`)
 * @param breaks where in `tail` there may have been a line break
 */
export function createReplay(
  from: number,
  tail: Buffer,
  lines: readonly OwnLine[],
  breaks: readonly number[] = [],
): Replay {
  const pending = [...lines];
  const doubtful = [...breaks];
  const size = from + tail.length;
  let end = from;
  const complete = (): boolean => end >= size && pending.length === 0;
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
      let at = 0;
      while (at < bytes.length) {
        const here = end - from;
        if (doubtful[0] === here) {
          doubtful.shift();
          if (lineFeeds(bytes, at) > lineFeeds(tail, here)) at++;
          continue;
        }
        const known = tail.subarray(here, Math.min(doubtful[0] ?? tail.length, here + bytes.length - at));
        if (known.length === 0) break;
        const rest = bytes.subarray(at);
        if (!known.equals(rest.subarray(0, known.length))) {
          return { lacking: rest.subarray(firstDifference(known, rest)), differs: true };
        }
        at += known.length;
        end += known.length;
      }
      end += bytes.length - at;
      return { lacking: bytes.subarray(at), differs: false };
    },
    get over() {
      return complete() && doubtful.length === 0;
    },
    get complete() {
      return complete();
    },
    lackingLines: () => pending.filter(({ at }) => at >= size),
  };
}

/** Of all that were kept those from `from` on, without those in whose place others were put later. */
export function standingLines(lines: readonly OwnLine[], from: number): OwnLine[] {
  const standing: OwnLine[] = [];
  for (const line of lines) {
    while ((standing.at(-1)?.at ?? -1) >= line.at) standing.pop();
    if (line.at >= from) standing.push(line);
  }
  return standing;
}

function lineFeeds(bytes: Uint8Array, from: number): number {
  let at = from;
  while (bytes[at] === LF) at++;
  return at - from;
}

function firstDifference(known: Uint8Array, bytes: Uint8Array): number {
  let at = 0;
  while (known[at] === bytes[at]) at++;
  // The rest begins with a whole character.
  while (at > 0 && ((bytes[at] ?? 0) & 0xc0) === 0x80) at--;
  return at;
}
