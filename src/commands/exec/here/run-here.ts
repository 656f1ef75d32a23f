import type { Config } from "../../../config/config.ts";
import { CommandError } from "../../../errors.ts";
import { startCoordinator } from "../../../local/coordinator/coordinator.ts";
import { type RunPlanResult, runPlan } from "../../../local/gitlab/run/run-plan.ts";
import type { PipelineProject } from "../../../local/pipeline/pipeline-project.ts";
import { startGitServer } from "../../../local/sources/git-server.ts";
import type { Snapshot } from "../../../local/sources/snapshot.ts";
import { makeTemplate } from "../../../local/sources/template.ts";
import type { CommandContext } from "../../context.ts";
import type { Run } from "../engine.ts";
import { keepArtifacts, runSpec } from "../file/run.ts";
import { notesOnRun, printPreview } from "../file/show.ts";
import { sayNotes } from "../notes.ts";
import { findSourcesAddress } from "./address.ts";
import { execConfig } from "./config.ts";
import { askingDirectly } from "./direct.ts";
import { type ExecPlaces, placesOfRun, projectIdOf } from "./places.ts";
import { withoutProxyFor } from "./proxy.ts";
import { type RunRecord, writeRecord } from "./record.ts";

/**
 * Run, or preview, what there is to run with a coordinator, a git server and a runner of its own.
 * @returns the exit status
 */
export async function runHere(
  run: Run,
  places: ExecPlaces & Pick<RunRecord, "buildsDir">,
  snapshot: Snapshot,
  notes: string[],
  signal: AbortSignal,
): Promise<number> {
  const { options, executor, work, values, engine, tree } = run;
  const coordinator = await startCoordinator({
    dialect: work.dialect,
    // A held request lets the next job start as soon as it may.
    longPollMs: work.dialect === "gitlab" ? LONG_POLL_MS : 0,
    record: false,
    // What GitLab's jobs print is shown as it comes; AlloyCI's is sent a second time, whole, and compared with that.
    storeTrace: work.dialect === "gitlab" ? "count" : "memory",
    // Who works on its jobs is part of this process.
    listens: false,
    artifactsDir: places.runDir,
  });
  await using closing = new AsyncDisposableStack();
  closing.defer(() => coordinator.close());
  const { token } = coordinator.addRunner({ description: "exec" });
  const own = placesOfRun(places.runDir);
  const configure = async (
    context: CommandContext,
    environment: Config["runners"][number]["environment"],
    templateDir: string | undefined,
  ) =>
    await execConfig(
      {
        values,
        executor,
        parallel: options.parallel,
        url: coordinator.url,
        token,
        stateDir: own.stateDir,
        buildsDir: places.buildsDir ?? own.buildsDir,
        cachesDir: places.cachesDir,
        environment,
        templateDir,
      },
      context,
    );
  const first = await configure(run.context, [], own.templateDir);
  // It is made while the executor is asked what it is.
  const template =
    options.mode === "dry-run" || first.runners[0]?.sourcesTemplate === undefined
      ? Promise.resolve(false)
      : makeTemplate(snapshot, own.templateDir, run.context.env, signal);
  // It is awaited below.
  template.catch(() => undefined);
  const features = await engine.describe(first);
  const { listenHost, publicHost } = await findSourcesAddress(features.location, options.address);
  const servedAs = `local/${tree.name}.git`;
  const repositories = new Map([
    [servedAs, snapshot.repositoryDir],
    ...snapshot.submodules.map(({ path, dir }) => [path, dir] as const),
  ]);
  const direct = withoutProxyFor([publicHost, "127.0.0.1", "localhost"], run.context);
  if (direct.context !== run.context) closing.defer(() => direct.context.coordinator.connections.close());
  const connections = askingDirectly(coordinator, direct.context.coordinator.connections);
  const inside = { ...direct.context, coordinator: { ...direct.context.coordinator, connections } };
  const config = await configure(inside, direct.environment, (await template) ? own.templateDir : undefined);
  notes.push(...config.warnings, ...notesOnRun(work, features, snapshot));
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
    output: run.context.output,
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
  const spec = runSpec(work, snapshot, {
    project,
    variables: options.variables,
    unset: options.unset,
    runnerToken: token,
    timeoutSeconds: options.timeoutSeconds,
  });
  if (options.mode === "dry-run") {
    const { print } = run.context;
    await printPreview({ file: work.file, spec, coordinator, config, preview: engine.preview, print });
    return 0;
  }
  const used = config.runners[0]?.executor ?? "shell";
  const { buildsDir } = places;
  await writeRecord(
    places.runDir,
    { executor: used, cwd: run.context.cwd, buildsDir, values },
    run.context.catalog.words,
  );
  const runner = await engine.startRunner(config, inside);
  let result: RunPlanResult;
  try {
    result = await runPlan(
      {
        ...display,
        ...spec,
        coordinator,
        pick: engine.pick,
        noDelay: options.noDelay,
        quiet: options.quiet === true,
        // The runner is part of this process, so its last report always arrives.
        lastWordsMs: Number.POSITIVE_INFINITY,
        ...(options.artifactsDir === undefined ? {} : { keep: keepArtifacts(options.artifactsDir, run.context.cwd) }),
      },
      signal,
    );
  } finally {
    coordinator.release();
    await runner.end();
  }
  if (signal.aborted) throw signal.reason;
  if (!result.success) return result.firstFailure?.exitCode ?? 1;
  return options.strictManual && result.blocked.length > 0 ? BLOCKED_STATUS : 0;
}

/** With `--strict-manual`: manual jobs hold up the pipeline. */
const BLOCKED_STATUS = 3;

/** How long the runner's question for a job may wait for one. */
const LONG_POLL_MS = 20_000;
