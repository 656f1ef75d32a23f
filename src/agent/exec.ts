import { findShellWriter } from "../../shells/index.ts";
import { createBoard } from "../board/board.ts";
import type { CommandContext } from "../commands/context.ts";
import type { ExecEngine } from "../commands/exec/engine.ts";
import { execCommand } from "../commands/exec/exec.ts";
import type { LogSettings } from "../commands/log-options.ts";
import type { FlagValues } from "../commands/register/runner-flags.ts";
import type { Config } from "../config/config.ts";
import { parseJob } from "../coordinator/payload/job-payload.ts";
import { CommandError, ScriptFailure, Stop, SystemFailure } from "../errors.ts";
import { noMeter } from "../executor/deps.ts";
import type { Executor } from "../executor/executor.ts";
import { previewJob } from "../job/plan/preview.ts";
import { findWriters } from "../job/plan/writers.ts";
import { projectPathOf } from "../job/sources/project-path.ts";
import { createLog, type RunnerLog, streamOutput } from "../log.ts";
import { createMetrics } from "../metrics/metrics.ts";
import { admitAll } from "../poll/admission/admission.ts";
import { closeExecutor } from "../poll/close-executor.ts";
import { createSupervisor } from "../poll/supervisor.ts";
import { hearOthers } from "../quiet-runtime.ts";
import { deadline, never } from "../time.ts";
import { pickFile } from "../transfer/zip/pick.ts";
import { revision, version } from "../version.ts";
import { createBury } from "./bury.ts";
import { openServices } from "./services/services.ts";
import { hostPlaces } from "./surroundings.ts";

/** The parts of the agent behind `exec`: the same services, supervisor and executors as those of `run`. */

/** How soon a job hears of its cancel while it prints nothing. The coordinator is in this process: asking costs little. */
const PROBE_MS = 400;
const KILL_GRACE_MS = 2000;
/** How long reports under way may take once the last job has ended. */
const LAST_REPORTS_MS = 5000;

/** GitLab's limit for the file of a child pipeline that comes out of an archive. */
const MOST_PICKED_BYTES = 5 * 1024 * 1024;

/** `exec`. @returns the exit status */
export async function runExec(
  words: readonly string[],
  values: FlagValues,
  context: CommandContext,
  logging: LogSettings,
): Promise<number> {
  const metrics = createMetrics({ version, revision });
  const log = createLog({
    // What a job's trace does not say, and nobody asked for, does not belong between its lines.
    level: logging.level ?? "error",
    format: logging.format ?? "text",
    output: streamOutput(process.stderr, (count) => `${count} lines of the log were dropped\n`),
    colors: process.stderr.isTTY === true && !context.env.NO_COLOR,
  });
  hearOthers((words) => log.debug("said by the runtime or a library", { words }));
  const engine: ExecEngine = {
    describe: async (config) =>
      await withExecutor(config, context, log, async ({ features, location = { at: "this machine" }, locate }) => ({
        ...features,
        location: (await locate?.(never)) ?? location,
      })),
    preview: async (payload, config) =>
      await withExecutor(config, context, log, async (executor) => preview(payload, config, executor, context)),
    async startRunner(config, around) {
      const stopping = new AbortController();
      const services = await openServices(config, { context: around, log, metrics }, stopping.signal, {
        cachesOf: new URL("http://exec"),
        outlives: isHere(config, around) ? "process" : "machine",
        timing: { ship: { probeMs: PROBE_MS, quietMs: 50, steadyMs: 200 } },
      });
      if (!(await services.hasRoom())) {
        await services.close(stopping.signal);
        throw new CommandError(
          `The disk of ${config.stateDir} has less than ${Math.round(config.minFreeDiskBytes / 1024 ** 2)} MiB free: make room, or name another place with XDG_CACHE_HOME`,
        );
      }
      // Asked once: a pipeline that waits for room without a word would look like one that hangs.
      const supervisor = createSupervisor(
        { ...services, admission: admitAll, board: createBoard(), metrics, log },
        stopping.signal,
      );
      supervisor.apply(config);
      return {
        async end() {
          await supervisor.drain();
          using limit = deadline(never, LAST_REPORTS_MS, new Stop("shutting_down", "exec ends"));
          await services.close(limit.signal);
        },
      };
    },
    pick: async (archive, path) => await pickFile(archive, path, MOST_PICKED_BYTES),
    bury: createBury({ context, log, killGraceMs: KILL_GRACE_MS }),
  };
  return await execCommand(words, values, context, engine);
}

/** Whether all that its jobs start ends with this machine, so that nothing has to be known of it afterwards. */
function isHere({ runners: [entry] }: Config, { catalog }: CommandContext): boolean {
  return catalog.words.some(({ name, worksOnThisMachine }) => name === entry?.executor && worksOnThisMachine);
}

async function withExecutor<T>(
  config: Config,
  context: CommandContext,
  log: RunnerLog,
  body: (executor: Executor) => Promise<T>,
): Promise<T> {
  const [entry] = config.runners;
  if (entry === undefined) throw new CommandError("There is no runner to work with");
  const executor = entry.openExecutor({
    log,
    host: hostPlaces({ path: config.stateDir, scratchDir: config.stateDir }, context.cwd, context.env),
    meter: noMeter,
    user: undefined,
  });
  try {
    return await body(executor);
  } finally {
    await closeExecutor(executor);
  }
}

function preview(
  payload: string,
  config: Config,
  executor: Executor,
  context: CommandContext,
): Awaited<ReturnType<ExecEngine["preview"]>> {
  const [entry] = config.runners;
  const parsed = parseJob(payload, { serverTls: {}, likelyDialect: "alloy", cut: undefined });
  if (entry === undefined || !("job" in parsed))
    throw new CommandError(`No script can be shown for the shell ${executor.shell}`);
  const buildsDir = "/builds";
  const root = `${buildsDir}/${projectPathOf(parsed.job)}`;
  const { platform, architecture } = context.coordinator.identity;
  try {
    const stages = previewJob({
      job: parsed.job,
      runner: entry,
      executor,
      writers: findWriters(executor.shell, executor, findShellWriter),
      identity: { version, revision, architecture: `${platform}/${architecture}` },
      buildsDir,
      root,
      coordinatorOrigin: entry.url.origin,
    });
    return { shell: executor.shell, root, stages };
  } catch (error) {
    if (error instanceof ScriptFailure || error instanceof SystemFailure)
      throw new CommandError(`Job "${parsed.job.name}": ${error.message}`);
    throw error;
  }
}
