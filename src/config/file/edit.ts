import type { EntryTable } from "../../executor/words.ts";
import { type Layout, readLayout, type Section } from "./layout.ts";
import { type ArrayNode, childOf, type LayoutNode } from "./layout-node.ts";
import { inlineToml, tableLines } from "./toml-text.ts";

/** Changes to the text of config.toml that leave every other byte as it is. Pure. */

/** `text` with one more entry behind all others, spelled and broken into lines as the rest of the file. */
export function appendEntry(text: string, entry: EntryTable): string {
  const { root } = readLayout(text);
  const runners = childOf(root, "runners");
  if (runners?.kind === "array" && runners.inline) return insertInline(text, runners, inlineToml(entry));
  const eol = /\r?\n/.exec(text)?.[0] ?? "\n";
  const name = [...root.keys.keys()].find((key) => key.toLowerCase() === "runners") ?? "runners";
  const block = tableLines(name, entry, true).join(eol) + eol;
  if (/^\uFEFF?\s*$/.test(text))
    return `${text.startsWith("\uFEFF") ? "\uFEFF" : ""}concurrent = 1${eol}${eol}${block}`;
  const ended = text.endsWith("\n") ? text : text + eol;
  return ended + (/\n\r?\n$/.test(ended) ? "" : eol) + block;
}

function insertInline(text: string, list: ArrayNode, item: string): string {
  const last = list.items.at(-1);
  return last === undefined
    ? `${text.slice(0, list.start + 1)}${item}${text.slice(list.start + 1)}`
    : `${text.slice(0, last.end)}, ${item}${text.slice(last.end)}`;
}

/**
 * `text` without the entries of these indexes: their tables, the comments among their keys, and the comment lines
 * directly above their headers. Comments with a blank line before and after belong to nobody and stay, as does a comment
 * that opens the file.
 */
export function removeEntries(text: string, indexes: ReadonlySet<number>): string {
  const layout = readLayout(text);
  const runners = childOf(layout.root, "runners");
  if (runners?.kind !== "array") return text;
  if (runners.inline) return removeInline(text, runners, indexes);
  const doomed = new Set<LayoutNode>(runners.items.filter((_, index) => indexes.has(index)));
  const ranges: { start: number; end: number; of: LayoutNode }[] = [];
  for (const [index, section] of layout.sections.entries()) {
    const of = section.trail.find((node) => doomed.has(node));
    if (of === undefined) continue;
    const previous = ranges.at(-1);
    const end = endOf(text, section, layout.sections[index + 1]);
    const continues = layout.sections[index - 1]?.trail.includes(of);
    if (previous !== undefined && previous.of === of && continues) previous.end = end;
    else ranges.push({ start: startOf(text, layout, index), end, of });
  }
  let result = text;
  for (const { start, end } of ranges.reverse()) result = cut(result, start, end);
  return result;
}

/** Start of the comment lines directly above a header, or of the header itself. */
function startOf(text: string, layout: Layout, index: number): number {
  const section = layout.sections[index];
  if (section === undefined) return text.length;
  const floor = layout.sections[index - 1]?.contentEnd ?? layout.headEnd;
  let start = section.start;
  while (start > floor) {
    const lineStart = text.lastIndexOf("\n", start - 2) + 1;
    if (lineStart < floor || !/^[\uFEFF \t]*#/.test(text.slice(lineStart, start))) break;
    start = lineStart;
  }
  const opensFile = index === 0 && layout.headEnd === 0 && /^\uFEFF?\s*$/.test(text.slice(0, start));
  return opensFile ? Math.max(section.start, text.startsWith("\uFEFF") ? 1 : 0) : start;
}

/** End of the section's keys and of comment lines directly below them, unless those lead on to the next header. */
function endOf(text: string, section: Section, next: Section | undefined): number {
  let end = section.contentEnd;
  for (;;) {
    if (next !== undefined && end >= next.start) return section.contentEnd;
    const found = text.indexOf("\n", end);
    const lineEnd = found < 0 ? text.length : found + 1;
    if (end >= text.length || !/^[ \t]*#/.test(text.slice(end, lineEnd))) return end;
    end = lineEnd;
  }
}

/** Cut, and let only one run of blank lines remain where there were two. */
function cut(text: string, start: number, end: number): string {
  const before = text.slice(0, start);
  const after = text.slice(end).replace(/^(?:[ \t]*\r?\n)+/, "");
  if (after.trim() !== "") return before + after;
  return before.replace(/(\r?\n)(?:[ \t]*\r?\n)+$/, "$1");
}

function removeInline(text: string, list: ArrayNode, indexes: ReadonlySet<number>): string {
  let result = text;
  const left = list.items.map((_, index) => index).filter((index) => !indexes.has(index));
  if (left.length === 0) return `${text.slice(0, list.start)}[]${text.slice(list.end)}`;
  for (let index = list.items.length - 1; index >= 0; index--) {
    const item = list.items[index];
    if (item === undefined || !indexes.has(index)) continue;
    const next = list.items[index + 1];
    const previous = list.items[index - 1];
    // Offsets right of this item are not needed any more: the loop goes leftwards.
    if (previous !== undefined) result = result.slice(0, previous.end) + result.slice(item.end);
    else if (next !== undefined) result = result.slice(0, item.start) + result.slice(next.start);
  }
  return result;
}

/**
 * `text` with these keys in the entry of this index: a value that is there is replaced where it stands, a key that is not comes
 * behind the line of the entry's token.
 */
export function setKeys(text: string, index: number, keys: EntryTable): string {
  // From the last one on: each new key comes directly behind the token, and they stand in order in the end.
  return Object.entries(keys).reduceRight(
    (edited, [key, value]) => (value === undefined ? edited : setKey(edited, index, { key, value: inlineToml(value) })),
    text,
  );
}

function setKey(text: string, index: number, { key, value }: { readonly key: string; readonly value: string }): string {
  const runners = childOf(readLayout(text).root, "runners");
  const entry = runners?.kind === "array" ? runners.items[index] : undefined;
  if (runners?.kind !== "array" || entry?.kind !== "table") return text;
  const old = childOf(entry, key);
  if (old !== undefined) return text.slice(0, old.start) + value + text.slice(old.end);
  const token = childOf(entry, "token");
  if (token === undefined) return text;
  if (runners.inline) return `${text.slice(0, token.end)}, ${key} = ${value}${text.slice(token.end)}`;
  const eol = /\r?\n/.exec(text)?.[0] ?? "\n";
  const indent = /[ \t]*$/.exec(text.slice(0, token.at))?.[0] ?? "";
  const found = text.indexOf("\n", token.end);
  const line = `${indent}${key} = ${value}${eol}`;
  if (found < 0) return `${text}${eol}${line}`;
  return text.slice(0, found + 1) + line + text.slice(found + 1);
}
