import { type FeatureFlag, flagNames, isFlag, switches, unheeded } from "../../feature-flags.ts";
import type { Job } from "../job.ts";
import type { FlagVariable } from "../variables/variables.ts";
import { parseFlag, type SettingsReader } from "./settings-reader.ts";

/** `[runners.feature_flags]` of an entry. */
export type EntryFlags = Readonly<Record<string, boolean>>;

/** More of them say nothing new. */
const MOST_NAMED = 20;

/** What a job's scripts are told of them; `fixed`: the job has no say in it. */
export function flagVariables(entry: EntryFlags | undefined): FlagVariable[] {
  return Object.entries(switches).map(([key, usual]) => {
    const given = entry?.[key];
    return { key, value: String(given ?? usual), fixed: given !== undefined };
  });
}

/** The entry's word counts before the job's. */
export function featureFlag(name: FeatureFlag, entry: EntryFlags | undefined, read: SettingsReader): boolean {
  return entry?.[name] ?? read.flag(name, switches[name]);
}

/**
 * Says in one sentence which flags of a job, or of `environment`, change nothing here, and why. Names that GitLab Runner has not are
 * a project's own business; what the entry says of a flag, its operator has been told.
 */
export function sayUnheeded(job: Pick<Job, "variables">, entry: EntryFlags | undefined, read: SettingsReader): void {
  const ofJob = job.variables.flatMap(({ key }) => (key.startsWith("FF_") && isFlag(key) ? [key] : []));
  const names = [...new Set([...flagNames, ...ofJob])].filter((name) => entry?.[name] === undefined);
  const said = names.flatMap((name) => {
    const text = read.text(name);
    if (text === undefined) return [];
    const value = parseFlag(text);
    if (value === undefined && Object.hasOwn(switches, name)) {
      // Also of those that are not read here.
      read.flag(name, new Map<string, boolean>(Object.entries(switches)).get(name) ?? false);
      return [];
    }
    const why = value === undefined ? "expected true or false" : unheeded(name, value, "job");
    return why === null ? [] : [`${name}=${value ?? JSON.stringify(text.slice(0, 100))} (${why})`];
  });
  if (said.length === 0) return;
  const more = said.length > MOST_NAMED ? `, and ${said.length - MOST_NAMED} more` : "";
  read.warn(`Feature flags without effect: ${said.slice(0, MOST_NAMED).join(", ")}${more}.`);
}
