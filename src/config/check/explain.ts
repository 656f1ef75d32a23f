import type { z } from "zod";
import { nearest } from "./keys.ts";

/** Where in a table: keys and indexes. */
export type Path = readonly PropertyKey[];

/** A key as messages show it. */
export function keyText(key: string): string {
  return /^[\w-]{1,80}$/.test(key) ? key : JSON.stringify(key.slice(0, 80));
}

const SECRET_KEY = /token|password|secret|credential|access_?key|dsn|auth|environment|url|script/i;

const EXPECTED: Readonly<Record<string, string>> = {
  string: "text in quotes",
  number: "a number",
  int: "a whole number",
  boolean: "true or false",
  array: "a list in [ ]",
  object: "a table",
  record: "a table",
};

/** What was expected, what was found, what to write instead. `issue.message` is empty unless the schema has words of its own. */
export function explainIssue(issue: z.core.$ZodIssue, value: unknown): string {
  const secret = issue.path.some((step) => SECRET_KEY.test(String(step)));
  const found = secret && typeof value === "string" ? "another text" : describe(value);
  switch (issue.code) {
    case "invalid_type": {
      if (value === undefined) return `is missing. Expected ${EXPECTED[issue.expected] ?? issue.expected}`;
      return `expected ${EXPECTED[issue.expected] ?? issue.expected}, found ${found}${advice(issue.path, [issue.expected], value, secret)}`;
    }
    case "invalid_union": {
      const kinds = issue.errors.flat().flatMap((error) => (error.code === "invalid_type" ? [error.expected] : []));
      const values = issue.errors.flat().flatMap((error) => (error.code === "invalid_value" ? error.values : []));
      if (kinds.length === 0 && values.length > 0) return explainChoice(values.map(String), value, found);
      const names = [...new Set(kinds.map((kind) => EXPECTED[kind] ?? kind))];
      const wanted = names.length === 0 ? "something else" : names.join(" or ");
      return `expected ${wanted}, found ${found}${advice(issue.path, kinds, value, secret)}`;
    }
    case "too_small":
      if (issue.message !== "") return `${issue.message}, found ${found}`;
      return `expected ${issue.origin === "string" || issue.origin === "array" ? "a length of " : ""}at least ${issue.minimum}, found ${found}`;
    case "too_big":
      if (issue.message !== "") return `${issue.message}, found ${found}`;
      return `expected ${issue.origin === "string" || issue.origin === "array" ? "a length of " : ""}at most ${issue.maximum}, found ${found}`;
    case "invalid_value":
      return explainChoice(issue.values.map(String), value, found);
    case "unrecognized_keys":
      return `has unknown keys: ${issue.keys.map(keyText).join(", ")}`;
    default: {
      const names: unknown = "params" in issue ? issue.params?.names : undefined;
      const words = Array.isArray(names) ? names.map(String) : [];
      const shown = secret || value === undefined || typeof value === "object" ? "" : `, found ${found}`;
      return `${issue.message}${shown}${guess(value, words)}`;
    }
  }
}

/** An empty text, where it is allowed, is no choice that anybody wants to hear of. */
function explainChoice(all: readonly string[], value: unknown, found: string): string {
  const values = all.filter((each) => each !== "");
  const wanted = values.map((each) => JSON.stringify(each)).join(", ");
  return `expected one of ${wanted}, found ${found}${guess(value, values)}`;
}

function guess(value: unknown, words: readonly string[]): string {
  const meant = typeof value === "string" ? nearest(value, words) : undefined;
  return meant === undefined ? "" : `. Did you mean "${meant}"?`;
}

/** How to write what was probably meant, as a sentence to append; empty where that is not clear. */
export function advice(path: Path, kinds: readonly string[], value: unknown, secret: boolean): string {
  if (secret) return "";
  const key = path.at(-1);
  const name = typeof key === "string" ? `${keyText(key)} = ` : "";
  const wants = (...names: string[]): boolean => kinds.some((kind) => names.includes(kind));
  if (typeof value === "string" && wants("number", "int") && /^-?\d{1,15}$/.test(value))
    return `. Write ${name}${value}`;
  if (typeof value === "string" && wants("boolean") && /^(true|false)$/i.test(value)) {
    return `. Write ${name}${value.toLowerCase()}`;
  }
  if (typeof value === "string" && wants("array") && value.length <= 60)
    return `. Write ${name}[${JSON.stringify(value)}]`;
  if ((typeof value === "number" || typeof value === "boolean") && wants("string")) return `. Write ${name}"${value}"`;
  return "";
}

/** A value as messages show it. */
export function describe(value: unknown): string {
  if (typeof value === "string") {
    return `the text ${JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value)}`;
  }
  if (Array.isArray(value)) return "a list";
  if (value instanceof Date) return "a date";
  if (typeof value === "object" && value !== null) return "a table";
  return String(value);
}
