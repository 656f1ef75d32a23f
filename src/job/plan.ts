import type { Op } from "../shell.ts";
import { getSources } from "./get-sources.ts";
import type { Hook, Job, Step, When } from "./job.ts";
import type { JobSettings } from "./settings.ts";
import { userScript } from "./user-script.ts";
import type { JobVariables, Place } from "./variables.ts";
import { when } from "./when.ts";

/** Phases of a job, as sections of its trace and metrics name them. */
export type StageName = string;

/** A phase of a job, in the order of the plan. Plain data: printable, comparable, testable without a process. */
export interface Stage {
  readonly kind: "script";
  readonly name: StageName;
  /** For sentences: `getting the sources`. */
  readonly title: string;
  readonly ops: readonly Op[];
  /** Run once in the place of `ops`, in the same attempt, if these failed and the network was not why. */
  readonly anew: readonly Op[] | null;
  /** Where there are two environments: the one with git, or the one that the job asked for. */
  readonly runIn: "helper" | "build";
  /** The author's own text: its end is the job's fault, its output proves nothing. */
  readonly authored: boolean;
  readonly policy: Policy;
}

export interface Policy {
  /** What must have happened so far. */
  readonly when: When;
  /** Only if the author's script had begun. */
  readonly afterScriptBegan: boolean;
  /** 1–10. */
  readonly attempts: number;
  /** `null`: only the job's own limit. */
  readonly timeoutMs: number | null;
  /** `false`: a failure is a warning in the trace. */
  readonly decides: boolean;
  /** `job`: ends with the job's signal. `own`: also runs after a cancel and after the job's time limit, for `timeoutMs`. */
  readonly clock: "job" | "own";
}

export interface PlanRequest {
  readonly job: Job;
  readonly settings: JobSettings;
  readonly variables: JobVariables;
  readonly place: Pick<Place, "root" | "tmpDir">;
  /** The operator's: what runs in each job, where sources come from. */
  readonly runner: PlanSettings;
  readonly coordinatorOrigin: string;
}

export interface PlanSettings {
  readonly cloneUrl: string;
  readonly preCloneScript: string;
  readonly postGetSourcesScript: string;
  readonly preBuildScript: string;
  readonly postBuildScript: string;
  readonly getSourcesTimeoutMs: number | null;
  readonly gitSslNoVerify: boolean;
}

/**
 * What a job does, in order: sources, scripts, after_script. Stages with nothing to do are not made.
 * @throws {ScriptFailure} the sources cannot be had as the job describes them
 */
export function planJob(request: PlanRequest): Stage[] {
  const { job } = request;
  const steps = job.steps.filter((step) => step.script.some((entry) => entry.trim() !== ""));
  return [
    planSources(request),
    ...steps.filter((step) => step.name !== "after_script").map((step) => planScript(step, request)),
    ...steps.filter((step) => step.name === "after_script").map((step) => planAfterScript(step, request)),
  ];
}

function planSources({ job, settings, variables, place, runner, coordinatorOrigin }: PlanRequest): Stage {
  const hook = (name: Hook["name"]): string[] =>
    job.hooks.filter((entry) => entry.name === name).flatMap((entry) => entry.script);
  const skipped = settings.git.strategy === "none" || settings.git.strategy === "empty";
  const before = skipped ? [] : [...entriesOf(runner.preCloneScript), ...hook("pre_get_sources_script")];
  const after = skipped ? [] : [...entriesOf(runner.postGetSourcesScript), ...hook("post_get_sources_script")];
  const { ops, anew } = getSources({
    job,
    ...place,
    git: settings.git,
    cloneUrl: runner.cloneUrl,
    sslNoVerify: settings.sslNoVerify && runner.gitSslNoVerify,
    coordinatorOrigin,
    before,
    after,
    get: variables.get,
  });
  const exports = variables.exports(before.length + after.length > 0 ? "hooks" : "runner");
  return {
    kind: "script",
    name: "get_sources",
    title: "getting the sources",
    ops: [...exports, ...ops],
    anew: anew === null ? null : [...exports, ...anew],
    runIn: "helper",
    authored: false,
    policy: {
      when: "on_success",
      afterScriptBegan: false,
      attempts: settings.attempts.getSources,
      timeoutMs: runner.getSourcesTimeoutMs,
      decides: true,
      clock: "job",
    },
  };
}

