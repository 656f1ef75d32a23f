import { handsOver, Stop } from "../../../errors.ts";
import type { Environment } from "../../../executor/environment.ts";
import type { SectionMarks } from "../../../trace/contract.ts";
import type { Outcome } from "../../job.ts";
import { planJob } from "../../plan/plan.ts";
import { setUp } from "../../plan/set-up.ts";
import type { Stage } from "../../plan/stage.ts";
import { findWriters, type Writers } from "../../plan/writers.ts";
import { gitVariables } from "../../variables/git-variables.ts";
import { type FoundStage, openSectionOf } from "../durable/found.ts";
import type { StoredPlan } from "../durable/stored-plan.ts";
import type { Life } from "../life.ts";
import { isUnexpected, jobStatus, outcomeOf } from "../outcome/outcome.ts";
import type { RunJobRequest } from "../request.ts";
import type { Joined } from "../signals.ts";
import { logUnexpected } from "../trace/log-unexpected.ts";
import { runStage, type StageContext } from "./run-stage.ts";
import { wasSaid } from "./said.ts";
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
  const { job, trace, kept, found } = request;
  const { plainShell = request.executor.plainShell } = environment;
  const writers = findWriters(environment.shell, plainShell === undefined ? {} : { plainShell }, request.findWriter);
  const plan = found?.plan ?? makePlan(request, environment, writers);
  const { stages, xtrace } = plan;
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
  if (found?.plan === undefined) kept?.plan(plan);
  else life.recall(stages, found.progress.ended);
  const begun = found?.progress.stage ?? null;
  const next = found?.progress.next ?? 0;
  for (const [number, stage] of stages.entries()) {
    if (number < next) continue;
    const planned = { stage, number };
    if (handsOver(signals.end.signal)) throw signals.end.signal.reason;
    if (begun?.number === number) await pass(planned, { ...context, found: begun }, signals, life);
    else if (mayRun(stage.policy, life.ended, stoppedBy(signals))) await pass(planned, context, signals, life);
  }
  return decided(life.ended) ?? outcomeOfSignals(signals) ?? { result: "success" };
}

function makePlan(request: RunJobRequest, environment: Environment, writers: Writers): StoredPlan {
  const { job, runner, identity, trace, concurrentId } = request;
  const { root, tmpDir } = environment.workspace;
  const { buildsDir, projectSlot, variables: added = [] } = environment;
  const { acceptsName } = writers.author;
  const place = { root, tmpDir, buildsDir, projectSlot, added, acceptsName };
  const { variables, settings } = setUp(request, place, (sentence) => trace.print(sentence, "warning"));
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
  return { stages, xtrace: settings.debugTrace, concurrentId, projectSlot, root, tmpDir, buildsDir };
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
  const { found } = context;
  life.begin(stage, number, { again: found !== undefined });
  context.environment.enter?.(stage.name, decided(life.ended) !== null);
  try {
    await trace.section(
      stage.name,
      async () => {
        await runStage(stage, { ...context, status }, signal).catch(async (error: unknown) => {
          // The section stays open for whoever goes on in it.
          if (handsOver(signal)) await trace.letGo();
          throw error;
        });
      },
      marksOf(found),
    );
    life.end(stage, { is: "passed" }, number);
  } catch (error) {
    // What was begun is gone on with as it is, and what ended may be tried again.
    if (handsOver(signal)) throw signal.reason;
    if (isUnexpected(error)) logUnexpected(log, error);
    const verdict = judge(stage, error, life.ended, signal);
    const said = sentenceOn(stage, verdict);
    if (said !== null && !wasSaid(said.text, found)) trace.print(said.text, said.tone);
    life.end(stage, verdict, number);
  }
}

/** Marks of the stage's section that an earlier process has put into the trace. */
function marksOf(found: FoundStage | undefined): SectionMarks | undefined {
  if (wasSaid("section_end:", found)) return "closed";
  return openSectionOf(found?.lines ?? [])?.marks;
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
