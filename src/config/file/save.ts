import { ConfigError } from "../../errors.ts";
import type { EntryTable } from "../../executor/words.ts";
import { expandVariables } from "../expand.ts";
import { entryId, runnerName } from "../identity.ts";
import { appendEntry, removeEntries, setKeys } from "./edit.ts";
import { lockFile } from "./lock.ts";
import { readConfigFile } from "./read.ts";
import { lockPathOf, prepareDirectory, replaceFile, targetOf } from "./replace.ts";
import { canonicalText, isTable, readToml, type TomlData } from "./toml.ts";

/** A new entry: its keys in the order in which they shall stand; tables such as `docker` as objects. */
export interface NewRunner extends EntryTable {
  readonly name: string;
  readonly url: string;
  readonly token: string;
  readonly executor: string;
}

/** An entry as it stands in the file, sound or not. What is absent or no text is empty. */
export interface StoredRunner {
  readonly index: number;
  /** As in `RunnerConfig`: its id where it has none. */
  readonly name: string;
  /** With `$NAME` put in, where it is known; with a path of at least `/` where it is a valid address. */
  readonly url: string;
  readonly token: string;
  /** The token stands in the file itself, not in a variable that the file names. */
  readonly written: boolean;
  /** What stands for it in lists, logs and names; empty where it has no token. */
  readonly id: string;
  readonly executor: string;
  /** The keys that stand in it, lower case. */
  readonly keys: ReadonlySet<string>;
}

type Variables = Readonly<Record<string, string | undefined>>;

/** Add an entry to the end of the file, making file and directory if need be. Of several at once, all succeed. */
export async function addRunner(file: string, entry: NewRunner, signal: AbortSignal): Promise<void> {
  await change(
    file,
    (text, entries) => {
      const wanted = toData(entry);
      return { text: appendEntry(text, entry), entries: wanted === undefined ? entries : [...entries, wanted] };
    },
    signal,
  );
}

/**
 * Drop the entries that `predicate` picks, everything else stays byte for byte.
 * @param env for `$NAME` in `url` and `token`
 * @returns what was dropped; when that is nothing, the file was not touched
 */
export async function removeRunners(
  file: string,
  predicate: (runner: StoredRunner) => boolean,
  env: Variables,
  signal: AbortSignal,
): Promise<readonly StoredRunner[]> {
  if ((await readConfigFile(file)) === null) return [];
  let removed: readonly StoredRunner[] = [];
  await change(
    file,
    (text, entries) => {
      removed = entries.map((entry, index) => storedRunner(entry, index, env)).filter(predicate);
      if (removed.length === 0) return null;
      const indexes = new Set(removed.map((runner) => runner.index));
      return { text: removeEntries(text, indexes), entries: entries.filter((_, index) => !indexes.has(index)) };
    },
    signal,
  );
  return removed;
}

/**
 * Set keys in the entries that `keysFor` has some for; everything else stays byte for byte.
 * @param env for `$NAME` in `url` and `token`
 * @returns the entries that were changed, as they were; when there are none, the file was not touched
 */
export async function setRunnerKeys(
  file: string,
  keysFor: (runner: StoredRunner) => EntryTable | null,
  env: Variables,
  signal: AbortSignal,
): Promise<readonly StoredRunner[]> {
  if ((await readConfigFile(file)) === null) return [];
  let changed: readonly StoredRunner[] = [];
  await change(
    file,
    (text, entries) => {
      let edited = text;
      const found: StoredRunner[] = [];
      const meant = entries.map((entry, index) => {
        const runner = storedRunner(entry, index, env);
        const keys = keysFor(runner);
        if (keys === null) return entry;
        found.push(runner);
        edited = setKeys(edited, index, keys);
        return withKeys(entry, keys);
      });
      changed = found;
      return found.length === 0 ? null : { text: edited, entries: meant };
    },
    signal,
  );
  return changed;
}

