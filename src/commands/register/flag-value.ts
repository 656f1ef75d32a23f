import { CommandError } from "../../errors.ts";
import type { EntryFlag, EntryTable, EntryValue } from "../../executor/words.ts";
import { parseBoolean } from "../arguments.ts";

/**
 * What a flag of an entry says, as it stands in the file; `undefined`: it was not given, or is empty.
 * @throws {CommandError} naming the flag and what it must be
 */
export function readFlagValue({ flag, kind, env }: EntryFlag, given: unknown): EntryValue | undefined {
  if (kind === "switches") return given === undefined ? undefined : readSwitches(flag, [given].flat().map(String));
  if ((kind === "table" || kind === "lists") && given !== undefined) {
    return readTable(flag, kind, Array.isArray(given) ? given : [given]);
  }
  if (Array.isArray(given)) return given.length > 0 ? given.map(String) : undefined;
  if (typeof given === "boolean") return given;
  if (typeof given !== "string" || given === "") return undefined;
  const mustBe = (what: string): CommandError =>
    new CommandError(`--${flag}${env ? ` (${env})` : ""} must be ${what}, not "${given}"`);
  switch (kind) {
    case "integer":
      if (!/^-?\d{1,15}$/.test(given.trim())) throw mustBe("a whole number");
      return Number(given);
    case "boolean": {
      const truth = parseBoolean(given);
      if (truth === undefined) throw mustBe("true or false");
      return truth;
    }
    case "list":
      return [given];
    case "text":
    case "table":
    case "lists":
      return given;
  }
}

/** `FF_ONE=true,FF_TWO:false`, or a JSON object. */
function readSwitches(flag: string, given: readonly string[]): EntryTable | undefined {
  const pairs = given.flatMap((text) =>
    text
      .replace(/^\s*\{|\}\s*$/g, "")
      .split(/[\s,]+/)
      .filter((part) => part !== "" && part !== ":"),
  );
  // JSON may have blanks behind its colons.
  const words = pairs
    .join(" ")
    .replace(/\s*([:=])\s*/g, "$1")
    .split(" ")
    .filter((word) => word !== "");
  const entries = words.map((word) => {
    const [, name, value] = /^"?(\w+)"?[:=]"?(\w+)"?$/.exec(word) ?? [];
    const truth = value === undefined ? undefined : parseBoolean(value);
    if (name === undefined || truth === undefined)
      throw new CommandError(`--${flag} must be name=true or name=false, not "${word}"`);
    return [name, truth] as const;
  });
  return entries.length === 0 ? undefined : Object.fromEntries(entries);
}

/**
 * `/run:rw,size=1g` and `net.core.somaxconn=1024`: the first mark ends the name. Of lists it is `=`, as patterns of images have
 * colons; a name that comes again has one more in its list. Both may be a JSON object.
 */
function readTable(flag: string, kind: "table" | "lists", given: readonly unknown[]): EntryValue | undefined {
  const table: Record<string, EntryValue> = {};
  for (const text of given.map(String).filter((one) => one !== "")) {
    if (text.startsWith("{")) {
      Object.assign(table, readJson(flag, kind, text));
      continue;
    }
    const split = text.search(kind === "lists" ? /=/ : /[:=]/);
    const form = kind === "lists" ? "name=value" : "name:value or name=value";
    if (split < 1) throw new CommandError(`--${flag} must be ${form}, or a JSON object, not "${text}"`);
    const [name, value] = [text.slice(0, split), text.slice(split + 1)];
    const before = table[name];
    table[name] = kind === "table" ? value : [...(isList(before) ? before : []), value];
  }
  return Object.keys(table).length === 0 ? undefined : table;
}

function readJson(flag: string, kind: "table" | "lists", text: string): EntryTable {
  try {
    const parsed: unknown = JSON.parse(text);
    const entries = typeof parsed === "object" && parsed !== null ? Object.entries(parsed) : [];
    return Object.fromEntries(entries.map(([name, value]) => [name, kind === "lists" ? texts(value) : scalar(value)]));
  } catch {
    throw new CommandError(`--${flag} must be a JSON object such as ${EXAMPLES[kind]}, not ${text}`);
  }
}

function texts(value: unknown): EntryValue {
  if (!Array.isArray(value)) throw new TypeError("no list");
  return value.map(scalar);
}

function scalar(value: unknown): string {
  if (typeof value !== "string" && typeof value !== "number" && typeof value !== "boolean")
    throw new TypeError("no text");
  return String(value);
}

const EXAMPLES = { table: '{"name":"value"}', lists: '{"name":["value"]}' };

function isList(value: EntryValue | undefined): value is readonly EntryValue[] {
  return Array.isArray(value);
}
