import { describeError, handsOver, Stop } from "../../errors.ts";
import type { Environment } from "../../executor/environment.ts";
import { deadline, never, unlessAborted } from "../../time.ts";
import { addUsage, type JobUsage, type Outcome } from "../job.ts";
import { formatDuration } from "../plan/duration.ts";
import { createLife, withoutWords } from "./life.ts";
import { isUnexpected, outcomeOf } from "./outcome/outcome.ts";
import { sayVerdict } from "./outcome/verdict.ts";
import { greet, introduce, prepare, saidToBePrepared } from "./preparation/prepare.ts";
import { withSecrets } from "./preparation/secrets.ts";
import type { FoundRun, RunJobRequest } from "./request.ts";
import { type Joined, joinSignals } from "./signals.ts";
import { runStages } from "./stages/stages.ts";
import { offerTerminal } from "./terminal.ts";
import { logUnexpected } from "./trace/log-unexpected.ts";
import { asEnded, createStageClock, usageFields, usageLine, usageOf } from "./used.ts";

export interface RanJob {
  /** Its reason is in the trace's last line already. `null`: it is left as it is to the runner's next process. */
  readonly outcome: Outcome | null;
  /** Settles, always well, when the environment is gone or could not be removed in time. */
  readonly destroyed: Promise<void>;
}

/**
 * Run one job: prepare its environment, run its stages, say the verdict. All of the job's processes have ended when this
 * resolves, unless it was handed over; the trace is left open, and the environment is being removed. Never rejects.
 * @param signal stops the scripts, with a `Stop`. After `canceling` and `timed_out` after_script still runs.
 */
export async function runJob(request: RunJobRequest, signal: AbortSignal): Promise<RanJob> {
  const { trace, log, halt, found } = request;
  if (found?.progress.finished) return finishedBefore(request, found, found.progress.finished);
  const terminal = offerTerminal(request);
  const clock = createStageClock();
  for (const { stage, ms } of found?.progress.spent ?? []) {
    clock.add(stage === null ? "prepare_executor" : (found?.plan?.stages[stage]?.name ?? ""), ms);
  }
  const life = createLife(
    (progress) => {
      if (progress.at === "resolving") clock.enter("resolve_secrets");
      if (progress.at === "preparing") clock.enter("prepare_executor");
      if (progress.at === "running") clock.enter(progress.stage);
      request.onProgress?.(progress);
    },
    request.kept?.note,
    trace.mask,
  );
  /** Fires when it is to be handed over, once it can be. */
  using handOver = createHandOver(request);
  /** Fires when nothing more may run. */
  using end = joinSignals([
    { signal: halt },
    { signal: trace.broken },
    { signal, counts: (reason) => !allowsAfterScript(reason) },
    { signal: handOver.signal, counts: () => !signal.aborted },
  ]);
  const said = found?.progress.lastLines ?? 0;
  // Of one that has said nothing yet nobody has missed anything.
  if (found?.progress.greeted === true && said === 0) trace.aside(sayAway(found.progress.awayMs), "notice");
  /** Where an earlier process has seen its scripts end, only that could tell what they have used. */
  const used = async (place: Environment): Promise<JobUsage> =>
    addUsage(found?.progress.used ?? {}, await usageOf(place));
  let environment: Environment | null = found?.environment ?? null;
  if (found !== undefined && environment?.adopted !== undefined) {
    const notes = { print: trace.print, stream: trace.output, services: trace.services };
    environment.adopted(notes, new Date(Date.now() - found.progress.awayMs));
  }
  let outcome: Outcome;
  try {
    // What runs already is ended by whoever goes on with it.
    if (environment === null) end.signal.throwIfAborted();
    using work = joinSignals([{ signal: end.signal }, { signal }]);
    if (environment !== null) await saidToBePrepared(request, environment);
    greet(request);
    const complete = await withSecrets(request, life.resolving, work.signal);
    const place = environment ?? (await prepare(complete, introduce(complete), life, work.signal));
    environment = place;
    handOver.able(place);
    terminal.ready(place);
    request.onPlace?.(() => used(place));
    outcome = await runStages(complete, place, { job: signal, work, end }, life);
  } catch (error) {
    if (handsOver(end.signal)) {
      await Promise.all([terminal.close(), trace.letGo()]);
      return { outcome: null, destroyed: Promise.resolve() };
    }
    if (isUnexpected(error)) logUnexpected(log, error);
    outcome = outcomeOf(error, end.signal.aborted ? end.signal : signal);
  }
  life.leaving();
  clock.enter(undefined);
  if (found?.progress.lastLines == null) life.over();
  outcome = await terminal.hold(outcome, [end.signal, signal]);
  await terminal.close();
  if (environment !== null) await scriptsOver(environment);
  const usage = environment === null ? {} : asEnded(await used(environment));
  // A job that got no place has used nothing.
  if (environment !== null && said === 0) trace.print(usageLine(usage, clock.times), "plain");
  if (said < 2) outcome = await sayVerdict(trace, outcome, log);
  if (environment !== null) log.info("what the job used", usageFields(usage, clock.times));
  life.finish(outcome, usage);
  return { outcome, destroyed: destroy(environment, request) };
}

