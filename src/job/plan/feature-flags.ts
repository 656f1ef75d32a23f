import type { SettingsReader } from "./settings-reader.ts";

/** GitLab's switches of behaviour that a job or an entry can set here, and what they are where nobody does. */
const DEFAULTS = { FF_TIMESTAMPS: true, FF_SCRIPT_SECTIONS: false, FF_USE_GIT_BUNDLE_URIS: true } as const;

export type FeatureFlag = keyof typeof DEFAULTS;
/** `[runners.feature_flags]` of an entry. */
export type EntryFlags = Readonly<Record<string, boolean>>;

/** The entry's word counts before the job's. */
export function featureFlag(name: FeatureFlag, entry: EntryFlags | undefined, read: SettingsReader): boolean {
  return entry?.[name] ?? read.flag(name, DEFAULTS[name]);
}
