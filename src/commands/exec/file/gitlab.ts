import { join } from "node:path";
import { nearest } from "../../../config/check/keys.ts";
import { CommandError } from "../../../errors.ts";
import { blobsIn } from "../../../local/gitlab/around/blobs.ts";
import {
  changedSince,
  changedSinceParent,
  gatherFacts,
  type ProjectFacts,
  projectAddress,
} from "../../../local/gitlab/around/facts.ts";
import { predefinedVariables, unsetVariables } from "../../../local/gitlab/around/predefined.ts";
import { createProjects } from "../../../local/gitlab/around/projects.ts";
import { createRemoteFiles } from "../../../local/gitlab/around/remote.ts";
import { localSources } from "../../../local/gitlab/around/sources.ts";
import type { PipelineCase } from "../../../local/gitlab/decide/case.ts";
import { loadPlan } from "../../../local/gitlab/load.ts";
import { chooseJobs, means } from "../../../local/gitlab/plan/choose.ts";
import type { Plan, PlannedJob } from "../../../local/gitlab/plan/plan.ts";
import { forEnvironment } from "../../../local/gitlab/run/project-variables.ts";
import { createGit, type Git } from "../../../local/sources/git.ts";
import { refOf } from "../../../local/sources/snapshot.ts";
import type { WorkingTree } from "../../../local/sources/working-tree.ts";
import { type CommandContext, loadOptions } from "../../context.ts";
import type { Work } from "../engine.ts";
import { includesDir, projectIdOf } from "../here/places.ts";
import type { ExecOptions } from "../options.ts";
import { createWeb, isLocalOrMetadata } from "./web.ts";

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
): Promise<Work> {
  const git = createGit(tree.dir, context.env, signal);
  const { env, coordinator } = context;
  const { certsDir } = loadOptions(context);
  const notes: string[] = [];
  const facts = await gatherFacts(tree, git, env);
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
  const given = forEnvironment(options.variables, undefined).filter(({ key }) => !options.unset.includes(key));
  const around: PipelineCase = {
    source,
    ref,
    refType,
    predefined: new Map([...predefined].filter(([key]) => !options.unset.includes(key))),
    given: new Map(given.map(({ key, value }) => [key, String(value ?? "")])),
    changed:
      options.changed === "all"
        ? null
        : (options.changed ?? (await changedHere({ source, refType, ref, target }, facts, git))),
    comparisons: new Map(),
    files: facts.files,
    project,
  };
  const { jobs: names } = options;
  const loaded = await loadPlan({
    text: file.text,
    name: file.name,
    inputs: options.inputs,
    ...(options.offered === undefined ? {} : { offered: options.offered }),
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
    changedSince: async (other) => await changedSince(other, facts, git),
    wishes: {
      jobInputs: options.jobInputs,
      ignoreWorkflow: options.ignoreWorkflow,
      ...(names.length === 0
        ? {}
        : { forced: (name: string, group: string) => names.some((typed) => means(typed, name, group)) }),
    },
  });
  const { plan } = loaded;
  const choice = chooseJobs(plan, { names, stages: options.stages, withNeeds: options.needs });
  if ("unknown" in choice) throw new CommandError(unknownJob(choice.unknown, plan, file.name));
  const asked = [...names, ...options.manual];
  const isPlayed = ({ name, group }: PlannedJob): boolean =>
    options.manual.includes("all") || asked.some((typed) => means(typed, name, group));
  if (options.verbose) notes.push(`Not set here: ${unsetVariables(loaded.around).join(", ")}`);
  const named = new Set(
    plan.jobs.flatMap(({ name, group }) => (names.some((typed) => means(typed, name, group)) ? [name] : [])),
  );
  const chosen = options.onlyNeeds ? choice.chosen.difference(named) : choice.chosen;
  return { dialect: "gitlab", file: file.name, loaded, chosen, isPlayed, notes: [...loaded.warnings, ...notes] };
}

/** How long all included files together may take, as at GitLab. */
const INCLUDE_MS = 30_000;

/** GitLab compares a push with the state before it; here the comparison is with the commit where the branch began. */
async function changedHere(
  { source, refType, ref, target }: { source: string; refType: string; ref: string; target: string },
  facts: ProjectFacts,
  git: Git,
): Promise<readonly string[] | null> {
  if (refType === "merge_request") return await changedSince(target, facts, git);
  if (source !== "push" || refType === "tag") return null;
  return ref === facts.defaultBranch
    ? await changedSinceParent(facts, git)
    : await changedSince(facts.defaultBranch, facts, git);
}

function unknownJob(typed: string, plan: Plan, file: string): string {
  const names = plan.jobs.map(({ name }) => name);
  const absent = plan.absent.find(({ name }) => name === typed);
  if (absent !== undefined) return `"${typed}" is not in the pipeline: ${absent.why}`;
  const meant = nearest(typed, [...names, ...plan.stages]);
  const hint = meant === undefined ? `there is ${names.join(", ") || "no job"}` : `did you mean "${meant}"?`;
  return `There is no job or stage "${typed}" in ${file}; ${hint}`;
}
