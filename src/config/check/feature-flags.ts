import { flagNames, isFlag, unheeded } from "../../feature-flags.ts";
import { isTable } from "../file/toml.ts";
import { nearest } from "./keys.ts";

/** Why flags of `[runners.feature_flags]` do not do what they say. */
export function featureFlagWarnings(flags: unknown): { readonly path: readonly string[]; readonly text: string }[] {
  if (flags === undefined) return [];
  if (!isTable(flags)) return [{ path: [], text: "has no effect: expected a table of flags, such as FF_NAME = true" }];
  return Object.entries(flags).flatMap(([name, value]) => {
    const text = warningOf(name, value);
    return text === null ? [] : [{ path: [name], text }];
  });
}

/** Those that say true or false. */
export function readFeatureFlags(flags: unknown): Readonly<Record<string, boolean>> {
  const pairs = isTable(flags) ? Object.entries(flags) : [];
  return Object.fromEntries(pairs.flatMap(([name, value]) => (typeof value === "boolean" ? [[name, value]] : [])));
}

function warningOf(name: string, value: unknown): string | null {
  if (!isFlag(name)) {
    const meant = nearest(name, flagNames);
    return `is not a known feature flag${meant === undefined ? "." : `. Did you mean "${meant}"?`} It has no effect`;
  }
  if (typeof value !== "boolean") return "has no effect: expected true or false";
  const why = unheeded(name, value, "entry");
  return why === null ? null : `has no effect: ${why}`;
}
