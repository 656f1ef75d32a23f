/**
 * Patterns over names of files, as `.gitlab-ci.yml` has them: `*`, `?`, `[a-z]`, `[^a]`, `{a,b}`, `\x` for a literal x, and
 * `**` for any number of directories. Matching is linear in patterns and, per segment, in the product of both lengths.
 */

/** One segment between slashes. */
export type Segment =
  | { readonly kind: "literal"; readonly name: string }
  | { readonly kind: "any depth" }
  | { readonly kind: "pattern"; readonly tokens: readonly Token[] };

type Token =
  | { readonly token: "char"; readonly char: string }
  | { readonly token: "one" }
  | { readonly token: "some" }
  | { readonly token: "class"; readonly not: boolean; readonly ranges: readonly (readonly [string, string])[] };

/** Names and patterns are text here: UTF-8 where it is, else a character per byte. */
function textOf(name: string): string {
  if (/^[\x00-\x7f]*$/.test(name)) return name;
  const text = Buffer.from(name, "latin1").toString();
  return text.includes("\ufffd") ? name : text;
}

/** @param text one segment of a pattern, bytes as characters */
export function parseSegment(text: string): Segment {
  if (text === "**") return { kind: "any depth" };
  const tokens: Token[] = [];
  const chars = [...textOf(text)];
  for (let i = 0; i < chars.length; i++) {
    const char = chars[i] ?? "";
    if (char === "\\" && i + 1 < chars.length) tokens.push({ token: "char", char: chars[++i] ?? "" });
    else if (char === "*") {
      if (tokens.at(-1)?.token !== "some") tokens.push({ token: "some" });
    } else if (char === "?") tokens.push({ token: "one" });
    else if (char === "[") {
      const found = parseClass(chars, i);
      if (found === null) tokens.push({ token: "char", char });
      else {
        tokens.push(found.token);
        i = found.end;
      }
    } else tokens.push({ token: "char", char });
  }
  const literal = tokens.every(({ token }) => token === "char");
  if (!literal) return { kind: "pattern", tokens };
  const name = tokens.map((token) => (token.token === "char" ? token.char : "")).join("");
  return { kind: "literal", name: textOf(text) === text ? name : Buffer.from(name).toString("latin1") };
}

function parseClass(chars: readonly string[], open: number): { token: Token; end: number } | null {
  let i = open + 1;
  const not = chars[i] === "^" || chars[i] === "!";
  if (not) i++;
  const ranges: [string, string][] = [];
  for (let first = true; i < chars.length; first = false) {
    let char = chars[i] ?? "";
    if (char === "]" && !first) return { token: { token: "class", not, ranges }, end: i };
    if (char === "\\") char = chars[++i] ?? "";
    if (chars[i + 1] === "-" && chars[i + 2] !== undefined && chars[i + 2] !== "]") {
      ranges.push([char, chars[i + 2] ?? char]);
      i += 3;
    } else {
      ranges.push([char, char]);
      i++;
    }
  }
  return null;
}

function fits(token: Token, char: string): boolean {
  switch (token.token) {
    case "char":
      return token.char === char;
    case "class": {
      const code = char.codePointAt(0) ?? 0;
      const inside = token.ranges.some(
        ([from, to]) => code >= (from.codePointAt(0) ?? 0) && code <= (to.codePointAt(0) ?? 0),
      );
      return inside !== token.not;
    }
    default:
      return true;
  }
}

/** Does one name fit one segment? `**` fits any. */
export function fitsSegment(segment: Segment, name: string): boolean {
  if (segment.kind === "any depth") return true;
  if (segment.kind === "literal") return segment.name === name;
  const { tokens } = segment;
  const chars = [...textOf(name)];
  let [t, c] = [0, 0];
  // Only the last star has to be tried again: what an earlier one took before is enough.
  let [starToken, starChar] = [-1, 0];
  while (c < chars.length) {
    const token = tokens[t];
    if (token?.token === "some") [starToken, starChar, t] = [t, c, t + 1];
    else if (token !== undefined && fits(token, chars[c] ?? "")) [t, c] = [t + 1, c + 1];
    else if (starToken >= 0) [t, c, starChar] = [starToken + 1, starChar + 1, starChar + 1];
    else return false;
  }
  while (tokens[t]?.token === "some") t++;
  return t === tokens.length;
}

/** Does a whole path fit? In time that grows with the product of both numbers of segments. */
export function fitsPath(segments: readonly Segment[], path: readonly string[]): boolean {
  let reached = new Set([0]);
  const open = (from: Set<number>): Set<number> => {
    for (const at of from) if (segments[at]?.kind === "any depth") from.add(at + 1);
    return from;
  };
  open(reached);
  for (const name of path) {
    const next = new Set<number>();
    for (const at of reached) {
      const segment = segments[at];
      if (segment === undefined) continue;
      if (segment.kind === "any depth") next.add(at);
      else if (fitsSegment(segment, name)) next.add(at + 1);
    }
    reached = open(next);
    if (reached.size === 0) return false;
  }
  return reached.has(segments.length);
}
