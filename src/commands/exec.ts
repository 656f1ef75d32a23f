import { createHash } from "node:crypto";
import { availableParallelism } from "node:os";
import { relative } from "node:path";
import type { Config } from "../config/config.ts";
import { createConnections } from "../coordinator/connections.ts";
import { CommandError } from "../errors.ts";
import type { JobLocation } from "../executor.ts";
import { CI_FILE_NAMES, type CiFile, loadCiFile, parseCiFile } from "../local/ci-file.ts";
import { startCoordinator } from "../local/coordinator.ts";
import { createGit, type Git } from "../local/git.ts";
import { startGitServer } from "../local/git-server.ts";
import type { VariableSpec } from "../local/job-spec.ts";
import { findJob, needsOf, withNeeds } from "../local/needs.ts";
import { type PipelineOptions, type PipelineResult, runPipeline } from "../local/pipeline.ts";
import { refOf, type Snapshot, takeSnapshot } from "../local/snapshot.ts";
import { printable } from "../local/text-width.ts";
import { findWorkingTree, type WorkingTree } from "../local/working-tree.ts";
import type { CommandContext } from "./context.ts";
import { addressTowards, ownInterfaces, type SourcesAddress, sourcesAddress } from "./exec-address.ts";
import { execConfig } from "./exec-config.ts";
import { type ExecOptions, readExecOptions } from "./exec-options.ts";
import { type ExecPlaces, openPlaces, otherRuns, placesOfRun, removeTree } from "./exec-places.ts";
import { listJobs, type PreviewJob, printPreview } from "./exec-report.ts";
import { listenForCancel } from "./exec-signals.ts";
import type { FlagValues } from "./runner-flags.ts";

/** What `exec` needs of the parts that only the composition root knows. */
export interface ExecEngine {
  /** What an executor says of itself, without starting anything. */
  describe(config: Config): Promise<ExecutorTraits>;
  /** Work on jobs of `config`'s one entry, as `run` does. */
  startRunner(config: Config, context: CommandContext): Promise<ExecRunner>;
  /** End what a dead run left behind. @returns `false`: the run is alive */
  bury(stateDir: string, signal: AbortSignal): Promise<boolean>;
  readonly preview: PreviewJob;
}

export interface ExecutorTraits {
  readonly location: JobLocation;
  readonly image: boolean;
  readonly services: boolean;
}

export interface ExecRunner {
  /** Ask for no more jobs and wait for those that run. */
  end(): Promise<void>;
}

/** Executors of the Go runner, which its `exec` had as first word. */
const OLD_EXECUTORS = ["docker", "docker-ssh", "parallels", "shell", "ssh", "virtualbox"];

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
  const work = async (): Promise<number> => {
    const tree = await findWorkingTree(context.cwd, gitIn);
    const file = await readCiFile(tree, given.committed, context.cwd, gitIn);
    const { options, executor } = understand(given, file);
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

/** `exec shell JOB` was the old way to say `exec --executor shell JOB`. */
function understand(given: ExecOptions, file: CiFile): { options: ExecOptions; executor: string | undefined } {
  const [first = "", ...rest] = given.jobs;
  if (!OLD_EXECUTORS.includes(first) || file.jobs.some((job) => job.name === first))
    return { options: given, executor: undefined };
  return { options: { ...given, jobs: rest }, executor: first };
}

/** With `--committed`, the file as HEAD has it. */
async function readCiFile(
  tree: WorkingTree,
  committed: boolean,
  cwd: string,
  gitIn: (dir: string) => Git,
): Promise<CiFile> {
  if (!committed || tree.repository === null || tree.repository.head === null)
    return await loadCiFile(tree.dir, relative(cwd, tree.dir));
  const git = gitIn(tree.dir);
  for (const name of CI_FILE_NAMES) {
    const found = await git.attempt(["show", `HEAD:${name}`]);
    if (found.code === 0) return parseCiFile(found.stdout, `HEAD:${name}`);
  }
  throw new CommandError(`No CI file in HEAD of ${tree.dir}: expected ${CI_FILE_NAMES.join(" or ")}`);
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
    say(notes, context);
    for (const line of listJobs(file, ref)) context.print(line);
    return 0;
  }
  const places = await openPlaces(context.env);
  try {
    const sweeping = options.mode === "run" ? sweep(places, engine, signal) : Promise.resolve();
    sweeping.catch(() => undefined);
    const { sourcesDir } = placesOfRun(places.runDir);
    const servedAs = `local/${tree.name}.git`;
    const { committed, ref } = options;
    const snapshot = await takeSnapshot({ tree, into: sourcesDir, committed, ref, servedAs, env: context.env }, signal);
    notes.push(...snapshot.notes);
    await sweeping;
    return await withCoordinator(run, places, snapshot, notes, signal);
  } finally {
    await removeTree(places.runDir);
  }
}

