import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { executors } from "../../executors/index.ts";
import { findShellWriter } from "../../shells/index.ts";
import { createBoard } from "../../src/board/board.ts";
import { parseConfig } from "../../src/config/load.ts";
import { openCoordinator } from "../../src/coordinator/client.ts";
import { createConnections } from "../../src/coordinator/connection/connections.ts";
import { createIdentity } from "../../src/coordinator/identity.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Job, JobProgress } from "../../src/job/job.ts";
import type { HandleDeps } from "../../src/job/life/deps.ts";
import { createJobHandler } from "../../src/job/life/handle.ts";
import type { FoundJob, HandledJob } from "../../src/job/life/received.ts";
import { createLiveMasks } from "../../src/job/life/trace/live-masks.ts";
import { createOutbox } from "../../src/journal/delivery/outbox.ts";
import { openJournal } from "../../src/journal/records/journal.ts";
import { openStateDir } from "../../src/journal/state/state-dir.ts";
import { createMetrics } from "../../src/metrics/metrics.ts";
import { resolveSecrets } from "../../src/secrets/resolve.ts";
import { never } from "../../src/time.ts";
import { createKeptCaches } from "../../src/transfer/cache/kept-caches.ts";
import { createCaches } from "../../src/transfer/cache/open-caches.ts";
import { executorDeps } from "../support/executor-deps.ts";
import { type LogLine, recordingLog } from "./stand.ts";

export interface HandlingOptions {
  readonly url: string;
  readonly token: string;
  /** Default: one of its own, removed by `close`. */
  readonly dir?: string;
  /** Lines of the `[[runners]]` entry. */
  readonly entry?: string;
  readonly timing?: HandleDeps["timing"];
  /** With what secrets of durable jobs are kept. */
  readonly liveKey?: Buffer;
  /** Leaves durable jobs to the next process. */
  readonly handOver?: AbortSignal;
}

/** One `[[runners]]` entry with everything that handles its jobs, but no polling. */
export async function openHandling(options: HandlingOptions) {
  const { url, token, dir: given, entry: lines = "", timing, liveKey, handOver } = options;
  const dir = given ?? (await mkdtemp(join(tmpdir(), "alloy-handle-")));
  const logged: LogLine[] = [];
  const log = recordingLog(logged);
  const config = await parseConfig(
    `[[runners]]\nname = "r"\nurl = "${url}"\ntoken = "${token}"\nexecutor = "shell"\nbuilds_dir = "${dir}/builds"\n${lines}\n`,
    {
      file: "/config.toml",
      catalog: executors,
      env: {},
      workingDirectory: dir,
      certsDir: dir,
      defaultStateDir: `${dir}/state`,
    },
  );
  const [entry] = config.runners;
  if (entry === undefined) throw new Error("there is no entry");
  const connections = createConnections();
  const identity = createIdentity({ version: "2.0.0", revision: "0", runtime: "node", platform: "linux", arch: "x64" });
  const stateDir = await openStateDir({ path: config.stateDir, log }, never);
  const journal = await openJournal({ stateDir, log });
  const liveMasks = createLiveMasks();
  const executorLog = liveMasks.masked(log);
  const deps = executorDeps(dir, { log: executorLog, scratch: stateDir.scratchDir });
  const executor = entry.openExecutor({ ...deps, user: undefined });
  const coordinator = openCoordinator(entry, { connections, identity });
  const outbox = createOutbox({
    openCoordinator: () => openCoordinator(entry, { connections, identity }),
    log,
    maxAgeMs: () => 1e9,
    timing: { firstMs: 10, maxMs: 100, probeMaxMs: 50, suspectMs: 0 },
  });
  const handler = createJobHandler({
    journal,
    outbox,
    identity: { version: "2.0.0", revision: "0", architecture: "linux/amd64" },
    findWriter: findShellWriter,
    resolveSecrets: async (_entry, wanted, signal) =>
      await resolveSecrets(
        wanted,
        {
          connections,
          userAgent: identity.userAgent,
          tlsCaFile: undefined,
          certsDir: dir,
          plainHttpHosts: ["127.0.0.1"],
          environment: {},
        },
        signal,
      ),
    keptCaches: createKeptCaches({ log }),
    openCaches: createCaches({
      connections,
      nearby: connections,
      environment: {},
      userAgent: identity.userAgent,
      workingDirectory: dir,
      fallbackDir: join(stateDir.path, "caches"),
      scratchDir: stateDir.scratchDir,
      otherUser: () => false,
      minFreeBytes: () => 0,
      meter: createMetrics({ version: "test" }).cloud,
      log,
    }).open,
    scratchDir: stateDir.scratchDir,
    liveKey: async () => liveKey ?? null,
    minFreeBytes: () => 0,
    log,
    sessionTimeoutMs: 1800_000,
    liveMasks,
    timing: { preparePauseMs: 5, attemptPauseMs: 5, ...timing, ship: { probeMs: 100, retryMs: 20, ...timing?.ship } },
  });
  const board = createBoard();
  const states: JobProgress[] = [];
  let traced = 0;
  return {
    dir,
    entry,
    executor,
    executorLog,
    stateDir,
    journal,
    outbox,
    logged,
    board,
    states,
    get traced() {
      return traced;
    },
    /** Ask for the next job, as a poller does. */
    async receive(): Promise<Job> {
      const info = { executor: "shell", shell: "bash", features: executor.features };
      const answer = await coordinator.requestJob(info, { hold: false }, never);
      if (answer.kind !== "job") throw new Error(`no job: ${answer.kind}`);
      return answer.job;
    },
    async handle(
      job: Job,
      signal: AbortSignal = never,
      other: Executor = executor,
      concurrentId: number | Promise<number> = 0,
      found?: FoundJob,
    ): Promise<HandledJob> {
      const shown = board.add(
        { id: job.id, title: job.name, page: "", runner: entry.id, runnerName: entry.name, receivedAt: Date.now() },
        {
          trace: { size: 0, ended: false, read: async () => Buffer.alloc(0) },
          cancel: () => {},
          usage: async () => ({}),
        },
      );
      return await handler({
        job,
        entry,
        executor: other,
        ...(found === undefined ? {} : { found }),
        coordinator,
        concurrentId,
        signal,
        ...(handOver === undefined ? {} : { handOver }),
        board: {
          moved: (progress) => {
            states.push(progress);
            shown.moved(progress);
          },
          traced: (bytes) => {
            traced += bytes;
            shown.traced(bytes);
          },
          outlives: shown.outlives,
          adopted: () => {},
          offer: shown.offer,
        },
      });
    },
    async close() {
      await outbox.close(AbortSignal.abort(new Error("the test is over")));
      await journal.close();
      await stateDir.close();
      await executor.close(never);
      await coordinator.close();
      await connections.close();
      if (given === undefined) await rm(dir, { recursive: true, force: true });
    },
  };
}
