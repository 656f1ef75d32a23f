import type { RunnerConfig } from "../../config/config.ts";
import type { Job } from "../job.ts";
import { expandReferences } from "../variables/expand.ts";
import { featureFlag } from "./feature-flags.ts";
import { createSettingsReader } from "./settings-reader.ts";

/** What has to be known of a job before the first byte of its trace is written, and before that is sent. */
export interface TraceWishes {
  /** Each line has its time. */
  readonly stamped: boolean;
  /** The trace may show secrets: GitLab then shows it to developers only, and has to be told with its first byte. */
  readonly debug: boolean;
}

type Wishing = Pick<RunnerConfig, "environment" | "debugTraceDisabled" | "featureFlags">;

/** AlloyCI knows neither. */
export function traceWishes(job: Pick<Job, "dialect" | "variables">, entry: Wishing): TraceWishes {
  if (job.dialect !== "gitlab") return { stamped: false, debug: false };
  const last = new Map([...entry.environment, ...job.variables].map(({ key, value }) => [key, value]));
  const raw = new Set(job.variables.flatMap((variable) => (variable.raw || variable.file ? [variable.key] : [])));
  const read = createSettingsReader((key) => {
    const value = last.get(key);
    return value === undefined || raw.has(key) ? value : expandReferences(value, (name) => last.get(name) ?? "");
  });
  const debug = read.flag("CI_DEBUG_TRACE", false) || read.flag("CI_DEBUG_SERVICES", false);
  return { stamped: featureFlag("FF_TIMESTAMPS", entry.featureFlags, read), debug: debug && !entry.debugTraceDisabled };
}