function planScript(step: Step, { settings, variables, place, runner }: PlanRequest): Stage {
  const isScript = step.name === "script";
  const name = isScript
    ? "build_script"
    : `step_${step.name
        .replace(/[^A-Za-z0-9]+/g, "_")
        .slice(0, 60)
        .toLowerCase()}`;
  return authoredStage(
    name,
    isScript ? "the script" : `the step ${JSON.stringify(step.name)}`,
    [
      ...variables.exports("author"),
      { op: "cd", path: place.root },
      ...(isScript ? userScript(entriesOf(runner.preBuildScript)) : []),
      ...userScript(step.script),
      ...(isScript ? userScript(entriesOf(runner.postBuildScript)) : []),
    ],
    {
      // AlloyCI copies `when` and `allow_failure` of the whole job into its script: they are about the pipeline.
      when: isScript ? "on_success" : step.when,
      afterScriptBegan: false,
      attempts: 1,
      timeoutMs: shorter(settings.scriptTimeoutMs, step.timeoutMs),
      decides: isScript || !step.allowFailure,
      clock: "job",
    },
  );
}

function planAfterScript(step: Step, { settings, variables, place }: PlanRequest): Stage {
  return authoredStage(
    "after_script",
    "after_script",
    [
      ...variables.exports("author"),
      // The script may have removed its directory.
      when(
        { test: "directory", path: place.root },
        [{ op: "cd", path: place.root }],
        [
          { op: "mkdir", path: place.tmpDir },
          { op: "cd", path: place.tmpDir },
        ],
      ),
      { op: "print", text: "Running after script...", tone: "notice" },
      ...userScript(step.script),
    ],
    {
      when: "always",
      afterScriptBegan: true,
      attempts: 1,
      timeoutMs: shorter(settings.afterScriptTimeoutMs, step.timeoutMs),
      decides: !settings.afterScriptIgnoreErrors,
      clock: "own",
    },
  );
}

function authoredStage(name: string, title: string, ops: readonly Op[], policy: Policy): Stage {
  return { kind: "script", name, title, ops, anew: null, runIn: "build", authored: true, policy };
}

function entriesOf(script: string): string[] {
  return script.trim() === "" ? [] : [script];
}

function shorter(a: number | null, b: number | null): number | null {
  return a === null ? b : b === null ? a : Math.min(a, b);
}

/** What the job asks for and this runner does not do yet, one sentence each. */
export function unsupported(job: Job): string[] {
  const list = (items: readonly string[]): string => {
    const shown = items.slice(0, 10).map((item) => (item.length > 100 ? `${item.slice(0, 100)}…` : item));
    return items.length > shown.length
      ? `${shown.join(", ")} and ${items.length - shown.length} more`
      : shown.join(", ");
  };
  const artifacts = job.artifacts
    .filter(({ paths, untracked }) => paths.length > 0 || untracked)
    .map(
      ({ name, paths, untracked }) =>
        `${name === "" ? "artifacts" : name} (${list([...paths, ...(untracked ? ["untracked files"] : [])])})`,
    );
  const caches = job.cache
    .filter(({ paths, untracked }) => paths.length > 0 || untracked)
    .map(
      ({ key, paths, untracked }) =>
        `${key === "" ? "default" : key} (${list([...paths, ...(untracked ? ["untracked files"] : [])])})`,
    );
  const dependencies = job.dependencies.filter(({ file }) => file !== null).map(({ name }) => name);
  return [
    ...(dependencies.length > 0
      ? [`This runner does not download artifacts yet. Missing are those of: ${list(dependencies)}.`]
      : []),
    ...(caches.length > 0
      ? [`This runner does not keep caches yet. Not restored and not saved: ${list(caches)}.`]
      : []),
    ...(artifacts.length > 0 ? [`This runner does not upload artifacts yet. Not uploaded: ${list(artifacts)}.`] : []),
  ];
}
