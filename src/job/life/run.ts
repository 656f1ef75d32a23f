import type { RunnerConfig } from "../../config/config.ts";
import { describeError, ScriptFailure, Stop, SystemFailure } from "../../errors.ts";
import type { Environment, Executor, Note } from "../../executor.ts";
import type { Log } from "../../log.ts";
import type { ShellName, ShellWriter } from "../../shell.ts";
import { deadline, never } from "../../time.ts";
import type { Trace } from "../../trace/contract.ts";
import type { TransferMeans } from "../../transfer/transfer.ts";
import type { Job, Outcome } from "../job.ts";
import { formatDuration } from "../plan/duration.ts";
import { type PlanSettings, planJob, type Stage } from "../plan/plan.ts";
import { readSettings } from "../plan/settings.ts";
import { createVariables, type RunnerIdentity, type VariableSources } from "../variables/variables.ts";
import { isUnexpected, jobStatus, outcomeOf, verdictLine } from "./outcome.ts";
import { introduce, prepare } from "./prepare.ts";
import { runStage } from "./run-stage.ts";
import { type Joined, joinSignals } from "./signals.ts";
import { advance, type JobState } from "./state.ts";

/** What a job needs to know of its `[[runners]]` entry. */
export type JobRunner = Pick<
  RunnerConfig,
  "name" | "id" | "url" | "environment" | "debugTraceDisabled" | "prepareTimeoutMs"
> &
  PlanSettings;

export interface RunJobRequest {
  readonly job: Job;
  /** Unique over all jobs of this host and all times. */
  readonly jobKey: string;
  readonly runner: JobRunner;
  readonly identity: RunnerIdentity;
  readonly executor: Executor;
  /** The writer for a shell; `undefined` where there is none. */
  readonly findWriter: (shell: ShellName) => ShellWriter | undefined;
  /** Knows the job's secrets already (`secretsOf`). */
  readonly trace: Trace;
  readonly log: Log;
  readonly transfers: TransferMeans;
  /** `CI_CONCURRENT_ID`. */
  readonly concurrentId: number;
  /** Kept on disk before it resolves: see `PrepareRequest.remember`. */
  readonly remember: (note: Note) => Promise<void>;
  /**
   * Fires with a `Stop` when nothing more may run: `canceled`, `shutting_down`. Needed beside the job's signal because that
   * one may have fired before for a reason that lets after_script run.
   */
  readonly halt: AbortSignal;
  readonly onState?: (state: JobState) => void;
  /** Between tries of `prepare`, by default 3 s. */
  readonly preparePauseMs?: number;
  /** Before the second attempt of a stage, by default 2 s; it grows. */
  readonly attemptPauseMs?: number;
  /** Longest clean-up, by default 30 s. */
  readonly destroyTimeoutMs?: number;
}

export interface RanJob {
  /** Its reason is in the trace's last line already. */
  readonly outcome: Outcome;
  /** Settles, always well, when the environment is gone or could not be removed in time. */
  readonly destroyed: Promise<void>;
}

/**
 * Run one job: prepare its environment, run its stages, say the verdict. All of the job's processes have ended when this
 * resolves; the trace is left open, and the environment is being removed. Never rejects.
 * @param signal stops the scripts, with a `Stop`. After `canceling` and `timed_out` after_script still runs.
 */
export async function runJob(request: RunJobRequest, signal: AbortSignal): Promise<RanJob> {
  const { trace, log, onState, halt } = request;
  let state: JobState = { at: "received" };
  const move = (to: JobState): void => {
    state = advance(state, to);
    onState?.(state);
  };
  /** Fires when nothing more may run. */
  using end = joinSignals([
    { signal: halt },
    { signal: trace.broken },
    { signal, counts: (reason) => !allowsAfterScript(reason) },
  ]);
  let environment: Environment | null = null;
  let outcome: Outcome;
  try {
    using work = joinSignals([{ signal: end.signal }, { signal }]);
    const setUp = introduce(request);
    environment = await prepare(request, setUp, move, work.signal);
    outcome = await runStages(request, environment, { job: signal, work, end }, move);
  } catch (error) {
    if (isUnexpected(error)) logUnexpected(log, error);
    outcome = outcomeOf(error, end.signal.aborted ? end.signal : signal);
  }
  try {
    const { text, tone } = verdictLine(outcome);
    trace.print(text, tone);
    await trace.flush();
    move({ at: "finished", outcome });
  } catch (error) {
    logUnexpected(log, error);
    if (outcome.result === "success") outcome = outcomeOf(error, never);
  }
  return { outcome, destroyed: destroy(environment, request) };
}

/** After these a job is over for its script only. */
function allowsAfterScript(reason: unknown): boolean {
  return reason instanceof Stop && (reason.why === "canceling" || reason.why === "timed_out");
}

