import type { MaskState, RunState } from "../contract.ts";
import type { Key, Patterns } from "./patterns.ts";

/** Stands in the trace for a secret. */
export const MASKED = "[MASKED]";
const MASKED_BYTES = Buffer.from(MASKED);
const NOTHING = new Uint8Array(0);

const WORD = 1;
const URL_VALUE = 2;
/** What the words after a token prefix (`glpat-`) and the values of URL parameters consist of. */
const CLASSES = new Uint8Array(256);
for (let byte = 0x21; byte < 256; byte++) {
  const character = String.fromCharCode(byte);
  const word = /[A-Za-z0-9_.=-]/.test(character);
  const url = byte !== 0x7f && !/[&?"'<>`\\]/.test(character);
  CLASSES[byte] = (word ? WORD : 0) | (url ? URL_VALUE : 0);
}

/**
 * Replaces secrets in a stream of bytes. The result does not depend on how the stream was cut: held back is only what can
 * still become the start of a secret. Overlapping secrets are one `[MASKED]`, adjacent ones are two.
 */
export interface Mask {
  /** What is decided by now. Valid until the next call. */
  push(chunk: Uint8Array): Buffer;
  /** What was held back: nothing follows that could complete a secret. Valid until the next call. */
  flush(): Buffer;
  /** How many of the bytes that came are held back. */
  readonly held: number;
  /** What becomes of the bytes from the first one on that is held back, besides these bytes. */
  state(): MaskState;
}

/** `text` as a whole, masked. */
export function maskText(patterns: Patterns, text: string): Buffer {
  const mask = createMask(patterns);
  return Buffer.concat([Buffer.from(mask.push(Buffer.from(text))), mask.flush()]);
}

/** A stretch to mask: `[start, end)`, positions in the working buffer. */
interface Stretch {
  start: number;
  end: number;
}

/** A word or value that follows a key and may go on in the next chunk. */
interface Run extends Stretch {
  readonly value: Key["value"];
  readonly masked: boolean;
}

/** Where another mask goes on, and the bytes that came right before: as many as `state.behind` says. */
export interface MaskStart {
  readonly state: MaskState;
  readonly behind: Uint8Array;
}

/**
 * The first position from `at` on where a secret or mark may begin, or the first one beyond `last`. A function by itself
 * and of its arguments only, because it decides how fast all output is: engines make twice the speed of it so.
 */
function nextStop(text: Uint8Array, shift: Uint8Array, windowBytes: number, at: number, last: number): number {
  const [high, low] = [windowBytes - 2, windowBytes - 1];
  let next = at;
  while (next <= last) {
    const skip = shift[((text[next + high] ?? 0) << 8) | (text[next + low] ?? 0)] ?? 0;
    if (skip === 0) return next;
    next += skip;
  }
  return next;
}

/** @param start where another mask with these patterns was, to go on there: the first byte to come is the first that it held back */
export function createMask(patterns: Patterns, start?: MaskStart): Mask {
  const { shift, windowBytes, lookBehindBytes, matchSecret, keysAt } = patterns;
  const lookAhead = Math.max(windowBytes, 4);
  let work = Buffer.from(start?.behind ?? NOTHING);
  /** `work[base, from)` was handed out and is kept for keys that began there; `work[from, to)` is held back. */
  let base = 0;
  let from = work.length;
  let to = work.length;
  /** Bytes from `from` on that belong to a stretch whose `[MASKED]` is written. */
  let coveredAhead = start?.state.covered ?? 0;
  const runState: Record<Key["value"], RunState> = {
    word: start?.state.word ?? "none",
    url: start?.state.url ?? "none",
  };
  /** Where the last run of a kind ended in this step. */
  const furthest: Record<Key["value"], number> = { word: 0, url: 0 };
  const stretches: Stretch[] = [];
  const runs: Run[] = [];

  function take(chunk: Uint8Array): void {
    const kept = to - base;
    if (work.length < kept + chunk.length) {
      const grown = Buffer.allocUnsafeSlow(kept + chunk.length + 4096);
      work.copy(grown, 0, base, to);
      work = grown;
    } else if (base > 0) work.copyWithin(0, base, to);
    work.set(chunk, kept);
    from -= base;
    base = 0;
    to = kept + chunk.length;
  }

  function addStretch(start: number, end: number): void {
    const last = stretches.at(-1);
    if (last !== undefined && start >= last.start && start < last.end) last.end = Math.max(last.end, end);
    else stretches.push({ start, end });
  }

  /** Follows the value of a key from `start`; `masked`: its `[MASKED]` is written. */
  function addRun(value: Key["value"], start: number, masked: boolean): Run {
    const wanted = value === "word" ? WORD : URL_VALUE;
    let end = start;
    while (end < to && ((CLASSES[work[end] ?? 0] ?? 0) & wanted) !== 0) end++;
    const run = { value, start, end, masked };
    runs.push(run);
    furthest[value] = end;
    if (!masked && (end > start || value === "url")) addStretch(start, end);
    return run;
  }

  function findKeys(at: number): void {
    for (const key of keysAt(work[at] ?? 0)) {
      const start = at + key.offset;
      const end = start + key.text.length;
      // A key that ended before `from` was seen when its last byte came.
      if (start < base || end > to || end <= from) continue;
      // Keys inside a value are part of it; following each to its end again would be quadratic.
      if (end <= furthest[key.value]) continue;
      if (matchesKey(key, start)) addRun(key.value, end, false);
    }
  }

  function matchesKey(key: Key, start: number): boolean {
    if (!key.ignoreCase) return key.text.compare(work, start, start + key.text.length) === 0;
    for (let index = 0; index < key.text.length; index++) {
      const byte = work[start + index] ?? 0;
      const lower = byte >= 65 && byte <= 90 ? byte | 32 : byte;
      if (lower !== key.text[index]) return false;
    }
    const before = start > base ? work[start - 1] : undefined;
    return before === 0x3f || before === 0x26; // ? &
  }

  /** Finds all stretches. @returns where the first secret begins that is not complete yet, or `to`. */
  function search(final: boolean): number {
    const last = to - lookAhead;
    let at = nextStop(work, shift, windowBytes, Math.max(base, from - lookBehindBytes), last);
    while (at <= last) {
      if (inspect(at, final)) return at;
      at = nextStop(work, shift, windowBytes, at + 1, last);
    }
    for (; at < to; at++) if (inspect(at, final)) return at;
    return to;
  }

  /** @returns true where a secret has begun whose end is still to come */
  function inspect(at: number, final: boolean): boolean {
    findKeys(at);
    if (at < from) return false;
    const length = matchSecret(work, at, to, final);
    if (length > 0) addStretch(at, at + length);
    return length < 0;
  }

  function resumeRuns(): void {
    for (const value of ["word", "url"] as const) {
      if (runState[value] === "none") continue;
      const run = addRun(value, from, runState[value] === "open");
      if (run.masked) coveredAhead = Math.max(coveredAhead, run.end - from);
    }
  }

  /** `work[from, hold)` without what is to be masked. */
  function compose(hold: number, final: boolean): Buffer {
    if (stretches.length === 0 && coveredAhead === 0) return work.subarray(from, hold);
    if (stretches.some(({ start }, index) => start < (stretches[index - 1]?.start ?? 0))) {
      stretches.sort((a, b) => a.start - b.start);
    }
    const parts: Buffer[] = [];
    let covered = from + coveredAhead;
    for (const { start, end } of stretches) {
      if (start >= hold && !final) continue;
      if (start >= covered) {
        if (start > covered) parts.push(work.subarray(covered, start));
        parts.push(MASKED_BYTES);
        covered = end;
      } else covered = Math.max(covered, end);
    }
    if (covered < hold) parts.push(work.subarray(covered, hold));
    coveredAhead = Math.max(0, covered - hold);
    const [only] = parts;
    return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts);
  }

  function keepRuns(hold: number): void {
    runState.word = "none";
    runState.url = "none";
    for (const { value, start, end, masked } of runs) {
      if (start > hold || end < hold || (end === hold && hold < to && start < hold)) continue;
      runState[value] = masked || start < hold ? "open" : "armed";
    }
  }

  function step(chunk: Uint8Array, final: boolean): Buffer {
    take(chunk);
    stretches.length = 0;
    runs.length = 0;
    furthest.word = 0;
    furthest.url = 0;
    resumeRuns();
    const hold = search(final);
    const decided = compose(hold, final);
    keepRuns(hold);
    base = Math.max(base, hold - lookBehindBytes);
    from = hold;
    return decided;
  }

  return {
    push: (chunk) => step(chunk, false),
    flush() {
      const rest = step(NOTHING, true);
      base = to;
      coveredAhead = 0;
      runState.word = "none";
      runState.url = "none";
      return rest;
    },
    get held() {
      return to - from;
    },
    state: () => ({ behind: from - base, covered: coveredAhead, ...runState }),
  };
}
