/** What the mask looks for, compiled for a search that skips over text which cannot match. */

/**
 * Query parameters whose value is a secret whoever made it, matched without regard to case after `?` or `&`. The search
 * stops at their marks, which they share and which are rare in text.
 */
const URL_KEYS = [
  { mark: "token=", text: "private_token=" },
  { mark: "token=", text: "authenticity_token=" },
  { mark: "token=", text: "rss_token=" },
  { mark: "x-amz-", text: "x-amz-signature=" },
  { mark: "x-amz-", text: "x-amz-credential=" },
  { mark: "x-amz-", text: "x-amz-security-token=" },
] as const;

/** Personal access tokens of GitLab begin with this. The other kinds of its tokens: `token-prefixes.ts`. */
const DEFAULT_PREFIX = "glpat-";
const MIN_PREFIX_BYTES = 3;
const MAX_PREFIX_BYTES = 64;

/** All secrets are at least this long, and found by this many first bytes. */
const KEY_BYTES = 4;

/** A key that stays visible while the word or value after it is masked. */
export interface Key {
  /** Where the key begins, relative to the mark that was found. */
  readonly offset: number;
  readonly text: Buffer;
  readonly ignoreCase: boolean;
  readonly value: "word" | "url";
}

export interface Patterns {
  /** Bytes of the window that the search compares at each step. */
  readonly windowBytes: number;
  /** By the last two bytes of the window: how far it can move on. 0: something may begin here. */
  readonly shift: Uint8Array;
  /** How much text before a position must stay in reach so that a key that ends there is recognised. */
  readonly lookBehindBytes: number;
  /**
   * Secrets that begin at `at` in `text[..to)`: the length of the longest whole one, 0 for none, -1 when a longer one
   * may still be completed by bytes to come (never if `final`).
   */
  matchSecret(text: Buffer, at: number, to: number, final: boolean): number;
  /** The keys whose mark begins with this byte. */
  keysAt(byte: number): readonly Key[];
}

const NO_KEYS: readonly Key[] = [];

/** @param forms secrets and their disguises, each at least 4 bytes long */
export function compilePatterns(forms: readonly Buffer[], tokenPrefixes: readonly string[] = []): Patterns {
  const secrets = [...forms].sort(Buffer.compare);
  const keys = new Map<number, Key[]>();
  const marks: { bytes: Buffer; ignoreCase: boolean }[] = [];
  let lookBehindBytes = 0;
  const addKey = (mark: string, key: Key): void => {
    const bytes = Buffer.from(mark);
    marks.push({ bytes, ignoreCase: key.ignoreCase });
    const first = bytes[0] ?? 0;
    for (const start of key.ignoreCase ? bothCases(first) : [first]) {
      const same = keys.get(start);
      if (same === undefined) keys.set(start, [key]);
      else same.push(key);
    }
    lookBehindBytes = Math.max(lookBehindBytes, key.text.length + 1);
  };
  for (const { mark, text } of URL_KEYS) {
    addKey(mark, { offset: -text.indexOf(mark), text: Buffer.from(text), ignoreCase: true, value: "url" });
  }
  for (const prefix of new Set([DEFAULT_PREFIX, ...tokenPrefixes])) {
    const text = Buffer.from(prefix);
    if (text.length < MIN_PREFIX_BYTES || text.length > MAX_PREFIX_BYTES) continue;
    addKey(prefix, { offset: 0, text, ignoreCase: false, value: "word" });
  }
  const windowBytes = [...secrets, ...marks.map((mark) => mark.bytes)].reduce(
    (least, bytes) => Math.min(least, bytes.length),
    16,
  );
  const shift = new Uint8Array(65_536).fill(windowBytes - 1);
  const mayStand = (bytes: Buffer, ignoreCase: boolean): void => {
    for (let index = 0; index + 1 < windowBytes; index++) {
      const [high, low] = [bytes[index] ?? 0, bytes[index + 1] ?? 0];
      for (const first of ignoreCase ? bothCases(high) : [high]) {
        for (const second of ignoreCase ? bothCases(low) : [low]) {
          const block = (first << 8) | second;
          shift[block] = Math.min(shift[block] ?? 0, windowBytes - 2 - index);
        }
      }
    }
  };
  for (const secret of secrets) mayStand(secret, false);
  for (const mark of marks) mayStand(mark.bytes, mark.ignoreCase);

  return {
    windowBytes,
    shift,
    lookBehindBytes,
    matchSecret: compileSecrets(secrets),
    keysAt: (byte) => keys.get(byte) ?? NO_KEYS,
  };
}

