import type { Op } from "../../shell.ts";
import type { Artifact, Hook, Step } from "../job.ts";
import { cleanUpSources } from "../sources/clean-up.ts";
import { getSources, isThorough } from "../sources/get-sources.ts";
import type { SourcesRequest } from "../sources/sources-request.ts";
import { trustOf } from "../sources/trust.ts";
import { planArchive, planRestore } from "./plan-cache.ts";
import { policyLines } from "./policy-lines.ts";
import type { PlanRequest, Policy, ScriptStage, Stage, TransferStage } from "./stage.ts";
import { userScript } from "./user-script.ts";
import { when } from "./when.ts";

/**
 * Longest upload of what is kept of a failed job: it may begin when the job's own time is over. One of a job that was well
 * so far ends with the job's signal.
 */
const UPLOAD_AFTER_FAILURE_MS = 3_600_000;

const CLEAN_UP_MS = 5 * 60_000;

/**
 * What a job does, in order: sources, files of earlier jobs, scripts, after_script, files for later ones. Stages with
 * nothing to do are not made.
 * @throws {ScriptFailure} the sources cannot be had as the job describes them
 */
export function planJob(request: PlanRequest): Stage[] {
  const { job } = request;
  const steps = job.steps.filter((step) => step.script.some((entry) => entry.trim() !== ""));
  const restore = planRestore(request);
  return [
    { ...planSources(request), ...settingAside(request, restore) },
    ...restore,
    ...planDownloads(request),
    ...steps.filter((step) => step.name !== "after_script").map((step) => planScript(step, request)),
    ...steps.filter((step) => step.name === "after_script").map((step) => planAfterScript(step, request)),
    ...planArchive(request),
    ...job.artifacts.flatMap((artifact) => planUploads(artifact, request)),
    ...planCleanUp(request),
  ];
}

/** Where all that is not of the commit goes before caches come: there they can as well stay. Forks' jobs leave nothing. */
function settingAside(
  { job, settings }: PlanRequest,
  restore: readonly TransferStage[],
): Pick<ScriptStage, "setsAside"> {
  const { strategy, checkout, cleanFlags } = settings.git;
  const cleans = strategy === "clone" || (strategy === "fetch" && checkout && isThorough(cleanFlags));
  if (!cleans || trustOf(job).level === "fork") return {};
  const setsAside = restore.flatMap(({ transfer }) => (transfer.what === "restore_cache" ? transfer.caches : []));
  return setsAside.length === 0 ? {} : { setsAside };
}

function planDownloads({ job, settings }: PlanRequest): TransferStage[] {
  const dependencies = job.dependencies.filter(({ file }) => file !== null);
  if (dependencies.length === 0) return [];
  return [
    {
      kind: "transfer",
      name: "download_artifacts",
      title: "downloading artifacts",
      transfer: { what: "download_artifacts", dependencies, attempts: settings.attempts.downloadArtifacts },
      policy: {
        when: "on_success",
        afterScriptBegan: false,
        attempts: settings.attempts.downloadArtifacts,
        timeoutMs: null,
        decides: true,
        clock: "job",
      },
    },
  ];
}

/** What is wanted of a failed job too has a clock of its own: neither a cancel nor the job's limit ends it. */
function planUploads(artifact: Artifact, { settings, variables }: PlanRequest): TransferStage[] {
  const { paths, exclude, untracked, type, format, expireIn } = artifact;
  if (paths.length === 0 && !untracked) return [];
  const upload = {
    name: variables.expand(artifact.name),
    paths: paths.map(variables.expand),
    exclude: exclude.map(variables.expand),
    untracked,
    expireIn: variables.expand(expireIn),
    type,
    format,
    level: settings.artifactLevel,
  };
  const own = artifact.when !== "on_success";
  return [
    {
      kind: "transfer",
      name: "upload_artifacts",
      title: "uploading artifacts",
      transfer: { what: "upload_artifacts", upload },
      policy: {
        when: artifact.when,
        afterScriptBegan: false,
        attempts: 1,
        timeoutMs: own ? UPLOAD_AFTER_FAILURE_MS : null,
        decides: true,
        clock: own ? "own" : "job",
      },
    },
  ];
}

