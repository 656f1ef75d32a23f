import type { EntryTable, EntryValue } from "../../executor/words.ts";

/** Values → TOML text, for the entries that `register` adds. */

/** A basic string on one line. JSON's escapes are TOML's, but for DEL and halves of surrogate pairs. */
function tomlString(text: string): string {
  return JSON.stringify(text.toWellFormed()).replaceAll("\x7f", "\\u007f");
}

function tomlKey(key: string): string {
  return /^[A-Za-z0-9_-]+$/.test(key) ? key : tomlString(key);
}

/** On one line: `{ name = "a", docker = { image = "b" } }`. Keys that are `undefined` are left out, here and below. */
export function inlineToml(value: EntryValue): string {
  if (typeof value === "string") return tomlString(value);
  // Whole seconds, as GitLab Runner writes them.
  if (value instanceof Date) return `${value.toISOString().slice(0, 19)}Z`;
  if (isList(value)) return `[${value.map(inlineToml).join(", ")}]`;
  if (typeof value === "object") {
    const pairs = Object.entries(value).flatMap(([key, each]) =>
      each === undefined ? [] : [`${tomlKey(key)} = ${inlineToml(each)}`],
    );
    return pairs.length === 0 ? "{}" : `{ ${pairs.join(", ")} }`;
  }
  if (typeof value === "boolean" || Number.isSafeInteger(value)) return String(value);
  if (!Number.isFinite(value)) return String(value).replace("Infinity", "inf").replace("NaN", "nan");
  const text = String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

/** Lines of a table below `header` and of its tables, two blanks deeper for each level. */
export function tableLines(header: string, table: EntryTable, list: boolean): string[] {
  const depth = header.split(".").length - 1;
  const lines = [`${"  ".repeat(depth)}${list ? `[[${header}]]` : `[${header}]`}`];
  const tables: string[] = [];
  for (const [key, value] of Object.entries(table)) {
    if (value === undefined) continue;
    const below = `${header}.${tomlKey(key)}`;
    if (isTable(value)) tables.push(...tableLines(below, value, false));
    else if (isList(value) && value.length > 0 && value.every(isTable)) {
      for (const each of value) if (isTable(each)) tables.push(...tableLines(below, each, true));
    } else lines.push(`${"  ".repeat(depth + 1)}${tomlKey(key)} = ${inlineToml(value)}`);
  }
  return [...lines, ...tables];
}

function isList(value: EntryValue): value is readonly EntryValue[] {
  return Array.isArray(value);
}

function isTable(value: EntryValue): value is EntryTable {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);
}
