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
import { changedSince, gatherFacts, projectAddress } from "../../../local/gitlab/around/facts.ts";
import { predefinedVariables, slug } from "../../../local/gitlab/around/predefined.ts";
import { createProjects } from "../../../local/gitlab/around/projects.ts";
import { createRemoteFiles } from "../../../local/gitlab/around/remote.ts";
import { localSources } from "../../../local/gitlab/around/sources.ts";
import type { PipelineCase } from "../../../local/gitlab/decide/case.ts";
import { type LoadedPlan, loadPlan } from "../../../local/gitlab/load.ts";
import { chooseJobs, means } from "../../../local/gitlab/plan/choose.ts";
import type { Plan, PlannedJob } from "../../../local/gitlab/plan/plan.ts";
import { listJson, listLines } from "../../../local/gitlab/report/list.ts";
import { printTable } from "../../../local/gitlab/report/print.ts";
import { type ForeseenChildren, foreseeChildren } from "../../../local/gitlab/run/foreseen.ts";
import type { RunPlanOptions } from "../../../local/gitlab/run/run-plan.ts";
import { specOfPlanned } from "../../../local/gitlab/run/spec.ts";
import { printable } from "../../../local/report/text-width.ts";
import { createGit, type Git } from "../../../local/sources/git.ts";
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
  /** Whether somebody asked for a manual job. */
  isPlayed(job: PlannedJob): boolean;
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
  context: CommandContext,
  signal: AbortSignal,
): Promise<GitlabWork> {
  const git = createGit(tree.dir, context.env, signal);
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
  const host = facts.remote?.host ?? "gitlab.com";
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
      host,
      checkouts: options.checkouts,
      projects: createProjects({
        git: (limit) => createGit(tree.dir, env, AbortSignal.any([signal, limit])),
        addressOf: (path) => projectAddress(facts.remote?.address ?? null, host, path),
        host,
        cacheDir: join(includesDir(env), "projects"),
        offline: options.offline,
        fresh: options.fetchIncludes,
        timeoutMs: INCLUDE_MS,
      }),
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
  const asked = [...names, ...options.manual];
  const isPlayed = ({ name, group }: PlannedJob): boolean =>
    options.manual.includes("all") || asked.some((typed) => means(typed, name, group));
  return { loaded, chosen: choice.chosen, isPlayed, notes: [...loaded.warnings, ...notes] };
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
export async function showGitlab(
  { loaded, notes }: GitlabWork,
  options: ExecOptions,
  context: CommandContext,
): Promise<number> {
  const { plan, table } = loaded;
  sayNotes(notes, context);
  if (options.mode === "print") {
    context.print(printTable(table).trimEnd());
    return 0;
  }
  if (plan.refusal !== null) context.say(`no pipeline: ${plan.refusal}`);
  const children = await foreseeChildren(loaded);
  if (options.json) context.print(listJson(plan, children));
  else if (plan.refusal === null || options.all)
    for (const line of listLines(plan, children, options.all)) context.print(line);
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
export function keepArtifacts(dir: string, cwd: string): (name: string, local: LocalJob) => Promise<void> {
  return async (job, local) => {
    if (local.artifacts.length === 0) return;
    const digest = createHash("sha256").update(job).digest("hex").slice(0, 6);
    const own = slug(job) === job ? job : `${slug(job) || "job"}-${digest}`;
    const folder = join(resolve(cwd, dir), own);
    await mkdir(folder, { recursive: true });
    for (const artifact of local.artifacts) {
      const name = artifact.filename.replace(/^.*[/\\]/, "");
      await copyFile(artifact.path, join(folder, name === "" || name === ".." || name === "." ? "artifacts" : name));
    }
  };
}

/** What the jobs have in common, those of child pipelines among them. */
export function gitlabSpec(
  { loaded, chosen, isPlayed }: GitlabWork,
  snapshot: Pick<Snapshot, "shallow" | "lfs" | "sha">,
  handed: Omit<GitlabSpec["handed"], "runnerVariables">,
): GitlabSpec {
  const { sha } = snapshot;
  return {
    loaded,
    chosen,
    isPlayed,
    // Jobs work on the files of the working tree, which are committed for them as a commit of its own.
    overrides: new Map([
      ["CI_COMMIT_SHA", sha],
      ["CI_COMMIT_SHORT_SHA", sha.slice(0, 8)],
    ]),
    handed: { ...handed, runnerVariables: fetchVariables(snapshot) },
  };
}

type GitlabSpec = Pick<RunPlanOptions, "loaded" | "chosen" | "isPlayed" | "overrides" | "handed">;

/** The jobs that would run, in order, each with its stages and their scripts. Values of secret variables are not shown. */
export async function printGitlabPreview({
  spec: { loaded, chosen, overrides, handed },
  coordinator,
  config,
  preview,
  print,
}: {
  readonly spec: GitlabSpec;
  readonly coordinator: LocalCoordinator;
  readonly config: Config;
  readonly preview: PreviewJob;
  print(text: string): void;
}): Promise<void> {
  const [runner] = coordinator.runners;
  const variables = handed.variables.map((one) => (one.masked === true ? { ...one, value: "[MASKED]" } : one));
  const show = async (
    { plan, around }: LoadedPlan,
    jobs: readonly PlannedJob[],
    children: ForeseenChildren,
    label: string,
  ): Promise<void> => {
    for (const stage of plan.stages) {
      const names = jobs
        .filter((job) => job.stage === stage)
        .map(({ name, when }) => `${label}${name}${when === "on_success" ? "" : ` (${when})`}`);
      if (names.length > 0) print(printable(`# stage ${stage}: ${names.join(", ")}`));
    }
    if (runner === undefined) return;
    const predefined = new Map([...around.predefined, ...overrides]);
    const given = { ...handed, variables, around: { ...around, predefined }, pipelineId: "1" };
    for (const job of jobs) {
      const name = `${label}${job.name}`;
      if (job.trigger === null) {
        const local = coordinator.enqueue(specOfPlanned(job, given, [], new Map()));
        print(
          await previewText(name, jobPayload(local, runner, coordinator.dialect, coordinator.url), config, preview),
        );
        continue;
      }
      const child = children.get(job.name);
      const what =
        job.trigger.project === null ? "starts a child pipeline" : `starts no pipeline of ${job.trigger.project} here`;
      print("");
      print(printable(`# job ${name} ${what}${child !== undefined && "remark" in child ? `: ${child.remark}` : ""}`));
      if (child !== undefined && "plan" in child)
        await show(child.plan, child.plan.plan.jobs, child.children, `${name} / `);
    }
  };
  const jobs = loaded.plan.jobs.filter(({ name }) => chosen.has(name));
  await show(loaded, jobs, await foreseeChildren(loaded), "");
}
