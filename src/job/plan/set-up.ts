import type { RunnerConfig } from "../../config/config.ts";
import { ScriptFailure, SystemFailure } from "../../errors.ts";
import type { Executor } from "../../executor/executor.ts";
import type { JobPlace, PreparedVariables } from "../../executor/prepare.ts";
import type { Job, Variable } from "../job.ts";
import { createVariables, type JobVariables, type Place, type RunnerIdentity } from "../variables/variables.ts";
import { clonePath } from "./clone-path.ts";
import { flagVariables } from "./feature-flags.ts";
import { type JobSettings, readSettings } from "./settings.ts";

export interface SetUpRequest {
  readonly job: Job;
  readonly runner: Pick<
    RunnerConfig,
    "environment" | "shortToken" | "debugTraceDisabled" | "featureFlags" | "customBuildDir"
  >;
  readonly identity: RunnerIdentity;
  readonly executor: Pick<Executor, "features">;
  /** `CI_CONCURRENT_ID`. */
  readonly concurrentId: number;
}

export interface SetUp {
  readonly variables: JobVariables;
  readonly settings: JobSettings;
}

/**
 * A job's variables, and what they say of how it is to run.
 * @param place where it runs; `null` before that is known
 * @param warn told of what is left out or changed, also where the job cannot run
 * @throws {SystemFailure | ScriptFailure} the job cannot run
 */
export function setUp(
  { job, runner, identity, executor, concurrentId }: SetUpRequest,
  place: Place | null,
  warn: (sentence: string) => void = () => {},
): SetUp {
  if (job.problem !== null)
    throw new SystemFailure(job.problem, job.problemReason === undefined ? {} : { reason: job.problemReason });
  const { debugTraceDisabled, featureFlags, customBuildDir } = runner;
  const variables = variablesOf({ job, runner, identity, executor, concurrentId }, place);
  const settings = readSettings(job, { get: variables.get, debugTraceDisabled, featureFlags, customBuildDir });
  for (const sentence of [...variables.warnings, ...settings.warnings]) warn(sentence);
  const problem = settings.problem ?? variables.problem;
  if (problem !== null) throw new ScriptFailure(problem);
  return { variables, settings };
}

/** For what is started beside the job's scripts. */
export function preparedVariables(request: SetUpRequest, place: JobPlace): PreparedVariables {
  const variables = besideScripts(request, place);
  return { open: variables.open(), withSecrets: variables.withSecrets, expandWith: variables.expandWith };
}

/** All of them, secrets too, for programs of the operator's. */
export function variablesAt(request: SetUpRequest, place: JobPlace): Variable[] {
  return besideScripts(request, place).all();
}

/** The directory that the job wants its sources in, once it is known where that can be. */
export function chosenRoot(
  request: SetUpRequest,
  { buildsDir, projectSlot }: Pick<JobPlace, "buildsDir" | "projectSlot">,
): string | null {
  const { job, runner } = request;
  if (!job.variables.some(({ key }) => key === "GIT_CLONE_PATH") && !runner.environment.some(isClonePath)) return null;
  // Where it is to be cannot depend on where it is.
  const { get } = besideScripts(request, { root: "", tmpDir: "", buildsDir, projectSlot });
  const wanted = get("GIT_CLONE_PATH");
  return clonePath({ wanted, buildsDir, enabled: runner.customBuildDir, dialect: job.dialect });
}

function isClonePath({ key }: { readonly key: string }): boolean {
  return key === "GIT_CLONE_PATH";
}

/** What is started there is no shell: names of any kind can be held. */
function besideScripts(request: SetUpRequest, place: JobPlace): JobVariables {
  return variablesOf(request, { ...place, acceptsName: () => true });
}

function variablesOf(
  { job, runner, identity, executor, concurrentId }: SetUpRequest,
  place: Place | null,
): JobVariables {
  const { environment, shortToken, featureFlags } = runner;
  const { shared } = executor.features;
  // AlloyCI knows none of them.
  const flags = job.dialect === "gitlab" ? flagVariables(featureFlags) : [];
  return createVariables({ job, environment, identity, shortToken, flags, concurrentId, shared, place });
}