function logUnexpected(log: Log, error: unknown): void {
  log.error("Unexpected error while running a job", {
    error: describeError(error),
    stack: error instanceof Error ? error.stack : undefined,
  });
}

interface Signals {
  /** The job's, as handed in. */
  readonly job: AbortSignal;
  /** Ends stages on the job's clock. */
  readonly work: Joined;
  /** Ends everything. */
  readonly end: Joined;
}

/** @returns what the first thing that decided it made of the job; success is said here and nowhere else */
async function runStages(
  request: RunJobRequest,
  environment: Environment,
  signals: Signals,
  move: (state: JobState) => void,
): Promise<Outcome> {
  const { job, runner, trace, log, findWriter } = request;
  const writer = findWriter(environment.shell);
  if (writer === undefined) throw new SystemFailure(`no scripts can be written for the shell ${environment.shell}`);
  const { root, tmpDir } = environment.workspace;
  const sources: VariableSources = {
    job,
    environment: runner.environment,
    identity: request.identity,
    concurrentId: request.concurrentId,
    shared: request.executor.features.shared,
    place: {
      root,
      tmpDir,
      buildsDir: environment.buildsDir,
      projectSlot: environment.projectSlot,
      acceptsName: writer.acceptsName,
    },
  };
  const variables = createVariables(sources);
  const settings = readSettings(job, { get: variables.get, debugTraceDisabled: runner.debugTraceDisabled });
  for (const sentence of [...variables.warnings, ...settings.warnings]) trace.print(sentence, "warning");
  const problem = settings.problem ?? variables.problem;
  if (problem !== null) throw new ScriptFailure(problem);
  const stages = planJob({
    job,
    settings,
    variables,
    place: { root, tmpDir },
    runner,
    coordinatorOrigin: runner.url.origin,
  });

  let verdict: Outcome | null = null;
  let began = false;
  let usable = true;
  const mayRun = ({ policy }: Stage): boolean => {
    if (signals.end.signal.aborted || (policy.afterScriptBegan && !(began && usable))) return false;
    if (policy.clock === "job" && signals.work.signal.aborted) return false;
    if (
      policy.afterTimeLimit === false &&
      signals.job.reason instanceof Stop &&
      signals.job.reason.why === "timed_out"
    ) {
      return false;
    }
    // A cancel between two stages has not become a verdict yet.
    const failed = verdict !== null || signals.work.signal.aborted;
    return policy.when === "always" || policy.when === (failed ? "on_failure" : "on_success");
  };
  for (const stage of stages) {
    if (!mayRun(stage)) continue;
    move({ at: "running", stage: stage.name });
    if (stage.kind === "script" && stage.authored && stage.policy.clock === "job") began = true;
    const { signal } = stage.policy.clock === "own" ? signals.end : signals.work;
    const context = {
      job,
      transfers: request.transfers,
      environment,
      writer,
      trace,
      log,
      xtrace: settings.debugTrace,
      attemptPauseMs: request.attemptPauseMs ?? 2000,
      status: stage.policy.clock === "own" ? jobStatus(verdict) : "running",
    };
    try {
      await trace.section(stage.name, () => runStage(stage, context, signal));
    } catch (error) {
      if (isUnexpected(error)) logUnexpected(log, error);
      if (!(error instanceof ScriptFailure || error instanceof Stop)) usable = false;
      const outcome = outcomeOf(error, signal);
      if (
        !stage.policy.decides &&
        !signal.aborted &&
        (error instanceof ScriptFailure || error instanceof Stop || verdict !== null)
      ) {
        const why = outcome.result === "success" ? "" : outcome.message;
        trace.print(`${stage.title} failed: ${why}; this does not change the job's result`, "warning");
      } else if (verdict !== null && outcome.result !== "success") {
        trace.print(`${stage.title} failed: ${outcome.message}`, "error");
      } else verdict ??= outcome;
    }
  }
  return verdict ?? outcomeOfSignals(signals) ?? { result: "success" };
}

/** A cancel or the runner's end that came while only after_script was running; the job's time limit is over by then. */
function outcomeOfSignals({ job, end }: Signals): Outcome | null {
  if (end.signal.aborted) return outcomeOf(undefined, end.signal);
  const reason: unknown = job.reason;
  return job.aborted && reason instanceof Stop && reason.why === "canceling" ? outcomeOf(reason, job) : null;
}

async function destroy(
  environment: Environment | null,
  { log, destroyTimeoutMs = 30_000 }: RunJobRequest,
): Promise<void> {
  if (environment === null) return;
  const tooLong = new Stop("timed_out", `clean-up took longer than ${formatDuration(destroyTimeoutMs)}`);
  using grace = deadline(never, destroyTimeoutMs, tooLong);
  try {
    await environment.destroy(grace.signal);
  } catch (error) {
    log.warn("The environment of a job could not be removed", { error: describeError(error) });
  }
}
