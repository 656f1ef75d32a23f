import type { FlagVariable } from "../variables/variables.ts";
import type { SettingsReader } from "./settings-reader.ts";

/** GitLab's switches of behaviour that a job or an entry can set here, and what they are where nobody does. */
const DEFAULTS = {
  FF_TIMESTAMPS: true,
  FF_SCRIPT_SECTIONS: false,
  FF_USE_GIT_BUNDLE_URIS: true,
  FF_USE_GIT_NATIVE_CLONE: false,
  FF_USE_GIT_PROACTIVE_AUTH: false,
  FF_USE_GITALY_CORRELATION_ID: true,
  FF_MASK_ALL_DEFAULT_TOKENS: true,
  FF_ENABLE_JOB_INPUTS_INTERPOLATION: true,
  FF_SECRET_RESOLVING_FAILS_IF_MISSING: true,
  FF_DISABLE_AUTOMATIC_TOKEN_ROTATION: false,
} as const;

export type FeatureFlag = keyof typeof DEFAULTS;
/** `[runners.feature_flags]` of an entry. */
export type EntryFlags = Readonly<Record<string, boolean>>;

/** What a job's scripts are told of them; `fixed`: the job has no say in it. */
export function flagVariables(entry: EntryFlags | undefined): FlagVariable[] {
  return Object.entries(DEFAULTS).map(([key, usual]) => {
    const given = entry?.[key];
    return { key, value: String(given ?? usual), fixed: given !== undefined };
  });
}

/** The entry's word counts before the job's. */
export function featureFlag(name: FeatureFlag, entry: EntryFlags | undefined, read: SettingsReader): boolean {
  return entry?.[name] ?? read.flag(name, DEFAULTS[name]);
}
