import type { LocalCoordinator } from "../../coordinator/coordinator.ts";
import type { LocalJob } from "../../coordinator/jobs/job.ts";
import type { PipelineJob } from "../../pipeline/pipeline-job.ts";
import type { JobDisplays } from "../../report/job-displays.ts";
import type { Found } from "../compose/include-sources.ts";
import { patternOf } from "../decide/regex.ts";
import type { PlannedJob, PlannedTrigger } from "../plan/plan.ts";
import type { Bell } from "./bell.ts";
import { handedDown, loadChild, MOST_DEPTH } from "./child.ts";
import { searchCoverage } from "./coverage.ts";
import { reportedBy } from "./dotenv.ts";
import { TOO_DEEP } from "./foreseen.ts";
import {
  isForgiven,
  isRetried,
  type JobRun,
  notBegun,
  type Pipeline,
  resultOf,
  resultOfTrigger,
  standingOf,
} from "./job-run.ts";
import { type Composite, composite, moveOf, stateBy } from "./schedule.ts";
import { before, jobsAbove, jobsBefore } from "./sources.ts";
import { type SpecOptions, specOfPlanned } from "./spec.ts";

/** What all pipelines of one run share. */
export interface Floor {
  readonly coordinator: LocalCoordinator;
  readonly displays: JobDisplays;
  say(text: string): void;
  /** All that jobs are handed but what differs from pipeline to pipeline. */
  readonly handed: Omit<SpecOptions, "around" | "pipelineId" | "pipelineName">;
  /** Predefined variables that are true only of what runs here. */
  readonly overrides: ReadonlyMap<string, string>;
  readonly noDelay: boolean;
  /** How long a canceled job may take to send its last lines. */
  readonly lastWordsMs: number;
  /** Whether somebody asked for a manual job. */
  isPlayed(job: PlannedJob): boolean;
  /** Told what a job uploaded, once it has ended. */
  readonly keep: ((name: string, local: LocalJob) => Promise<void>) | undefined;
  /** A file out of an uploaded archive. */
  pick(archive: string, path: string): Promise<Found<string>>;
  /** Nobody reads the output any more. */
  isGone(): boolean;
  readonly bell: Bell;
  /** Resource groups that are taken. */
  readonly busy: Set<string>;
  /** The next `CI_PIPELINE_ID`. */
  nextId(): string;
}

/** How a pipeline has ended. */
export interface Followed {
  readonly word: Composite;
  readonly firstFailure: PipelineJob | undefined;
}

