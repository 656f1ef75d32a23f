import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import type { Config } from "../../config/config.ts";
import { CommandError } from "../../errors.ts";
import type { JobLocation } from "../../executor.ts";
import { startCoordinator } from "../../local/coordinator/coordinator.ts";
import type { VariableSpec } from "../../local/coordinator/jobs/job.ts";
import { type RunPlanResult, runPlan } from "../../local/gitlab/run/run-plan.ts";
import type { CiFile } from "../../local/pipeline/ci-file.ts";
import { findJob, withNeeds } from "../../local/pipeline/needs.ts";
import {
  type PipelineOptions,
  type PipelineProject,
  type PipelineResult,
  runPipeline,
} from "../../local/pipeline/pipeline.ts";
import { createGit, type Git } from "../../local/sources/git.ts";
import { startGitServer } from "../../local/sources/git-server.ts";
import { refOf, type Snapshot, takeSnapshot } from "../../local/sources/snapshot.ts";
import { findWorkingTree, type WorkingTree } from "../../local/sources/working-tree.ts";
import type { CommandContext } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";
import { findSourcesAddress } from "./address.ts";
import { execConfig } from "./config.ts";
import { type ProjectFile, readProjectFile, understand } from "./file.ts";
import {
  type GitlabWork,
  gitlabSpec,
  keepArtifacts,
  loadGitlab,
  notesOnGitlab,
  printGitlabPreview,
  showGitlab,
} from "./gitlab.ts";
import { notesOn, sayNotes } from "./notes.ts";
import { type ExecOptions, readExecOptions } from "./options.ts";
import { type ExecPlaces, openPlaces, placesOfRun, projectIdOf } from "./places.ts";
import { privateVariables } from "./private.ts";
import { withoutProxyFor } from "./proxy.ts";
import { type RunRecord, writeRecord } from "./record.ts";
import { listJobs, type PreviewJob, printPreview } from "./report.ts";
import { listenForCancel } from "./signals.ts";
import { type Bury, buildsElsewhere, removeRun, startSweep } from "./sweep.ts";

/** What `exec` needs of the parts that only the composition root knows. */
export interface ExecEngine {
  /** What an executor says of itself, without starting anything. */
  describe(config: Config): Promise<ExecutorTraits>;
  /** Work on jobs of `config`'s one entry, as `run` does. */
  startRunner(config: Config, context: CommandContext): Promise<ExecRunner>;
  readonly bury: Bury;
  readonly preview: PreviewJob;
}

interface ExecutorTraits {
  readonly location: JobLocation;
  readonly image: boolean;
  readonly services: boolean;
}

interface ExecRunner {
  /** Ask for no more jobs and wait for those that run. */
  end(): Promise<void>;
}

/**
 * `alloy-runner exec`: the pipeline of the working directory, or some of its jobs, on this machine: a coordinator on
 * loopback, a snapshot of the working tree that jobs fetch, and a runner like that of `run`.
 * @returns the exit status: 0, that of the job that failed first, or 128 and the number of the signal that canceled it
 * @throws {CommandError} it cannot be started; the message says what to do
 */
export async function execCommand(
  words: readonly string[],
  values: FlagValues,
  context: CommandContext,
  engine: ExecEngine,
): Promise<number> {
  const given = await readExecOptions(words, values, context, availableParallelism());
  // A reader that goes away is the pipeline's to notice; nothing else minds.
  process.stdout.on("error", () => undefined);
  using cancel = listenForCancel(context.say);
  const { signal } = cancel;
  const gitIn = (dir: string): Git => createGit(dir, context.env, signal);
  const { catalog: executors } = context;
  const work = async (): Promise<number> => {
    const tree = await findWorkingTree(context.cwd, gitIn);
    const project = await readProjectFile(tree, given, context.cwd, gitIn);
    const kept = await privateVariables(tree, context.env, gitIn(tree.dir));
    sayNotes(kept.notes, context);
    const { options, executor } = understand(
      { ...given, variables: [...kept.variables, ...given.variables] },
      jobNamesIn(project),
      [...executors.names, ...executors.absent.names],
    );
    const work: Work =
      project.kind === "alloy"
        ? { kind: "alloy", file: project.file, notes: project.notes }
        : { kind: "gitlab", ...(await loadGitlab(project.file, tree, options, gitIn(tree.dir), context.env)) };
    return await withRun({ options, executor, tree, work, values, context, engine }, signal);
  };
  const status = await Promise.race([
    work().catch((error: unknown) => {
      if (signal.aborted) return cancel.status;
      // Whoever read the output has had enough: as if SIGPIPE had ended us.
      if (error instanceof Error && "code" in error && error.code === "EPIPE") return 141;
      throw error;
    }),
    cancel.hurried,
  ]);
  await new Promise<void>((resolve) => process.stdout.write("", () => resolve()));
  return status;
}

