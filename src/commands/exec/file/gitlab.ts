import { createHash } from "node:crypto";
import { copyFile, mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { nearest } from "../../../config/check/keys.ts";
import type { Config } from "../../../config/config.ts";
import { CommandError } from "../../../errors.ts";
import type { LocalCoordinator } from "../../../local/coordinator/coordinator.ts";
import type { LocalJob } from "../../../local/coordinator/jobs/job.ts";
import { jobPayload } from "../../../local/coordinator/jobs/payload.ts";
import { blobsIn } from "../../../local/gitlab/around/blobs.ts";
import { changedSince, gatherFacts } from "../../../local/gitlab/around/facts.ts";
import { predefinedVariables, slug } from "../../../local/gitlab/around/predefined.ts";
import { createRemoteFiles } from "../../../local/gitlab/around/remote.ts";
import { localSources } from "../../../local/gitlab/around/sources.ts";
import type { PipelineCase } from "../../../local/gitlab/decide/case.ts";
import { type LoadedPlan, loadPlan } from "../../../local/gitlab/load.ts";
import { chooseJobs, means } from "../../../local/gitlab/plan/choose.ts";
import type { Plan, PlannedJob } from "../../../local/gitlab/plan/plan.ts";
import { listJson, listLines } from "../../../local/gitlab/report/list.ts";
import { printTable } from "../../../local/gitlab/report/print.ts";
import type { RunPlanOptions } from "../../../local/gitlab/run/run-plan.ts";
import { type SpecOptions, specOfPlanned } from "../../../local/gitlab/run/spec.ts";
import type { PipelineProject } from "../../../local/pipeline/pipeline.ts";
import { printable } from "../../../local/report/text-width.ts";
import type { Git } from "../../../local/sources/git.ts";
import { fetchVariables, refOf, type Snapshot } from "../../../local/sources/snapshot.ts";
import type { WorkingTree } from "../../../local/sources/working-tree.ts";
import { type CommandContext, loadOptions } from "../../context.ts";
import { includesDir, projectIdOf } from "../here/places.ts";
import { sayNotes } from "../notes.ts";
import type { ExecOptions } from "../options.ts";
import { type PreviewJob, previewText } from "../report.ts";
import { createWeb, isLocalOrMetadata } from "./web.ts";

/** GitLab's file of a project, and what `exec` was asked to make of it. */
export interface GitlabWork {
  readonly loaded: LoadedPlan;
  /** Names of the jobs that run. */
  readonly chosen: ReadonlySet<string>;
  /** Manual jobs that run at once. */
  readonly played: ReadonlySet<string>;
  readonly notes: readonly string[];
}

export interface GitlabFile {
  readonly text: string;
  /** The name that messages use. */
  readonly name: string;
  /** The path from the top of the project. */
  readonly path: string;
}

/**
 * Read, compose, decide and plan, for the case that the options describe.
 * @throws {ConfigError} GitLab would refuse the file: each finding on a line
 * @throws {CommandError} a job or a ref is not there
 */
export async function loadGitlab(
  file: GitlabFile,
  tree: WorkingTree,
  options: ExecOptions,
  git: Git,
  context: CommandContext,
): Promise<GitlabWork> {
  const { env, coordinator } = context;
  const { certsDir } = loadOptions(context);
  const notes: string[] = [];
  const facts = await gatherFacts(tree, git);
  const full = refOf(tree, options.ref, notes);
  const ref = full.replace(/^refs\/(?:heads|tags)\//, "");
  const source = options.source ?? "push";
  const isMerge = source === "merge_request_event";
  const refType = isMerge ? "merge_request" : full.startsWith("refs/tags/") ? "tag" : "branch";
  const target = options.target ?? facts.defaultBranch;
  const base = isMerge ? await git.attempt(["merge-base", "--end-of-options", target, "HEAD"]) : undefined;
  if (isMerge && base?.code !== 0) notes.push(`There is no branch "${target}" to compare with: --target names another`);
  const predefined = predefinedVariables({
    facts,
    source,
    ref,
    refType,
    target: isMerge ? { branch: target, base: base?.code === 0 ? base.stdout.trim() : "" } : undefined,
    folder: tree.name,
    projectId: projectIdOf(tree.dir),
    configPath: file.path,
  });
  const project = facts.remote?.path ?? `local/${tree.name}`;
  const around: PipelineCase = {
    source,
    ref,
    refType,
    predefined,
    given: new Map(options.variables.map(({ key, value }) => [key, String(value ?? "")])),
    changed:
      options.changed ?? (await changedHere({ source, refType, ref, target, defaultBranch: facts.defaultBranch }, git)),
    comparisons: new Map(),
    files: facts.files,
    project,
  };
  const { jobs: names } = options;
  const loaded = await loadPlan({
    text: file.text,
    name: file.name,
    inputs: options.inputs,
    sources: localSources({
      dir: tree.dir,
      files: facts.files,
      committed: options.committed,
      git,
      project,
      checkouts: options.checkouts,
      remote: createRemoteFiles({
        fetchText: createWeb({
          connections: coordinator.connections,
          tls: { tlsCaFile: undefined, tlsCertFile: undefined, tlsKeyFile: undefined, certsDir },
          userAgent: coordinator.identity.userAgent,
          isAvoided: isLocalOrMetadata,
        }),
        cacheDir: includesDir(env),
        offline: options.offline,
        timeoutMs: INCLUDE_MS,
      }),
    }),
    around,
    blobOf: blobsIn(tree.dir),
    changedSince: async (other) => await changedSince(other, git),
    ...(names.length === 0
      ? {}
      : { forced: (name: string, group: string) => names.some((typed) => means(typed, name, group)) }),
  });
  const { plan } = loaded;
  const choice = chooseJobs(plan, { names, stages: options.stages, withNeeds: options.needs });
  if ("unknown" in choice) throw new CommandError(unknownJob(choice.unknown, plan, file.name));
  const played = new Set(
    plan.jobs.flatMap(({ name, group }) =>
      [...names, ...options.manual].some((typed) => means(typed, name, group)) || options.manual.includes("all")
        ? [name]
        : [],
    ),
  );
  return { loaded, chosen: choice.chosen, played, notes: [...loaded.warnings, ...notes] };
}

/** How long all included files together may take, as at GitLab. */
const INCLUDE_MS = 30_000;

/** GitLab compares a push with the state before it; here the comparison is with the commit where the branch began. */
async function changedHere(
  {
    source,
    refType,
    ref,
    target,
    defaultBranch,
  }: { source: string; refType: string; ref: string; target: string; defaultBranch: string },
  git: Git,
): Promise<readonly string[] | null> {
  if (refType === "merge_request") return await changedSince(target, git);
  if (source !== "push" || refType === "tag") return null;
  return await changedSince(ref === defaultBranch ? "HEAD~1" : defaultBranch, git);
}

function unknownJob(typed: string, plan: Plan, file: string): string {
  const names = plan.jobs.map(({ name }) => name);
  const absent = plan.absent.find(({ name }) => name === typed);
  if (absent !== undefined) return `"${typed}" is not in the pipeline: ${absent.why}`;
  const meant = nearest(typed, [...names, ...plan.stages]);
  const hint = meant === undefined ? `there is ${names.join(", ") || "no job"}` : `did you mean "${meant}"?`;
  return `There is no job or stage "${typed}" in ${file}; ${hint}`;
}

/** `--list` and `--print`: nothing runs. @returns the exit status */
export function showGitlab({ loaded, notes }: GitlabWork, options: ExecOptions, context: CommandContext): number {
  const { plan, table } = loaded;
  sayNotes(notes, context);
  if (options.mode === "print") {
    context.print(printTable(table).trimEnd());
    return 0;
  }
  if (plan.refusal !== null) context.say(`no pipeline: ${plan.refusal}`);
  if (options.json) context.print(listJson(plan));
  else if (plan.refusal === null || options.all) for (const line of listLines(plan, options.all)) context.print(line);
  return 0;
}

/** What a job's runner could not do, each said once. */
export function notesOnGitlab(
  { loaded: { plan }, chosen }: GitlabWork,
  executor: { readonly image: boolean; readonly services: boolean },
): string[] {
  const jobs = plan.jobs.filter(({ name }) => chosen.has(name));
  const namesOf = (list: readonly PlannedJob[]): string => list.map(({ name }) => name).join(", ");
  const tags = [...new Set(jobs.flatMap((job) => job.tags))];
  const images = executor.image ? [] : jobs.filter((job) => job.image !== null);
  const services = executor.services ? [] : jobs.filter((job) => job.services.length > 0);
  return [
    ...(tags.length === 0 ? [] : [`Tags choose no runner here: ${tags.join(", ")}`]),
    ...(images.length === 0 ? [] : [`This executor uses no images: ${namesOf(images)} run on this machine itself`]),
    ...(services.length === 0 ? [] : [`This executor starts no services: ${namesOf(services)} go without`]),
  ];
}

/** Puts what a job uploaded where it was asked for: a directory per job, whatever the job is called. */
export function keepArtifacts(dir: string, cwd: string): (job: PlannedJob, local: LocalJob) => Promise<void> {
  return async (job, local) => {
    if (local.artifacts.length === 0) return;
    const digest = createHash("sha256").update(job.name).digest("hex").slice(0, 6);
    const own = slug(job.name) === job.name ? job.name : `${slug(job.name) || "job"}-${digest}`;
    const folder = join(resolve(cwd, dir), own);
    await mkdir(folder, { recursive: true });
    for (const artifact of local.artifacts) {
      const name = artifact.filename.replace(/^.*[/\\]/, "");
      await copyFile(artifact.path, join(folder, name === "" || name === ".." || name === "." ? "artifacts" : name));
    }
  };
}

/** What the pipeline's jobs have in common. */
export function gitlabSpec(
  { loaded, chosen, played }: GitlabWork,
  project: PipelineProject,
  snapshot: Pick<Snapshot, "shallow" | "lfs" | "sha">,
  { variables }: Pick<ExecOptions, "variables">,
): GitlabSpec {
  const { plan } = loaded;
  const { sha } = snapshot;
  // Jobs work on the files of the working tree, which are committed for them as a commit of its own.
  const commit = new Map([
    ...loaded.around.predefined,
    ["CI_COMMIT_SHA", sha],
    ["CI_COMMIT_SHORT_SHA", sha.slice(0, 8)],
  ]);
  return {
    plan,
    chosen,
    played,
    project,
    around: { ...loaded.around, predefined: commit },
    variables,
    runnerVariables: fetchVariables(snapshot),
  };
}

type GitlabSpec = Pick<
  RunPlanOptions,
  "plan" | "chosen" | "played" | "project" | "around" | "variables" | "runnerVariables"
>;

/** The jobs that would run, in order, each with its stages and their scripts. Values of secret variables are not shown. */
export async function printGitlabPreview({
  spec,
  config,
  preview,
  print,
}: {
  readonly spec: GitlabSpec & SpecOptions & { readonly coordinator: LocalCoordinator };
  readonly config: Config;
  readonly preview: PreviewJob;
  print(text: string): void;
}): Promise<void> {
  const { coordinator, plan, chosen } = spec;
  const [runner] = coordinator.runners;
  const variables = spec.variables.map((one) => (one.masked === true ? { ...one, value: "[MASKED]" } : one));
  const jobs = plan.jobs.filter(({ name }) => chosen.has(name));
  for (const stage of plan.stages) {
    const names = jobs
      .filter((job) => job.stage === stage)
      .map(({ name, when }) => `${name}${when === "on_success" ? "" : ` (${when})`}`);
    if (names.length > 0) print(printable(`# stage ${stage}: ${names.join(", ")}`));
  }
  if (runner === undefined) return;
  for (const job of jobs) {
    const local = coordinator.enqueue(specOfPlanned(job, { ...spec, variables }, [], new Map()));
    print(
      await previewText(job.name, jobPayload(local, runner, coordinator.dialect, coordinator.url), config, preview),
    );
  }
}
