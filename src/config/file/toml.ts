import { parse } from "@iarna/toml";
import { ConfigError } from "../../errors.ts";
import { type Layout, readLayout } from "./layout.ts";

/** A TOML value without the parser's own marks; tables have no prototype, so that no key name is special. */
export type TomlData = string | number | bigint | boolean | Date | readonly TomlData[] | TomlTable;
export interface TomlTable {
  readonly [key: string]: TomlData;
}

export interface TomlDocument {
  readonly data: TomlTable;
  readonly layout: Layout;
  readonly text: string;
}

/** The parser needs about 0.1 s for each MiB, for odd contents 0.4 s; thousands of entries fit. */
export const LARGEST_FILE_BYTES = 2 * 1024 * 1024;

export function isTable(value: unknown): value is TomlTable {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/**
 * Read TOML.
 * @param file named in messages
 * @throws {ConfigError} naming file and line; never quoting the text, which holds tokens
 */
export function readToml(original: string, file: string): TomlDocument {
  // Line breaks of a CRLF file would end up inside multi-line scripts, where a shell stumbles over them.
  const text = original.replace(/^\uFEFF/, " ").replaceAll("\r\n", "\n");
  const fail = (line: number, problem: string): ConfigError =>
    new ConfigError(`${file}:${line}: ${problem}`, {
      file,
      line,
      problems: [{ place: `${file}:${line}`, text: problem }],
    });

  const nul = text.indexOf("\0");
  const layout = readLayout(text);
  if (nul >= 0) throw fail(layout.lineAt(nul), "a NUL byte. The file must be plain text in UTF-8");
  if (layout.excess !== null) throw fail(layout.lineAt(layout.excess.offset), layout.excess.text);
  try {
    return { data: plainTable(parse(text)), layout, text };
  } catch (error) {
    const { trouble } = layout;
    const where = errorLine(error);
    // An open quote or bracket shows where it began; the parser names the place where it gave up.
    if (trouble !== null && (where === undefined || layout.lineAt(trouble.offset) <= where)) {
      throw fail(layout.lineAt(trouble.offset), `not valid TOML: ${trouble.text}`);
    }
    const said = error instanceof Error ? error.message.replace(/ at row \d[\s\S]*$/, "") : String(error);
    const again = /redefine/.test(said);
    throw fail(
      where ?? 1,
      again ? "not valid TOML: this key or table was already set above. Keep one of them" : `not valid TOML: ${said}`,
    );
  }
}

/** The parser counts rows from 0. */
function errorLine(error: unknown): number | undefined {
  if (typeof error !== "object" || error === null || !("line" in error)) return undefined;
  return typeof error.line === "number" ? error.line + 1 : undefined;
}

function plainTable(table: object): TomlTable {
  const result: Record<string, TomlData> = Object.create(null);
  for (const [key, value] of Object.entries(table)) result[key] = plain(value);
  return result;
}

function plain(value: unknown): TomlData {
  if (typeof value === "string" || typeof value === "boolean" || typeof value === "bigint") return value;
  if (typeof value === "number" || value instanceof Date) return value;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value === "object" && value !== null) return plainTable(value);
  throw new TypeError(`TOML parser returned ${typeof value}`);
}

/** `value` as text in which only content matters: keys sorted, dates and large integers as text. */
export function canonicalText(value: TomlData): string {
  if (Array.isArray(value)) return `[${value.map(canonicalText).join(",")}]`;
  if (isTable(value)) {
    const parts = Object.keys(value).sort();
    return `{${parts.map((key) => `${JSON.stringify(key)}:${canonicalText(value[key] ?? "")}`).join(",")}}`;
  }
  if (typeof value === "bigint") return `${value}`;
  // An invalid Date has no JSON.
  if (value instanceof Date) return `"${value.getTime()}"`;
  return typeof value === "number" ? String(value) : JSON.stringify(value);
}
