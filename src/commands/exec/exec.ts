import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import type { Config } from "../../config/config.ts";
import { CommandError } from "../../errors.ts";
import type { JobLocation } from "../../executor.ts";
import { startCoordinator } from "../../local/coordinator/coordinator.ts";
import type { VariableSpec } from "../../local/coordinator/jobs/job.ts";
import type { CiFile } from "../../local/pipeline/ci-file.ts";
import { findJob, withNeeds } from "../../local/pipeline/needs.ts";
import { type PipelineOptions, type PipelineResult, runPipeline } from "../../local/pipeline/pipeline.ts";
import { createGit, type Git } from "../../local/sources/git.ts";
import { startGitServer } from "../../local/sources/git-server.ts";
import { refOf, type Snapshot, takeSnapshot } from "../../local/sources/snapshot.ts";
import { findWorkingTree, type WorkingTree } from "../../local/sources/working-tree.ts";
import type { CommandContext } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";
import { findSourcesAddress } from "./address.ts";
import { execConfig } from "./config.ts";
import { readCiFile, understand } from "./file.ts";
import { notesOn, sayNotes } from "./notes.ts";
import { type ExecOptions, readExecOptions } from "./options.ts";
import { type ExecPlaces, openPlaces, placesOfRun, projectIdOf } from "./places.ts";
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
    const file = await readCiFile(tree, given.committed, context.cwd, gitIn);
    const { options, executor } = understand(given, file, [...executors.names, ...executors.absent.names]);
    return await withRun({ options, executor, tree, file, values, context, engine }, signal);
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

interface Run {
  readonly options: ExecOptions;
  readonly executor: string | undefined;
  readonly tree: WorkingTree;
  readonly file: CiFile;
  readonly values: FlagValues;
  readonly context: CommandContext;
  readonly engine: ExecEngine;
}

async function withRun(run: Run, signal: AbortSignal): Promise<number> {
  const { options, context, file, tree, engine } = run;
  const notes = [...file.warnings, ...tree.notes];
  for (const name of options.jobs) findJob(name, file);
  if (options.mode === "list") {
    const ref = refOf(tree, options.ref, notes);
    sayNotes(notes, context);
    for (const line of listJobs(file, ref)) context.print(line);
    return 0;
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
  const { options, executor, file, values, engine, tree } = run;
  const coordinator = await startCoordinator({
    dialect: "alloy",
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
  const only =
    options.jobs.length === 0 ? undefined : options.needs ? withNeeds(options.jobs, file, snapshot.ref) : options.jobs;
  notes.push(...config.warnings, ...notesOn({ options, file, commit: snapshot, executor: features, only }));
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

  const terminal = process.stdout.isTTY === true;
  const pipeline: PipelineOptions = {
    coordinator,
    file,
    project: {
      repoUrl: server?.urlOf(servedAs) ?? `http://127.0.0.1/${servedAs}`,
      sha: snapshot.sha,
      beforeSha: snapshot.beforeSha,
      ref: snapshot.ref,
      name: tree.name,
      id: projectIdOf(tree.dir),
    },
    predefined: predefined(snapshot),
    variables: options.variables,
    output: process.stdout,
    colors: terminal && !run.context.env.NO_COLOR && run.context.env.TERM !== "dumb",
    terminal:
      terminal && run.context.env.TERM !== "dumb"
        ? { columns: () => process.stdout.columns || 80, rows: () => process.stdout.rows || 24 }
        : undefined,
    runnerToken: token,
    timeoutSeconds: options.timeoutSeconds,
    // The runner is part of this process: it always has its last word.
    lastWordsMs: Number.POSITIVE_INFINITY,
    cancelNote: "Canceling what runs; once more to leave at once",
    ...(only === undefined ? {} : { only }),
  };
  if (options.mode === "dry-run") {
    await printPreview({ pipeline, config, preview: engine.preview, print: run.context.print });
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
  let result: PipelineResult;
  try {
    result = await runPipeline(pipeline, signal);
  } finally {
    await runner.end();
  }
  if (signal.aborted) throw signal.reason;
  return result.success ? 0 : (result.firstFailure?.exitCode ?? 1);
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
