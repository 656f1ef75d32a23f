import { existsSync } from "node:fs";
import { join } from "node:path";
import type { EntrySettings, HostPlaces } from "../executor/deps.ts";
import type { StateDir } from "../journal/state/state-dir.ts";

/** For an executor whose entry is gone. */
export const WITHOUT_ENTRY: EntrySettings = {
  buildsDir: undefined,
  shell: undefined,
  killLeftovers: true,
  killGraceMs: 10_000,
};

export function hostPlaces(
  { path, scratchDir }: Pick<StateDir, "path" | "scratchDir">,
  working: string,
  env: HostPlaces["env"],
): HostPlaces {
  const hasJob = (jobKey: string): boolean => existsSync(join(path, "jobs", jobKey));
  return { working, scratch: scratchDir, keepDir: path, hasJob, env };
}