/** The entry with these keys, whatever the case in which they stand in it. */
function withKeys(entry: TomlData, keys: EntryTable): TomlData {
  if (!isTable(entry)) return entry;
  const table: Record<string, TomlData> = Object.assign(Object.create(null), entry);
  for (const [key, value] of Object.entries(keys)) {
    const data = toData(value);
    const name = Object.keys(table).find((each) => each.toLowerCase() === key.toLowerCase()) ?? key;
    if (data !== undefined) table[name] = data;
  }
  return table;
}

/** The entries of a file whose values need not be sound; a missing file has none. */
export async function readRunners(file: string, env: Variables): Promise<readonly StoredRunner[]> {
  const found = await readConfigFile(file);
  return found === null ? [] : split(found.text, file).entries.map((entry, index) => storedRunner(entry, index, env));
}

interface Edited {
  readonly text: string;
  readonly entries: readonly TomlData[];
}

async function change(
  file: string,
  edit: (text: string, entries: readonly TomlData[]) => Edited | null,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const target = await targetOf(file);
  await prepareDirectory(target);
  await using lock = await lockFile(lockPathOf(target), {}, signal);
  const found = await readConfigFile(target);
  const before = split(found?.text ?? "", file);
  const edited = edit(found?.text ?? "", before.entries);
  if (edited === null) return;
  proveEdit(edited, before.rest, found?.text.trim() ? undefined : NEW_FILE, file);
  if (!(await lock.held())) {
    throw new ConfigError(`${file}: another process took over while it was changed. Nothing was changed; try again`, {
      file,
    });
  }
  await replaceFile(target, edited.text);
}

const NEW_FILE = '{"concurrent":1}';

/** The new text must say what was meant and nothing else, whatever the old one looks like. */
function proveEdit(edited: Edited, rest: string, fresh: string | undefined, file: string): void {
  const after = split(edited.text, file);
  const same = after.rest === rest || after.rest === fresh;
  if (same && canonicalText(after.entries) === canonicalText(edited.entries)) return;
  throw new ConfigError(
    `${file}: is written in a way that cannot be changed safely. Nothing was changed; edit it by hand`,
    { file },
  );
}

/** Entries, and everything else as one comparable text. */
function split(text: string, file: string): { entries: readonly TomlData[]; rest: string } {
  const { data } = readToml(text, file);
  const keys = Object.keys(data).filter((key) => key.toLowerCase() === "runners");
  const rest = Object.fromEntries(Object.entries(data).filter(([key]) => !keys.includes(key)));
  const [key] = keys;
  const entries = key === undefined ? [] : data[key];
  if (keys.length > 1 || !Array.isArray(entries)) {
    throw new ConfigError(`${file}: "${key}" must be a list of tables: [[runners]], spelled alike everywhere`, {
      file,
    });
  }
  return { entries, rest: canonicalText(rest) };
}

function storedRunner(entry: TomlData, index: number, env: Variables): StoredRunner {
  const values = new Map(isTable(entry) ? Object.entries(entry).map(([key, value]) => [key.toLowerCase(), value]) : []);
  const text = (key: string): string => {
    const value = values.get(key);
    return typeof value === "string" ? value : "";
  };
  const expanded = (key: string): string => {
    const { text: result, missing } = expandVariables(text(key), env);
    return missing.length === 0 ? result.trim() : text(key);
  };
  const url = expanded("url");
  const token = expanded("token");
  const id = token === "" ? "" : entryId(text("known_as"), token);
  return {
    index,
    name: runnerName(text("name"), id),
    id,
    keys: new Set(values.keys()),
    url: URL.canParse(url) ? new URL(url).href : url,
    token,
    written: text("token").trim() === token,
    executor: text("executor"),
  };
}

function toData(value: unknown): TomlData | undefined {
  if (typeof value === "string") return value.toWellFormed();
  if (typeof value === "number" || typeof value === "boolean") return value;
  if (value instanceof Date) return new Date(Math.floor(value.getTime() / 1000) * 1000);
  if (Array.isArray(value)) return value.flatMap((each) => toData(each) ?? []);
  if (typeof value !== "object" || value === null) return undefined;
  const table: Record<string, TomlData> = Object.create(null);
  for (const [key, each] of Object.entries(value)) {
    const data = toData(each);
    if (data !== undefined) table[key] = data;
  }
  return table;
}