function sourcesRequest({
  job,
  settings,
  variables,
  place,
  runner,
  identity,
  coordinatorOrigin,
}: PlanRequest): SourcesRequest {
  return {
    job,
    ...place,
    git: settings.git,
    trust: trustOf(job),
    cloneUrl: runner.cloneUrl,
    serverUrl: runner.url,
    plainLineEnds: runner.plainLineEnds ?? false,
    userAgent: `alloy-runner ${identity.version} ${identity.architecture}`,
    template: runner.sourcesTemplate,
    sslNoVerify: settings.sslNoVerify && runner.gitSslNoVerify,
    coordinatorOrigin,
    before: [],
    after: [],
    folded: settings.scriptSections,
    get: variables.get,
  };
}

function planSources(request: PlanRequest): ScriptStage {
  const { job, settings, variables, place, runner, gitOps = [] } = request;
  const hook = (name: Hook["name"]): string[] =>
    job.hooks.filter((entry) => entry.name === name).flatMap((entry) => entry.script);
  const skipped = settings.git.strategy === "none" || settings.git.strategy === "empty";
  const before = skipped ? [] : [...entriesOf(runner.preCloneScript), ...hook("pre_get_sources_script")];
  const after = skipped ? [] : [...hook("post_get_sources_script"), ...entriesOf(runner.postGetSourcesScript)];
  const { ops, anew, repeatable } = getSources({ ...sourcesRequest(request), before, after });
  const exports = [
    // Of a job that died here.
    { op: "remove", path: handedOn(place).path } as const,
    ...variables.exports(before.length + after.length > 0 ? "hooks" : "runner"),
    ...gitOps,
  ];
  return {
    kind: "script",
    name: "get_sources",
    title: "getting the sources",
    ops: [...exports, ...ops],
    anew: anew === null ? null : [...exports, ...anew],
    runIn: "helper",
    authored: false,
    ...(repeatable === undefined ? {} : { repeatable }),
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

/** What is kept of the job is with the coordinator and in its caches by then. Whatever becomes of it, the job has ended. */
function planCleanUp(request: PlanRequest): ScriptStage[] {
  const ops = request.settings.cleansUp ? cleanUpSources(sourcesRequest(request)) : [];
  if (ops.length === 0) return [];
  return [
    {
      kind: "script",
      name: "cleanup_file_variables",
      title: "cleaning up",
      ops,
      anew: null,
      runIn: "helper",
      authored: false,
      policy: {
        when: "always",
        afterScriptBegan: false,
        attempts: 1,
        timeoutMs: CLEAN_UP_MS,
        decides: false,
        clock: "own",
      },
    },
  ];
}

function planScript(step: Step, { job, settings, variables, place, runner }: PlanRequest): ScriptStage {
  const isScript = step.name === "script";
  const folded = (name: string): string | null => (settings.scriptSections ? name : null);
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
      handedOn(place),
      { op: "cd", path: place.root },
      ...(isScript ? policyLines(job.policy) : []),
      ...(isScript ? userScript(entriesOf(runner.preBuildScript), folded("pre_build_script")) : []),
      ...userScript(step.script, folded("script_step")),
      ...(isScript ? userScript(entriesOf(runner.postBuildScript), folded("post_build_script")) : []),
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

function planAfterScript(step: Step, { settings, variables, place }: PlanRequest): ScriptStage {
  return authoredStage(
    "after_script",
    "after_script",
    [
      ...variables.exports("author"),
      handedOn(place),
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
      ...userScript(step.script, settings.scriptSections ? "after_script_step" : null),
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

/** What a job's scripts write there are variables of its later ones; the runner's own work does not read it. */
function handedOn({ tmpDir }: PlanRequest["place"]): Extract<Op, { op: "exportLines" }> {
  return { op: "exportLines", name: "GITLAB_ENV", path: `${tmpDir}/gitlab_runner_env` };
}

function authoredStage(name: string, title: string, ops: readonly Op[], policy: Policy): ScriptStage {
  return { kind: "script", name, title, ops, anew: null, runIn: "build", authored: true, policy };
}

function entriesOf(script: string): string[] {
  return script.trim() === "" ? [] : [script];
}

function shorter(a: number | null, b: number | null): number | null {
  return a === null ? b : b === null ? a : Math.min(a, b);
}
