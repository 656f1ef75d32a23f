import type { RunnerConfig } from "../../config/config.ts";
import { switches } from "../../feature-flags.ts";
import type { Job } from "../job.ts";
import { expandReferences } from "../variables/expand.ts";
import { featureFlag } from "./feature-flags.ts";
import { createSettingsReader, type SettingsReader } from "./settings-reader.ts";

/** What has to be known of a job before the first byte of its trace is written, and before that is sent. */
export interface TraceWishes {
  /** Each line has its time. */
  readonly stamped: boolean;
  /** The trace may show secrets: GitLab then shows it to developers only, and has to be told with its first byte. */
  readonly debug: boolean;
  /** Tokens of all of GitLab's kinds are masked, wherever they come from. */
  readonly masksTokens: boolean;
}

type Wishing = Pick<RunnerConfig, "environment" | "debugTraceDisabled" | "featureFlags">;

/** AlloyCI knows none of it. */
export function traceWishes(job: Pick<Job, "dialect" | "variables">, entry: Wishing): TraceWishes {
  if (job.dialect !== "gitlab") return { stamped: false, debug: false, masksTokens: false };
  const read = earlyReader(job, entry);
  const debug = read.flag("CI_DEBUG_TRACE", false) || read.flag("CI_DEBUG_SERVICES", false);
  return {
    stamped: featureFlag("FF_TIMESTAMPS", entry.featureFlags, read),
    debug: debug && !entry.debugTraceDisabled,
    masksTokens: featureFlag("FF_MASK_ALL_DEFAULT_TOKENS", entry.featureFlags, read),
  };
}

/** Whether metrics tell how long each stage of the job took, which is to be known when it comes. */
export function measuresStages(job: Pick<Job, "dialect" | "variables">, entry: Wishing): boolean {
  const name = "FF_EXPORT_HIGH_CARDINALITY_METRICS";
  if (job.dialect !== "gitlab") return entry.featureFlags?.[name] ?? switches[name];
  return featureFlag(name, entry.featureFlags, earlyReader(job, entry));
}

/** Of what is known before the job has a place. */
function earlyReader(job: Pick<Job, "variables">, entry: Pick<Wishing, "environment">): SettingsReader {
  const last = new Map([...entry.environment, ...job.variables].map(({ key, value }) => [key, value]));
  const raw = new Set(job.variables.flatMap((variable) => (variable.raw || variable.file ? [variable.key] : [])));
  return createSettingsReader((key) => {
    const value = last.get(key);
    return value === undefined || raw.has(key) ? value : expandReferences(value, (name) => last.get(name) ?? "");
  });
}
