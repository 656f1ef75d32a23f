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
  { path, scratchDir, jobsDir }: Pick<StateDir, "path" | "scratchDir"> & Partial<Pick<StateDir, "jobsDir">>,
  working: string,
  env: HostPlaces["env"],
): HostPlaces {
  return {
    ...{ working, scratch: scratchDir, keepDir: path, env },
    ...(jobsDir === undefined
      ? {}
      : {
          hasJob: (jobKey) => isIn(jobsDir, jobKey, "."),
          isKept: (jobKey) => isIn(jobsDir, jobKey, "life"),
        }),
  };
}

/** Keys are read off what anybody may have made. */
function isIn(jobsDir: string, jobKey: string, name: string): boolean {
  return /^[a-z0-9-]+$/.test(jobKey) && existsSync(join(jobsDir, jobKey, name));
}