async function withCoordinator(
  run: Run,
  places: ExecPlaces,
  snapshot: Snapshot,
  notes: string[],
  signal: AbortSignal,
): Promise<number> {
  const { options, executor, file, values, engine, tree } = run;
  const coordinator = await startCoordinator({ dialect: "alloy", record: false, artifactsDir: places.runDir });
  await using closing = new AsyncDisposableStack();
  closing.defer(() => coordinator.close());
  const { token } = coordinator.addRunner({ description: "exec" });
  const { stateDir, buildsDir } = placesOfRun(places.runDir);
  const configure = async (context: CommandContext, environment: Config["runners"][number]["environment"]) =>
    await execConfig(
      {
        values,
        executor,
        parallel: options.parallel,
        url: coordinator.url,
        token,
        stateDir,
        buildsDir,
        cachesDir: places.cachesDir,
        environment,
      },
      context,
    );
  const first = await configure(run.context, []);
  const features = await engine.describe(first);
  const { listenHost, publicHost } = await addressFor(features.location, options.address);
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
  notes.push(...config.warnings, ...notesOn(run, snapshot, features, only));
  say(notes, run.context);
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
      // Projects of one name in different directories share no caches.
      id: Number.parseInt(createHash("sha256").update(tree.dir).digest("hex").slice(0, 8), 16) + 1,
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

async function addressFor(location: JobLocation, given: string | undefined): Promise<SourcesAddress> {
  const { platform } = process;
  const asks = given === undefined;
  const towards = asks && location.at === "host" ? await addressTowards(location.host) : undefined;
  const interfaces = asks && location.at !== "containers of this machine" ? {} : await ownInterfaces();
  return sourcesAddress({ location, given, towards, platform }, interfaces);
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

/** A proxy is for the world outside: neither the runner nor git may ask one for this machine. */
function withoutProxyFor(
  hosts: readonly string[],
  context: CommandContext,
): { context: CommandContext; environment: { key: string; value: string }[] } {
  const { env } = context;
  if (!Object.keys(env).some((name) => /^(?:https?|all)_proxy$/i.test(name))) return { context, environment: [] };
  const value = [...new Set([...(env.no_proxy || env.NO_PROXY || "").split(","), ...hosts])].filter(Boolean).join(",");
  const direct = { ...env, no_proxy: value, NO_PROXY: value };
  const connections = createConnections({ environment: direct });
  return {
    context: { ...context, env: direct, coordinator: { ...context.coordinator, connections } },
    environment: ["no_proxy", "NO_PROXY"].map((key) => ({ key, value })),
  };
}

/** What is different from a pipeline at AlloyCI, each said once. */
function notesOn(
  { options, file }: Run,
  snapshot: Snapshot,
  features: { readonly image: boolean; readonly services: boolean },
  only: readonly string[] | undefined,
): string[] {
  const notes: string[] = [];
  if (only === undefined && /\[(?:skip ci|ci skip)\]/.test(snapshot.message))
    notes.push("The last commit asks for no pipeline ([skip ci]): AlloyCI makes none for it");
  const jobs = file.jobs.filter((job) => only?.includes(job.name) ?? true);
  const tags = [...new Set(jobs.flatMap((job) => job.tags ?? []))];
  if (tags.length > 0) notes.push(`Tags choose no runner here: ${tags.join(", ")}`);
  const images = jobs.filter((job) => job.image !== undefined && !features.image);
  if (images.length > 0) notes.push(`This executor uses no images: ${namesOf(images)} run on this machine itself`);
  const services = jobs.filter((job) => job.services.length > 0 && !features.services);
  if (services.length > 0) notes.push(`This executor starts no services: ${namesOf(services)} go without`);
  for (const job of jobs) {
    if (only === undefined) break;
    const missing = needsOf(job, file, snapshot.ref).filter((needed) => !only.includes(needed.name));
    if (missing.length > 0) {
      const hint = options.needs ? "" : "; --with-needs runs them first";
      notes.push(
        `"${job.name}" gets artifacts of ${namesOf(missing)} in a pipeline, and runs without them here${hint}`,
      );
    }
  }
  return notes;
}

function namesOf(jobs: readonly { readonly name: string }[]): string {
  return jobs.map((job) => job.name).join(", ");
}

function say(notes: readonly string[], context: CommandContext): void {
  for (const note of notes) context.say(`note: ${note.split("\n").map(printable).join("\n  ")}`);
}

/** Runs that were killed: their processes are ended, their directories go. What cannot be cleaned is left to the next one. */
async function sweep(places: ExecPlaces, { bury }: ExecEngine, signal: AbortSignal): Promise<void> {
  for (const dir of await otherRuns(places)) {
    const dead = await bury(placesOfRun(dir).stateDir, signal).catch(() => false);
    signal.throwIfAborted();
    if (dead) await removeTree(dir).catch(() => undefined);
  }
}
