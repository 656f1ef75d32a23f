import { describeError, ScriptFailure, SystemFailure } from "../errors.ts";
import type { Environment, PrepareRequest } from "../executor.ts";
import { deadline, retry } from "../time.ts";
import { formatDuration } from "./duration.ts";
import { projectPathOf } from "./project-path.ts";
import type { RunJobRequest } from "./run.ts";
import { readSettings } from "./settings.ts";
import type { JobState } from "./state.ts";
import { createVariables, preparedVariables } from "./variables.ts";

const PREPARE_ATTEMPTS = 3;

export type SetUp = Pick<PrepareRequest, "expand" | "variables">;

/**
 * The lines at the top of the trace, and all that can be told before anything is built.
 * @throws {ScriptFailure} the job cannot run
 */
export function introduce({ job, runner, executor, identity, trace, concurrentId }: RunJobRequest): SetUp {
  trace.print(`Running with alloy-runner ${identity.version} (${identity.revision})\n  on ${runner.name} ${runner.id}`);
  const warn = (sentences: readonly string[]): void => {
    for (const sentence of sentences) trace.print(sentence, "warning");
  };
  warn(job.warnings);
  if (job.problem !== null) throw new SystemFailure(job.problem);
  const sources = {
    job,
    environment: runner.environment,
    identity,
    concurrentId,
    shared: executor.features.shared,
  };
  const variables = createVariables({ ...sources, place: null });
  const settings = readSettings(job, { get: variables.get, debugTraceDisabled: runner.debugTraceDisabled });
  const problem = settings.problem ?? variables.problem;
  if (problem !== null) throw new ScriptFailure(problem);
  return {
    expand: variables.expand,
    variables: (place) => preparedVariables(sources, place),
  };
}

/** As people write it: Docker, Docker-SSH. */
function shownName(name: string): string {
  const words = name
    .split("-")
    .map((word) => (word === "ssh" ? "SSH" : `${word.slice(0, 1).toUpperCase()}${word.slice(1)}`));
  return words.join("-");
}

export async function prepare(
  { job, jobKey, runner, executor, trace, concurrentId, remember, preparePauseMs = 3000 }: RunJobRequest,
  setUp: SetUp,
  move: (state: JobState) => void,
  signal: AbortSignal,
): Promise<Environment> {
  const limitMs = runner.prepareTimeoutMs ?? Number.POSITIVE_INFINITY;
  const tooLong = new SystemFailure(`preparing took longer than ${formatDuration(limitMs)} (prepare_timeout)`);
  using clock = deadline(signal, limitMs, tooLong);
  return await trace.section("prepare_executor", async () => {
    trace.print(`Using ${shownName(executor.name)} executor...`);
    const request = {
      job,
      jobKey,
      runnerId: runner.id,
      concurrentId,
      projectPath: projectPathOf(job),
      hide: trace.hide,
      environment: runner.environment,
      ...setUp,
      remember,
    };
    const environment = await retry(
      {
        attempts: PREPARE_ATTEMPTS,
        firstMs: preparePauseMs,
        maxMs: preparePauseMs,
        onRetry: (error, attempt) =>
          trace.print(`Preparation failed (try ${attempt} of ${PREPARE_ATTEMPTS}): ${describeError(error)}`, "warning"),
      },
      (attempt) => {
        move({ at: "preparing", attempt });
        return executor.prepare(request, trace.output, clock.signal);
      },
      clock.signal,
    );
    trace.print(`Running on ${environment.host}...`);
    await trace.flush();
    return environment;
  });
}