function sayAway(ms: number): string {
  return `The runner was restarted (away for ${(ms / 1000).toFixed(1)} s); the job went on and is followed again`;
}

/** Nothing is left to be said of it, and little to be done. */
function finishedBefore(request: RunJobRequest, { environment }: FoundRun, outcome: Outcome): RanJob {
  request.onProgress?.({ at: "finished", outcome: withoutWords(outcome) });
  return { outcome, destroyed: destroy(environment ?? null, request) };
}

interface HandOver extends Joined {
  /** The job has surroundings. */
  able(environment: Environment): void;
}

/** A job whose surroundings end with this process, or of which something was not kept, is never handed over. */
function createHandOver({ handOver, kept, onOutlives }: RunJobRequest): HandOver {
  const controller = new AbortController();
  let joined: Joined | undefined;
  return {
    signal: controller.signal,
    able({ handle }) {
      if (handOver === undefined || kept?.whole !== true || handle === undefined) return;
      onOutlives?.();
      joined = joinSignals([{ signal: handOver, counts: () => kept.whole }]);
      const { signal } = joined;
      const fire = (): void => controller.abort(signal.reason);
      if (signal.aborted) fire();
      else signal.addEventListener("abort", fire, { once: true });
    },
    [Symbol.dispose]: () => joined?.[Symbol.dispose](),
  };
}

const LAST_WORDS_MS = 2000;

/** Nothing of the surroundings writes into the trace afterwards, unless they do not answer. */
async function scriptsOver(environment: Environment): Promise<void> {
  if (environment.scriptsOver === undefined) return;
  using limit = deadline(never, LAST_WORDS_MS, new Stop("timed_out", "no answer"));
  await unlessAborted(environment.scriptsOver(), limit.signal).catch(() => {});
}

/** Whether a stop ends the job's script alone, so that after_script still runs. */
function allowsAfterScript(reason: unknown): boolean {
  return reason instanceof Stop && (reason.why === "canceling" || reason.why === "timed_out");
}

async function destroy(
  environment: Environment | null,
  { log, destroyTimeoutMs = 30_000 }: RunJobRequest,
): Promise<void> {
  if (environment === null) return;
  const limitMs = environment.destroyMs ?? destroyTimeoutMs;
  const tooLong = new Stop("timed_out", `clean-up took longer than ${formatDuration(limitMs)}`);
  using grace = deadline(never, limitMs, tooLong);
  try {
    await environment.destroy(grace.signal);
  } catch (error) {
    log.warn("the environment of a job could not be removed", { problem: describeError(error) });
  }
}