function bothCases(byte: number): number[] {
  const letter = (byte >= 65 && byte <= 90) || (byte >= 97 && byte <= 122);
  return letter ? [byte & ~32, byte | 32] : [byte];
}

/** Sorted secrets, found by a hash over their first four bytes and then by bisection. */
function compileSecrets(secrets: readonly Buffer[]): Patterns["matchSecret"] {
  const pool = Buffer.concat(secrets);
  const starts = new Int32Array(secrets.length + 1);
  /** The longest other secret that a secret begins with, or -1. */
  const beginsWith = new Int32Array(secrets.length).fill(-1);
  for (const [index, secret] of secrets.entries()) {
    starts[index + 1] = (starts[index] ?? 0) + secret.length;
    let shorter = index - 1;
    while (shorter >= 0 && !secret.subarray(0, secrets[shorter]?.length).equals(secrets[shorter] ?? secret)) {
      shorter = beginsWith[shorter] ?? -1;
    }
    beginsWith[index] = shorter;
  }
  let bits = 4;
  while (1 << bits < secrets.length * 4) bits++;
  const slotOf = (key: number): number => Math.imul(key, 0x9e3779b1) >>> (32 - bits);
  const groupKey = new Int32Array(1 << bits);
  const groupFrom = new Int32Array(1 << bits).fill(-1);
  const groupTo = new Int32Array(1 << bits);
  /** First bytes of secrets, by how many are known: 1, 2 or 3. */
  const begins = [new Set<number>(), new Set<number>(), new Set<number>()] as const;
  for (const [index, secret] of secrets.entries()) {
    const key = secret.readInt32BE(0);
    begins[0].add(secret.readUIntBE(0, 1));
    begins[1].add(secret.readUIntBE(0, 2));
    begins[2].add(secret.readUIntBE(0, 3));
    let slot = slotOf(key);
    while ((groupFrom[slot] ?? -1) >= 0 && groupKey[slot] !== key) slot = (slot + 1) & ((1 << bits) - 1);
    if ((groupFrom[slot] ?? -1) < 0) {
      groupKey[slot] = key;
      groupFrom[slot] = index;
    }
    groupTo[slot] = index + 1;
  }

  /** Order of secret `index` and the text over the bytes that both have: negative, 0 or positive. */
  const compare = (index: number, text: Buffer, at: number, to: number): number => {
    const start = starts[index] ?? 0;
    const length = Math.min((starts[index + 1] ?? 0) - start, to - at);
    const near = Math.min(length, 32);
    for (let same = KEY_BYTES; same < near; same++) {
      const difference = (pool[start + same] ?? 0) - (text[at + same] ?? 0);
      if (difference !== 0) return difference;
    }
    return near === length ? 0 : pool.compare(text, at + near, at + length, start + near, start + length);
  };

  return (text, at, to, final) => {
    const length = to - at;
    if (length < KEY_BYTES) {
      if (final) return 0;
      const known = length === 1 ? begins[0] : length === 2 ? begins[1] : begins[2];
      return length > 0 && known.size > 0 && known.has(text.readUIntBE(at, length)) ? -1 : 0;
    }
    const key =
      ((text[at] ?? 0) << 24) | ((text[at + 1] ?? 0) << 16) | ((text[at + 2] ?? 0) << 8) | (text[at + 3] ?? 0);
    let slot = slotOf(key);
    for (; ; slot = (slot + 1) & ((1 << bits) - 1)) {
      if ((groupFrom[slot] ?? -1) < 0) return 0;
      if (groupKey[slot] === key) break;
    }
    let low = groupFrom[slot] ?? 0;
    let high = groupTo[slot] ?? 0;
    const first = low;
    // The first secret that sorts after the text: all that the text begins with sort before it.
    let begun = false;
    while (low < high) {
      const middle = (low + high) >> 1;
      const order = compare(middle, text, at, to);
      const longer = (starts[middle + 1] ?? 0) - (starts[middle] ?? 0) > length;
      if (order > 0 || (order === 0 && longer)) {
        high = middle;
        begun = order === 0;
      } else low = middle + 1;
    }
    if (begun && !final) return -1;
    for (let index = low - 1; index >= first; index = beginsWith[index] ?? -1) {
      const size = (starts[index + 1] ?? 0) - (starts[index] ?? 0);
      if (size <= length && compare(index, text, at, to) === 0) return size;
    }
    return 0;
  };
}
