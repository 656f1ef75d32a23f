import { ScriptFailure } from "../../errors.ts";

/** `$NAME` in variables, image names and cache keys, as Go's `os.Expand` reads it: that is what jobs were written for. */

/** Longest value that an expansion may make; `$A` repeated in a long value would otherwise grow without bound. */
export const LONGEST_EXPANSION = 1024 * 1024;
/** Longest path, key, name or address with its variables in place. */
export const LONGEST_EXPANDED_NAME = 8192;

/** One reference in a text, or the literal text between two. */
export type Piece = { readonly text: string } | { readonly name: string };

const SPECIAL = /^[*#$@!?0-9-]$/;
const NAME = /[A-Za-z0-9_]+/y;

/**
 * Split `text` at its references. `$$` is a dollar, other special names (`$1`, `$?`) and broken braces (`${}`, `${`) are
 * nothing, `${A:-d}` is a variable of that whole name, and a `$` that begins no name stays.
 */
export function parseReferences(text: string): Piece[] {
  const pieces: Piece[] = [];
  let literalStart = 0;
  // Where no brace closes any more there is no need to look for one again: keeps hostile text linear.
  let lastBrace: number | undefined;
  for (let dollar = text.indexOf("$"); dollar >= 0; dollar = text.indexOf("$", dollar)) {
    const start = dollar + 1;
    let name = "";
    let end = start;
    if (text[start] === "{") {
      lastBrace ??= text.lastIndexOf("}");
      const close = lastBrace > start ? text.indexOf("}", start) : -1;
      name = close < 0 ? "" : text.slice(start + 1, close);
      end = close < 0 ? start + 1 : close + 1;
    } else if (SPECIAL.test(text[start] ?? "")) {
      name = text[start] ?? "";
      end = start + 1;
    } else {
      NAME.lastIndex = start;
      name = NAME.exec(text)?.[0] ?? "";
      end = start + name.length;
    }
    if (end > start) {
      if (dollar > literalStart) pieces.push({ text: text.slice(literalStart, dollar) });
      if (name === "$") pieces.push({ text: "$" });
      else if (name !== "" && !SPECIAL.test(name)) pieces.push({ name });
      literalStart = end;
    }
    dollar = end;
  }
  if (literalStart < text.length) pieces.push({ text: text.slice(literalStart) });
  return pieces;
}

/** Replace each reference by `lookup(name)`. Cut at `LONGEST_EXPANSION` characters. */
export function expandReferences(text: string, lookup: (name: string) => string): string {
  if (!text.includes("$")) return text;
  let result = "";
  for (const piece of parseReferences(text)) {
    result += "text" in piece ? piece.text : lookup(piece.name);
    if (result.length > LONGEST_EXPANSION) return result.slice(0, LONGEST_EXPANSION);
  }
  return result;
}

/**
 * `expandReferences` for what names something: an image, a path, a cache.
 * @throws {ScriptFailure} it becomes too long; names the variable that makes it so
 */
export function expandName(text: string, lookup: (name: string) => string): string {
  if (text.length <= LONGEST_EXPANDED_NAME && !text.includes("$")) return text;
  let result = "";
  let largest = { name: "", length: 0 };
  for (const piece of parseReferences(text)) {
    const part = "text" in piece ? piece.text : lookup(piece.name);
    if ("name" in piece && part.length > largest.length) largest = { name: piece.name, length: part.length };
    result += part;
    if (result.length <= LONGEST_EXPANDED_NAME) continue;
    const shown = JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
    const culprit =
      largest.name === "" ? "" : `: the variable ${largest.name.slice(0, 100)} has ${largest.length} characters`;
    throw new ScriptFailure(
      `${shown} is longer than ${LONGEST_EXPANDED_NAME} characters with its variables in place${culprit}`,
    );
  }
  return result;
}