/** What there is to run: AlloyCI's file, or a pipeline of GitLab's. */
type Work =
  | { readonly kind: "alloy"; readonly file: CiFile; readonly notes: readonly string[] }
  | ({ readonly kind: "gitlab" } & GitlabWork);

interface Run {
  readonly options: ExecOptions;
  readonly executor: string | undefined;
  readonly tree: WorkingTree;
  readonly work: Work;
  readonly values: FlagValues;
  readonly context: CommandContext;
  readonly engine: ExecEngine;
}

async function withRun(run: Run, signal: AbortSignal): Promise<number> {
  const { options, context, work, tree, engine } = run;
  if (work.kind === "gitlab") {
    if (options.mode === "list" || options.mode === "print") return showGitlab(work, options, context);
    const { refusal } = work.loaded.plan;
    if (refusal !== null) {
      sayNotes(work.notes, context);
      context.say(`no pipeline: ${refusal}`);
      return 0;
    }
  }
  const notes = [...work.notes, ...(work.kind === "alloy" ? work.file.warnings : []), ...tree.notes];
  if (work.kind === "alloy") {
    const { file } = work;
    refuseGitlabFlags(options, file);
    for (const name of options.jobs) findJob(name, file);
    if (options.mode === "list") {
      const ref = refOf(tree, options.ref, notes);
      sayNotes(notes, context);
      for (const line of listJobs(file, ref)) context.print(line);
      return 0;
    }
  }
  const places = await openPlaces(context.env);
  const sweep = options.mode === "run" ? startSweep(places, engine.bury, context) : undefined;
  const asked = textOf(run.values, "builds-dir");
  const buildsDir = asked === undefined ? undefined : buildsElsewhere(places.runDir, resolve(context.cwd, asked));
  try {
    const { sourcesDir } = placesOfRun(places.runDir);
    const servedAs = `local/${tree.name}.git`;
    const { committed, ref } = options;
    const snapshot = await takeSnapshot({ tree, into: sourcesDir, committed, ref, servedAs, env: context.env }, signal);
    notes.push(...snapshot.notes);
    await sweep?.soon(signal);
    return await withCoordinator(run, { ...places, buildsDir }, snapshot, notes, signal);
  } finally {
    await removeRun(places.runDir, { buildsDir });
    sayNotes((await sweep?.end()) ?? [], context);
  }
}

async function withCoordinator(
  run: Run,
  places: ExecPlaces & Pick<RunRecord, "buildsDir">,
  snapshot: Snapshot,
  notes: string[],
  signal: AbortSignal,
): Promise<number> {
  const { options, executor, work, values, engine, tree } = run;
  const coordinator = await startCoordinator({
    dialect: work.kind,
    // The next job starts the moment it may.
    longPollMs: work.kind === "gitlab" ? LONG_POLL_MS : 0,
    record: false,
    secret: true,
    artifactsDir: places.runDir,
  });
  await using closing = new AsyncDisposableStack();
  closing.defer(() => coordinator.close());
  const { token } = coordinator.addRunner({ description: "exec" });
  const own = placesOfRun(places.runDir);
  const configure = async (context: CommandContext, environment: Config["runners"][number]["environment"]) =>
    await execConfig(
      {
        values,
        executor,
        parallel: options.parallel,
        url: coordinator.runnerUrl,
        token,
        stateDir: own.stateDir,
        buildsDir: places.buildsDir ?? own.buildsDir,
        cachesDir: places.cachesDir,
        environment,
      },
      context,
    );
  const first = await configure(run.context, []);
  const features = await engine.describe(first);
  const { listenHost, publicHost } = await findSourcesAddress(features.location, options.address);
  const servedAs = `local/${tree.name}.git`;
  const repositories = new Map([
    [servedAs, snapshot.repositoryDir],
    ...snapshot.submodules.map(({ path, dir }) => [path, dir] as const),
  ]);
  const direct = withoutProxyFor([publicHost, "127.0.0.1", "localhost"], run.context);
  if (direct.context !== run.context) closing.defer(() => direct.context.coordinator.connections.close());
  const config = await configure(direct.context, direct.environment);
  const only = work.kind === "alloy" ? onlyOf(options, work.file, snapshot) : undefined;
  notes.push(
    ...config.warnings,
    ...(work.kind === "alloy"
      ? notesOn({ options, file: work.file, commit: snapshot, executor: features, only })
      : notesOnGitlab(work, features)),
  );
  sayNotes(notes, run.context);
  const server =
    options.mode === "dry-run"
      ? undefined
      : await startGitServer({ listenHost, publicHost, repositories, env: run.context.env }).catch((cause: unknown) => {
          throw new CommandError(
            `Jobs cannot fetch their sources from ${listenHost}: name another address with --address`,
            {
              cause,
            },
          );
        });
  if (server !== undefined) closing.defer(() => server.close());

  const terminal = process.stdout.isTTY === true && run.context.env.TERM !== "dumb";
  const display = {
    output: process.stdout,
    colors: terminal && !run.context.env.NO_COLOR,
    terminal: terminal
      ? { columns: () => process.stdout.columns || 80, rows: () => process.stdout.rows || 24 }
      : undefined,
    cancelNote: "Canceling what runs; once more to leave at once",
  };
  const project: PipelineProject = {
    repoUrl: server?.urlOf(servedAs) ?? `http://127.0.0.1/${servedAs}`,
    sha: snapshot.sha,
    beforeSha: snapshot.beforeSha,
    ref: snapshot.ref,
    name: tree.name,
    id: projectIdOf(tree.dir),
  };
  const handed = { runnerToken: token, timeoutSeconds: options.timeoutSeconds };
  const start =
    work.kind === "alloy"
      ? async (): Promise<PipelineResult> => await runPipeline(alloyPipeline(work.file), signal)
      : async (): Promise<RunPlanResult> =>
          await runPlan(
            {
              ...display,
              ...handed,
              ...gitlabSpec(work, project, snapshot, options),
              coordinator,
              noDelay: options.noDelay,
              ...(options.artifactsDir === undefined
                ? {}
                : { keep: keepArtifacts(options.artifactsDir, run.context.cwd) }),
            },
            signal,
          );
  const alloyPipeline = (file: CiFile): PipelineOptions => ({
    ...display,
    ...handed,
    coordinator,
    file,
    project,
    predefined: predefined(snapshot),
    variables: options.variables,
    // The runner is part of this process: it always has its last word.
    lastWordsMs: Number.POSITIVE_INFINITY,
    ...(only === undefined ? {} : { only }),
  });
  if (options.mode === "dry-run") {
    const { print } = run.context;
    if (work.kind === "alloy")
      await printPreview({ pipeline: alloyPipeline(work.file), config, preview: engine.preview, print });
    else {
      const spec = { ...handed, ...gitlabSpec(work, project, snapshot, options), coordinator };
      await printGitlabPreview({ spec, config, preview: engine.preview, print });
    }
    return 0;
  }
  const used = config.runners[0]?.executor ?? "shell";
  const { buildsDir } = places;
  await writeRecord(
    places.runDir,
    { executor: used, cwd: run.context.cwd, buildsDir, values },
    run.context.catalog.words,
  );
  const runner = await engine.startRunner(config, direct.context);
  let result: Pick<PipelineResult, "success" | "firstFailure">;
  try {
    result = await start();
  } finally {
    coordinator.release();
    await runner.end();
  }
  if (signal.aborted) throw signal.reason;
  return result.success ? 0 : (result.firstFailure?.exitCode ?? 1);
}

