import { handsOver, Stop } from "../../../errors.ts";
import type { Environment } from "../../../executor/environment.ts";
import type { Outcome } from "../../job.ts";
import { planJob } from "../../plan/plan.ts";
import { setUp } from "../../plan/set-up.ts";
import type { Stage } from "../../plan/stage.ts";
import { findWriters } from "../../plan/writers.ts";
import { gitVariables } from "../../variables/git-variables.ts";
import type { Life } from "../life.ts";
import { logUnexpected } from "../log-unexpected.ts";
import { isUnexpected, jobStatus, outcomeOf } from "../outcome/outcome.ts";
import type { RunJobRequest } from "../request.ts";
import type { Joined } from "../signals.ts";
import { runStage, type StageContext } from "./run-stage.ts";
import { decided, judge, mayRun, type Stopped, sentenceOn } from "./verdicts.ts";

export interface Signals {
  /** The job's own signal, as it was handed in. */
  readonly job: AbortSignal;
  /** Ends stages on the job's clock. */
  readonly work: Joined;
  /** Ends everything. */
  readonly end: Joined;
}

/**
 * @returns what the first thing that decided it made of the job; success is said here and nowhere else
 * @throws {Stop} the runner's next process goes on with it
 */
export async function runStages(
  request: RunJobRequest,
  environment: Environment,
  signals: Signals,
  life: Life,
): Promise<Outcome> {
  const { job, runner, identity, trace, kept, concurrentId } = request;
  const { plainShell = request.executor.plainShell } = environment;
  const writers = findWriters(environment.shell, plainShell === undefined ? {} : { plainShell }, request.findWriter);
  const { root, tmpDir } = environment.workspace;
  const { buildsDir, projectSlot, variables: added = [] } = environment;
  const { acceptsName } = writers.author;
  const place = { root, tmpDir, buildsDir, projectSlot, added, acceptsName };
  const { variables, settings } = setUp(request, place, (sentence) => trace.print(sentence, "warning"));
  const xtrace = settings.debugTrace;
  const { ops: gitOps, warning } = gitVariables({
    mode: runner.jobGitVariables ?? "safe",
    apart: environment.helperApart === true,
    ...(environment.gitSettings === undefined ? {} : { settings: environment.gitSettings }),
    environment: runner.environment,
    names: variables.names(),
    get: variables.get,
  });
  const skipped = settings.git.strategy === "none" || settings.git.strategy === "empty";
  if (warning !== null && !skipped) trace.print(warning, "warning");
  const coordinatorOrigin = runner.url.origin;
  const stages = planJob({ job, settings, variables, place, runner, identity, coordinatorOrigin, gitOps });
  const context = {
    job,
    transfers: request.transfers,
    environment,
    writers,
    trace,
    log: request.log,
    xtrace,
    attemptPauseMs: request.attemptPauseMs ?? 2000,
    ...(kept === undefined ? {} : { kept }),
  };
  kept?.plan({ stages, xtrace, concurrentId, projectSlot, root, tmpDir, buildsDir });
  for (const [number, stage] of stages.entries()) {
    const planned = { stage, number };
    if (handsOver(signals.end.signal)) throw signals.end.signal.reason;
    if (mayRun(stage.policy, life.ended, stoppedBy(signals))) await pass(planned, context, signals, life);
  }
  return decided(life.ended) ?? outcomeOfSignals(signals) ?? { result: "success" };
}

/** One stage of the plan, from its beginning to its verdict. */
async function pass(
  { stage, number }: { readonly stage: Stage; readonly number: number },
  context: Omit<StageContext, "status">,
  signals: Signals,
  life: Life,
): Promise<void> {
  const { trace, log } = context;
  const ownClock = stage.policy.clock === "own";
  const { signal } = ownClock ? signals.end : signals.work;
  const status = ownClock ? jobStatus(decided(life.ended)) : "running";
  life.begin(stage, number);
  context.environment.enter?.(stage.name, decided(life.ended) !== null);
  try {
    await trace.section(stage.name, async () => {
      await runStage(stage, { ...context, status }, signal).catch(async (error: unknown) => {
        // The section stays open for whoever goes on in it.
        if (handsOver(signal)) await trace.letGo();
        throw error;
      });
    });
    life.end(stage, { is: "passed" }, number);
  } catch (error) {
    // What was begun is gone on with as it is, and what ended may be tried again.
    if (handsOver(signal)) throw signal.reason;
    if (isUnexpected(error)) logUnexpected(log, error);
    const verdict = judge(stage, error, life.ended, signal);
    const said = sentenceOn(stage, verdict);
    if (said !== null) trace.print(said.text, said.tone);
    life.end(stage, verdict, number);
  }
}

function stoppedBy({ job, end }: Signals): Stopped {
  // What has run to its end has its verdict here.
  if (end.signal.aborted && !handsOver(end.signal)) return "over";
  if (!(job.aborted && job.reason instanceof Stop)) return "nothing";
  return job.reason.why === "canceling" || job.reason.why === "timed_out" ? job.reason.why : "over";
}

/** A cancel or the runner's end that came while only after_script was running; the job's time limit is over by then. */
function outcomeOfSignals(signals: Signals): Outcome | null {
  const stopped = stoppedBy(signals);
  if (stopped === "over") return outcomeOf(undefined, signals.end.signal);
  return stopped === "canceling" ? outcomeOf(undefined, signals.job) : null;
}