/** Runs a pipeline and its children by GitLab's rules: each job as soon as what it needs has ended as its `when` wants it. */
export async function followPipeline(pipeline: Pipeline, floor: Floor, signal: AbortSignal): Promise<Followed> {
  const { loaded, runs, label } = pipeline;
  const { plan } = loaded;
  const { coordinator, displays, bell } = floor;
  const around = {
    ...loaded.around,
    predefined: new Map([...loaded.around.predefined, ...floor.overrides]),
  };
  const handed: SpecOptions = {
    ...floor.handed,
    variables: [...pipeline.given, ...floor.handed.variables],
    around,
    pipelineId: pipeline.id,
    pipelineName: plan.name,
  };
  const say = (job: PlannedJob, text: string): void => {
    for (const line of text.split("\n")) floor.say(`${label}${job.name}: ${line}`);
  };
  const going = new Set<Promise<void>>();
  const stopping = new AbortController();
  const stop = (reason: unknown): void => stopping.abort(reason);
  const onAbort = (): void => {
    stop(signal.reason);
    bell.ring();
  };
  let firstFailure: PipelineJob | undefined;

  const earlier = new Map(runs.map((run) => [run, before(run, pipeline)]));
  /** Makes one try of a job. */
  const attempt = async (run: JobRun): Promise<PipelineJob> => {
    const asked = jobsAbove(run, pipeline, handed);
    for (const missing of asked.missing) say(run.job, `there are no ${missing} here`);
    const from = [...jobsBefore(run, pipeline), ...asked.found];
    const given = from.flatMap(({ local }) => (local === undefined || local.artifacts.length === 0 ? [] : [local]));
    const local = coordinator.enqueue(specOfPlanned(run.job, handed, given, reportsOf(from)));
    run.local = local;
    displays.open(local, `${label}${run.job.name}`);
    const pattern = run.job.coverage === null ? null : patternOf(run.job.coverage);
    const search = pattern === null ? undefined : searchCoverage(pattern);
    const stopSearch =
      search === undefined
        ? undefined
        : coordinator.on("trace", ({ job, bytes }) => {
            if (job === local) search.write(bytes);
          });
    try {
      await local.finished({ timeoutMs: Number.POSITIVE_INFINITY, signal: stopping.signal });
    } catch (error) {
      if (!stopping.signal.aborted) throw error;
      local.cancel("canceling");
      if (local.pickedUpAt !== undefined && !floor.isGone())
        await local.reported({ timeoutMs: floor.lastWordsMs }).catch(() => undefined);
    }
    stopSearch?.();
    displays.end(local);
    const reports = await reportedBy(local.artifacts);
    if ("problem" in reports) say(run.job, `GitLab refuses its dotenv report: ${reports.problem}`);
    else run.reported = reports.variables;
    return { ...resultOf(run.job, local, "problem" in reports), coverage: search?.found() };
  };
  const script = async (run: JobRun): Promise<void> => {
    const { job } = run;
    for (let tries = 0; ; tries++) {
      const result = await attempt(run);
      run.result = result;
      if (result.state !== "failed" || stopping.signal.aborted || !isRetried(job.retry, tries, result)) break;
      say(job, `try ${tries + 2} of ${(job.retry?.max ?? 0) + 1}`);
    }
    run.endedAt = performance.now();
    if (run.local !== undefined) await floor.keep?.(`${label}${job.name}`, run.local);
    const { result } = run;
    run.state = result?.state === "failed" || result?.state === "success" ? result.state : "canceled";
    ended(run);
  };

  /** Makes the child pipeline of a job. */
  const open = async (run: JobRun, trigger: PlannedTrigger): Promise<Found<Pipeline>> => {
    if (depthOf(pipeline) >= MOST_DEPTH) return { problem: TOO_DEEP };
    const { job } = run;
    const reported = reportsOf(jobsBefore(run, pipeline));
    const given = handedDown({ job, trigger, around, parentId: pipeline.id, given: pipeline.given, reported });
    const artifact = async (name: string, path: string): Promise<Found<string>> => {
      const from = runs.find((one) => one.job.name === name)?.local;
      const archive = from?.artifacts.find(({ type }) => type === "archive");
      return archive === undefined
        ? { problem: "is not there: it has uploaded no files" }
        : floor.pick(archive.path, path);
    };
    const found = await loadChild(loaded, trigger, pipeline.id, given, artifact);
    if ("problem" in found) return found;
    for (const text of found.found.warnings) say(job, text);
    return {
      found: {
        loaded: found.found,
        id: floor.nextId(),
        label: `${label}${job.name} / `,
        parent: pipeline,
        given,
        runs: found.found.plan.jobs.map(notBegun),
        heldAbove: new Set([...pipeline.heldAbove, ...(job.resourceGroup === null ? [] : [job.resourceGroup])]),
      },
    };
  };
  const startChild = async (run: JobRun, trigger: PlannedTrigger): Promise<void> => {
    const made = await open(run, trigger);
    if ("problem" in made) {
      say(run.job, `GitLab would not make its pipeline: ${made.problem}`);
      run.endedAt = performance.now();
      run.state = "failed";
      run.result = resultOfTrigger(run, "failed", { failureReason: "no_pipeline_is_made" });
      ended(run);
      return;
    }
    run.child = made.found;
    const end = followPipeline(made.found, floor, stopping.signal);
    if (trigger.strategy === null) {
      run.endedAt = performance.now();
      run.state = "success";
      run.result = resultOfTrigger(run, "success");
      ended(run);
    }
    const { word, firstFailure: failure } = await end;
    if (trigger.strategy === null) {
      if (failure !== undefined)
        say(run.job, "its pipeline has failed, which is no failure of this one: with strategy: depend it would be");
      return;
    }
    run.endedAt = performance.now();
    const state = stopping.signal.aborted ? "canceled" : stateBy(trigger.strategy, word);
    run.state = state;
    run.result = resultOfTrigger(run, state, {
      exitCode: failure?.exitCode,
      failureReason: "its_pipeline_has_not_passed",
    });
    ended(run);
  };

  const ended = (run: JobRun): void => {
    if (run.job.resourceGroup !== null && !pipeline.heldAbove.has(run.job.resourceGroup))
      floor.busy.delete(run.job.resourceGroup);
    if (run.state === "failed" && !isForgiven(run)) {
      firstFailure ??= run.result;
      if (plan.cancelOnFailure) stop(new Error("A job has failed, and the workflow cancels the others then"));
    }
    bell.ring();
  };
  const start = (run: JobRun): void => {
    const { trigger, resourceGroup } = run.job;
    run.state = "running";
    run.startedAt = performance.now();
    if (resourceGroup !== null && !pipeline.heldAbove.has(resourceGroup)) floor.busy.add(resourceGroup);
    const end = trigger === null ? script(run) : startChild(run, trigger);
    // The promise is awaited below, perhaps after others.
    end.catch(bell.ring);
    going.add(end);
    end.then(
      () => going.delete(end),
      () => undefined,
    );
  };
  const delay = (run: JobRun, seconds: number): void => {
    run.state = "scheduled";
    say(run.job, `starts in ${seconds} s`);
    const timer = setTimeout(() => {
      if (!stopping.signal.aborted) start(run);
      bell.ring();
    }, seconds * 1000);
    stopping.signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  };

  /** @returns whether something was decided: others may depend on it. `held`: it waits for its resource group */
  const decide = (run: JobRun): boolean | "held" => {
    const { job } = run;
    const { runs: awaited, asNeeds } = earlier.get(run) ?? before(run, pipeline);
    const move = moveOf(job.when, composite(awaited.map(standingOf), asNeeds), asNeeds);
    if (move === "wait") return false;
    if (move === "skip") run.state = "skipped";
    else if (job.when === "manual" && !floor.isPlayed(job)) run.state = "manual";
    else if (job.trigger !== null && job.trigger.project !== null) {
      say(job, `the pipeline of ${job.trigger.project} is not started here`);
      run.state = "success";
    } else if (
      job.resourceGroup !== null &&
      !pipeline.heldAbove.has(job.resourceGroup) &&
      floor.busy.has(job.resourceGroup)
    )
      return "held";
    else if (job.when === "delayed" && job.startInSeconds !== null && !floor.noDelay) delay(run, job.startInSeconds);
    else {
      for (const what of job.leftOut) say(job, what);
      start(run);
    }
    return true;
  };
  /** Decides all that can be decided. @returns whether a job waits for its resource group */
  const decideAll = (): boolean => {
    for (;;) {
      let held = false;
      let decided = false;
      for (const run of runs) {
        if (stopping.signal.aborted || run.state !== "created") continue;
        const found = decide(run);
        held ||= found === "held";
        decided ||= found === true;
      }
      if (!decided) return held;
    }
  };

  signal.addEventListener("abort", onAbort, { once: true });
  try {
    if (signal.aborted) onAbort();
    for (;;) {
      const rung = bell.next();
      const held = decideAll() && !stopping.signal.aborted;
      const waits = runs.some(({ state }) => state === "scheduled") && !stopping.signal.aborted;
      if (going.size === 0 && !waits && !held) break;
      await Promise.race([rung, ...going]);
    }
    await Promise.all(going);
  } finally {
    // Whatever went wrong, no job of this pipeline may go on by itself.
    stop(new Error("The pipeline has ended"));
    await Promise.allSettled(going);
    signal.removeEventListener("abort", onAbort);
  }
  return { word: composite(runs.map(standingOf), false), firstFailure };
}

function reportsOf(runs: readonly JobRun[]): Map<string, string> {
  return new Map(runs.flatMap(({ reported }) => [...reported]));
}

function depthOf({ parent }: Pipeline): number {
  return parent === undefined ? 0 : depthOf(parent) + 1;
}
