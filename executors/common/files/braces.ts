/**
 * Expands `a{b,c}` in patterns. A pattern is parsed once, so that its alternatives can be counted before any of them is
 * made.
 */

/** Alternatives of one pattern, and of all patterns of one list together. */
export const MOST_ALTERNATIVES = 1000;
/** A pattern as it is written. */
export const LONGEST_PATTERN = 8192;
/** The characters that all alternatives may have together. */
export const MOST_ALTERNATIVE_CHARACTERS = 1024 * 1024;
/** How deep braces may lie within braces. */
const DEEPEST_BRACES = 32;

/** Text, or one of several sequences. */
type Part = string | readonly Sequence[];
type Sequence = readonly Part[];

/** How many texts there are, and how long they are together; each part counts as one character at least. */
interface Extent {
  readonly count: number;
  readonly characters: number;
}

/** The first alternative comes first. A brace that is not closed, and all after it, is text. @returns `null` for too many */
export function expandBraces(pattern: string): string[] | null {
  if (pattern.length > LONGEST_PATTERN || isTooDeep(pattern)) return null;
  const sequence = parse(pattern, 0, pattern.length);
  const { count, characters } = extentOf(sequence);
  return count > MOST_ALTERNATIVES || characters > MOST_ALTERNATIVE_CHARACTERS ? null : textsOf(sequence);
}

function parse(text: string, from: number, to: number): Sequence {
  const closing = closings(text, from, to);
  const parts: Part[] = [];
  let start = from;
  for (let i = from; i < to; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === "{") {
      const end = closing.get(i);
      if (end === undefined) break;
      if (i > start) parts.push(text.slice(start, i));
      parts.push(alternatives(text, i + 1, end));
      i = end;
      start = end + 1;
    }
  }
  if (start < to) parts.push(text.slice(start, to));
  return parts;
}

function isTooDeep(text: string): boolean {
  let depth = 0;
  for (let i = 0; i < text.length && depth <= DEEPEST_BRACES; i++) {
    const char = text[i];
    if (char === "\\") i++;
    else if (char === "{") depth++;
    else if (char === "}" && depth > 0) depth--;
  }
  return depth > DEEPEST_BRACES;
}

/** Where each outermost brace that is closed ends. */
function closings(text: string, from: number, to: number): ReadonlyMap<number, number> {
  const found = new Map<number, number>();
  let depth = 0;
  let open = 0;
  for (let i = from; i < to; i++) {
    const char = text[i];
    if (char === "\\") i++;
    else if (char === "{" && depth++ === 0) open = i;
    else if (char === "}" && depth > 0 && --depth === 0) found.set(open, i);
  }
  return found;
}

function alternatives(text: string, from: number, to: number): Sequence[] {
  const found: Sequence[] = [];
  let depth = 0;
  let start = from;
  for (let i = from; i < to; i++) {
    const char = text[i];
    if (char === "\\") i++;
    else if (char === "{") depth++;
    else if (char === "}") depth--;
    else if (char === "," && depth === 0) {
      found.push(parse(text, start, i));
      start = i + 1;
    }
  }
  found.push(parse(text, start, to));
  return found;
}

function extentOf(sequence: Sequence): Extent {
  let all: Extent = { count: 1, characters: 0 };
  for (const part of sequence) {
    const its = typeof part === "string" ? { count: 1, characters: part.length + 1 } : sum(part.map(extentOf));
    all = { count: all.count * its.count, characters: all.characters * its.count + its.characters * all.count };
  }
  return all;
}

function sum(extents: readonly Extent[]): Extent {
  return extents.reduce((a, b) => ({ count: a.count + b.count, characters: a.characters + b.characters }), {
    count: 0,
    characters: 1,
  });
}

function textsOf(sequence: Sequence): string[] {
  return sequence.reduce<string[]>(
    (heads, part) => {
      const tails = typeof part === "string" ? [part] : part.flatMap(textsOf);
      return heads.flatMap((head) => tails.map((tail) => head + tail));
    },
    [""],
  );
}
