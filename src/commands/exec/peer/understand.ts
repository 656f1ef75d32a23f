import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { CommandError } from "../../../errors.ts";
import { parseBoolean } from "../../arguments.ts";
import type { CommandContext } from "../../context.ts";
import type { FlagValues } from "../../register/runner-flags.ts";
import { readEnvText } from "../env-file.ts";
import { attributeOfPeer, PEER_OPTIONS, type PeerOption } from "./names.ts";

/** What a person of gitlab-ci-local has typed, or has in its files and variables, in our own words. */
export interface Understood {
  readonly values: FlagValues;
  readonly cwd: string;
  /** Directory with `variables.yml`. */
  readonly home: string;
  readonly notes: readonly string[];
}

/** @throws {CommandError} a value that cannot be meant */
export async function understandPeer(
  typed: FlagValues,
  { env, cwd: here }: Pick<CommandContext, "env" | "cwd">,
): Promise<Understood> {
  const notes: string[] = [];
  const cwd = typeof typed.cwd === "string" ? resolve(here, typed.cwd) : here;
  const personHome = env.HOME || homedir();
  const values: Record<string, unknown> = { ...typed };
  const own = new Set(Object.keys(typed).filter((name) => typed[name] !== undefined));
  const take = (from: string, pairs: ReadonlyMap<string, string>, ofProject: boolean): void => {
    for (const option of PEER_OPTIONS) {
      const text = pairs.get(option.name.replaceAll("-", "_").toUpperCase());
      const name = attributeOfPeer(option.name);
      if (text === undefined || own.has(name)) continue;
      if (ofProject && option.ofProject !== true) {
        notes.push(`${from}: ${option.name} is not taken from a file of the project: give it on the command line`);
        continue;
      }
      const value = parsedValue(option, text, from);
      // A name alone would take what the person's environment has.
      const lacking =
        option.name === "variable" && Array.isArray(value) ? value.filter((one) => !one.includes("=")) : [];
      if (lacking.length > 0)
        throw new CommandError(`${from}: VARIABLE is NAME=value, and several of them between semicolons`);
      values[name] = value;
      own.add(name);
    }
  };
  const ofEnvironment = Object.entries(env).flatMap(([name, value]) =>
    name.startsWith("GCL_") && value !== undefined ? [[name.slice(4), value] as const] : [],
  );
  take("the environment", new Map(ofEnvironment), false);
  take(".gitlab-ci-local-env", await optionsIn(join(cwd, ".gitlab-ci-local-env")), true);
  take("~/.gitlab-ci-local/.env", await optionsIn(join(personHome, ".gitlab-ci-local", ".env")), false);
  const home = typeof values.home === "string" ? resolve(here, values.home) : personHome;
  return { values: translated(values, notes), cwd, home: join(home, ".gitlab-ci-local"), notes };
}

async function optionsIn(file: string): Promise<ReadonlyMap<string, string>> {
  const text = await readFile(file, "utf8").catch(() => "");
  return new Map(readEnvText(text, file).map(({ key, value }) => [key, value]));
}

function parsedValue({ name, kind }: PeerOption, text: string, from: string): string | boolean | string[] {
  if (kind === "text") return text;
  if (kind === "list") return text.split(";").filter((part) => part !== "");
  const value = parseBoolean(text);
  if (value === undefined) throw new CommandError(`${from}: ${name} is true or false, not "${text}"`);
  return value;
}

function translated(values: Record<string, unknown>, notes: string[]): FlagValues {
  const result = { ...values };
  for (const { name, kind, here, docker } of PEER_OPTIONS) {
    const attribute = attributeOfPeer(name);
    const value = values[attribute];
    if (value === undefined || here === attribute) continue;
    delete result[attribute];
    if (here === null) continue;
    if (docker === true && values.executor !== "docker") {
      notes.push(`--${name} is for jobs in containers: it means nothing without --executor docker`);
      continue;
    }
    if (kind === "list" && Array.isArray(value)) {
      const before = result[here];
      // What stands first is weaker, and our own names win.
      result[here] = [...value, ...(Array.isArray(before) ? before : [])];
    } else result[here] ??= value;
  }
  if (values.listAll === true || values.listJson === true || values.listCsv === true || values.listCsvAll === true)
    result.list = true;
  if (values.listAll === true || values.listCsvAll === true) result.all = true;
  if (values.listJson === true) result.json = true;
  if (values.listCsv === true || values.listCsvAll === true) result.csv = true;
  if (values.onlyNeeds === true) result.withNeeds = true;
  return result;
}