/** How long the runner's question for a job may wait for one. */
const LONG_POLL_MS = 20_000;

function jobNamesIn(project: ProjectFile): readonly string[] {
  if (project.kind === "alloy") return project.file.jobs.map(({ name }) => name);
  // Before it is read: whether a word is a job decides how the others are meant.
  return [...project.file.text.matchAll(/^([\w-]+):/gm)].flatMap((match) => match[1] ?? []);
}

function onlyOf(options: ExecOptions, file: CiFile, { ref }: Snapshot): readonly string[] | undefined {
  if (options.jobs.length === 0) return undefined;
  return options.needs ? withNeeds(options.jobs, file, ref) : options.jobs;
}

/** @throws {CommandError} a flag was typed that only GitLab's file has a use for */
function refuseGitlabFlags(options: ExecOptions, { file }: CiFile): void {
  const typed = [
    options.json ? "--json" : "",
    options.all ? "--all" : "",
    options.mode === "print" ? "--print" : "",
    options.source === undefined ? "" : "--source",
    options.inputs.size === 0 ? "" : "--input",
    options.changed === undefined ? "" : "--changed",
    options.manual.length === 0 ? "" : "--manual",
    options.stages.length === 0 ? "" : "--stage",
    options.artifactsDir === undefined ? "" : "--artifacts",
  ].filter((flag) => flag !== "");
  if (typed.length > 0)
    throw new CommandError(`${typed.join(", ")}: for .gitlab-ci.yml only, and ${file} is AlloyCI's`);
}

/** What AlloyCI knows of the commit and this coordinator would have to make up. */
function predefined({ message, author, lfs, shallow }: Snapshot): VariableSpec[] {
  return [
    ...(message === "" ? [] : [{ key: "CI_COMMIT_MESSAGE", value: message, raw: true }]),
    ...(author === "" ? [] : [{ key: "CI_COMMIT_PUSHER", value: author, raw: true }]),
    // git takes from a shallow repository only what needs no new ends of history, unless it is told.
    ...(shallow ? [{ key: "GIT_FETCH_EXTRA_FLAGS", value: "--prune --quiet --update-shallow" }] : []),
    // There is nobody here to fetch large files from.
    ...(lfs ? [{ key: "GIT_LFS_SKIP_SMUDGE", value: "1" }] : []),
  ];
}
