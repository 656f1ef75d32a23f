import { resolve } from "node:path";
import { readConfigFile } from "../../config/file/read.ts";
import { isTable, readToml, type TomlData } from "../../config/file/toml.ts";
import { parseConfig } from "../../config/load.ts";
import { CommandError, ConfigError } from "../../errors.ts";
import type { EntryTable, EntryValue } from "../../executor/words.ts";
import { type CommandContext, loadOptions } from "../context.ts";
import { attributeOf, type FlagValues, runnerFlags, textOf } from "./runner-flags.ts";

/** Tables of executors: those that the chosen one does not read are left out of an entry. */
const EXECUTOR_TABLES = new Set(
  "docker ssh parallels virtualbox machine kubernetes custom autoscaler instance".split(" "),
);

/**
 * The entry of a `--template-config`: what a new entry has where neither a flag nor an answer says anything. Its token does not
 * count, nor do the file's global keys.
 * @throws {CommandError} the file cannot be read, or has not one entry
 */
export async function readTemplate(path: string, context: CommandContext): Promise<EntryTable> {
  const file = resolve(context.cwd, path);
  const found = await readConfigFile(file).catch(refuse);
  if (found === null) throw new CommandError(`--template-config: there is no file ${file}`);
  const entries = await entriesOf(found.text, file).catch(refuse);
  const [entry] = entries;
  if (entry === undefined || entries.length > 1) {
    throw new CommandError(
      `--template-config: ${file} must have one [[runners]] entry, found ${entries.length === 0 ? "none" : entries.length}`,
    );
  }
  const { warnings } = await parseConfig(found.text, { ...loadOptions(context), file }).catch(refuse);
  for (const warning of warnings) context.say(`warning: ${warning}`);
  return Object.fromEntries(Object.entries(entry).filter(([key]) => key !== "token"));
}

function refuse(error: unknown): never {
  if (error instanceof ConfigError) throw new CommandError(`--template-config: ${error.message}`, { cause: error });
  throw error;
}

async function entriesOf(text: string, file: string): Promise<readonly EntryTable[]> {
  const { data } = readToml(text, file);
  const key = Object.keys(data).find((each) => each.toLowerCase() === "runners");
  const entries = key === undefined ? [] : data[key];
  return Array.isArray(entries) ? entries.flatMap((entry) => (isTable(entry) ? [lowerKeys(entry)] : [])) : [];
}

/** Keys of an entry count whatever their case; those of its tables are as their executor spells them. */
function lowerKeys(entry: Readonly<Record<string, TomlData>>): EntryTable {
  return Object.fromEntries(Object.entries(entry).map(([key, value]) => [key.toLowerCase(), entryValue(value)]));
}

function entryValue(data: TomlData): EntryValue {
  if (typeof data === "bigint") return Number(data);
  if (Array.isArray(data)) return data.map(entryValue);
  if (isTable(data)) return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, entryValue(value)]));
  return data instanceof Date || typeof data !== "object" ? data : String(data);
}

/** The flags with what the template says instead of those that were not given, as far as answers are given by flags. */
export function withTemplateFlags(values: FlagValues, template: EntryTable, context: CommandContext): FlagValues {
  const flags = ["url", "name", "executor"].map((flag) => ({ flag, key: flag }));
  const texts = runnerFlags(context.catalog.words).filter(({ kind }) => kind === "text");
  const added = [...flags, ...texts].flatMap(({ flag, key }) => {
    const value = at(template, key.split("."));
    return textOf(values, flag) === undefined && typeof value === "string" ? [[attributeOf(flag), value]] : [];
  });
  return { ...values, ...Object.fromEntries(added) };
}

function at(table: EntryTable, [first = "", ...rest]: readonly string[]): EntryValue | undefined {
  const value = table[first];
  if (rest.length === 0) return value;
  return isPlainTable(value) ? at(value, rest) : undefined;
}

/** Without the tables that are another executor's. */
export async function onlyOf(template: EntryTable, executor: string, context: CommandContext): Promise<EntryTable> {
  const { tables } = await context.catalog.load(executor);
  const own = new Set(tables.map(({ name }) => name));
  return Object.fromEntries(Object.entries(template).filter(([key]) => !EXECUTOR_TABLES.has(key) || own.has(key)));
}

function isPlainTable(value: EntryValue | undefined): value is EntryTable {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);
}
