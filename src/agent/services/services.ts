import { existsSync } from "node:fs";
import { join } from "node:path";
import { findShellWriter } from "../../../shells/index.ts";
import type { CommandContext } from "../../commands/context.ts";
import type { RunServices } from "../../commands/run/deps.ts";
import type { Config, RunnerConfig } from "../../config/config.ts";
import type { Bounds } from "../../coordinator/calls.ts";
import { openCoordinator } from "../../coordinator/client.ts";
import { createConnections } from "../../coordinator/connection/connections.ts";
import { describeError } from "../../errors.ts";
import { noMeter } from "../../executor/deps.ts";
import type { HandleTiming } from "../../job/life/deps.ts";
import { createJobHandler } from "../../job/life/handle.ts";
import { createLiveMasks } from "../../job/life/trace/live-masks.ts";
import type { JobRecord, LeftoverJob } from "../../journal/contract.ts";
import { createOutbox } from "../../journal/delivery/outbox.ts";
import { recoverJobs } from "../../journal/delivery/recover.ts";
import { openJournal } from "../../journal/records/journal.ts";
import { openStateDir } from "../../journal/state/state-dir.ts";
import type { RunnerLog } from "../../log.ts";
import type { Metrics } from "../../metrics/metrics.ts";
import type { SessionServer } from "../../session/server.ts";
import type { Exchanges } from "../../tokens/exchanges.ts";
import { createKeptCaches } from "../../transfer/cache/kept-caches.ts";
import { createCaches } from "../../transfer/cache/open-caches.ts";
import { revision, version } from "../../version.ts";
import { hostPlaces } from "../surroundings.ts";
import { createCleaners } from "./cleaners.ts";
import { holdLiveKey } from "./live-key.ts";
import { findLiving } from "./living.ts";
import { watchStateDisk } from "./state-disk.ts";
import { createTokenServices } from "./tokens.ts";

/** What services are opened with. */
export interface ServicesDeps {
  readonly context: CommandContext;
  /** Where tokens are looked after, those that were exchanged. */
  readonly exchanges?: Exchanges;
  readonly log: RunnerLog;
  readonly metrics: Metrics;
}

/** What is different where the coordinator is part of this process. */
export interface Tuning {
  /** Stands for the coordinator in the names of local caches, as its own address changes. */
  readonly cachesOf?: URL;
  readonly timing?: HandleTiming;
  /** What the journal has to outlive: what goes with the process at its end need not wait for the disk. */
  readonly outlives?: "machine" | "process";
}

/** Journal, outbox, connections and caches of one configuration; what dead jobs of its state directory left is removed. */
export async function openServices(
  first: Config,
  { context, exchanges, log, metrics }: ServicesDeps,
  stopping: AbortSignal,
  tuning: Tuning = {},
): Promise<RunServices> {
  let config = first;
  const { connections } = context.coordinator;
  connections.limitAge(config.connectionMaxAgeMs);
  const stateDir = await openStateDir({ path: config.stateDir, log }, stopping);
  const workingDirectory = process.cwd();
  const host = hostPlaces(stateDir, workingDirectory, context.env);
  const journal = await openJournal({ stateDir, log, outlives: tuning.outlives ?? "machine" });
  const outbox = createOutbox({
    openCoordinator: (runner) =>
      openCoordinator(
        {
          url: new URL(runner.url),
          token: runner.token,
          tlsCaFile: runner.tlsCaFile ?? undefined,
          tlsCertFile: runner.tlsCertFile ?? undefined,
          tlsKeyFile: runner.tlsKeyFile ?? undefined,
          certsDir: runner.certsDir,
        },
        context.coordinator,
      ),
    log,
    maxAgeMs: () => config.outboxMaxAgeMs,
  });
  const nearby = createConnections();
  const caches = createCaches({
    connections,
    userAgent: context.coordinator.identity.userAgent,
    nearby,
    environment: context.env,
    workingDirectory,
    fallbackDir: join(stateDir.path, "caches"),
    scratchDir: stateDir.scratchDir,
    otherUser: () => context.uid === 0 && Boolean(config.user),
    minFreeBytes: () => config.minFreeDiskBytes,
    meter: metrics.cloud,
    log,
  });
  const disk = watchStateDisk({ path: stateDir.path, config: () => config, caches, log });
  metrics.observe({
    outbox: () => {
      const { entries, oldestSeconds, bytes } = outbox.gauges();
      return { entries, oldestAgeSeconds: oldestSeconds, bytes };
    },
    stateFreeBytes: async () => {
      await disk.hasRoom();
      return disk.freeBytes ?? Number.NaN;
    },
  });

  const cleaners = createCleaners({
    catalog: context.catalog,
    runners: () => config.runners,
    around: () => ({ log, host, meter: noMeter, user: config.user }),
  });
  const liveKey = holdLiveKey({ config: () => config, env: context.env, log });
  liveKey.look();
  metrics.observe({ durable: () => liveKey.durable });
  const lookAt = async (record: JobRecord): Promise<string | null> => {
    if (!existsSync(join(record.dir, "life"))) return null;
    metrics.adopted("buried");
    const { buryLife } = await import("../../job/life/durable/look.ts");
    return await buryLife(record, { key: await liveKey.get(), by: version, log });
  };
  const { executorFor } = cleaners;
  const living = await findLiving({ journal, outbox, executorFor, liveKey: liveKey.get, config, context, log });
  const goingOn = new Set(living.map(({ found }) => found.leftover));
  const recovering = new AbortController();
  const goesOn = (leftover: LeftoverJob): boolean => goingOn.has(leftover);
  const recovery = recoverJobs({ journal, outbox, executorFor, log, lookAt, goesOn }, recovering.signal)
    .catch((error: unknown) => {
      log.error("cannot clean up after the last runner process; going on without", { problem: describeError(error) });
    })
    // One that goes on may still have to be cleaned up after.
    .then(() => (goingOn.size === 0 ? cleaners.close(log) : undefined));

  const tokens =
    exchanges === undefined
      ? undefined
      : createTokenServices({ file: config.file, stateDir: stateDir.path, context, exchanges, log, metrics });
  const sessions = await openSessions(first, log);
  const liveMasks = createLiveMasks();
  const handler = createJobHandler({
    journal,
    outbox,
    findWriter: findShellWriter,
    keptCaches: createKeptCaches({ log }),
    openCaches: (entry, lifeMs) => caches.open({ ...entry, url: tuning.cachesOf ?? entry.url }, lifeMs),
    resolveSecrets: async ({ tlsCaFile, certsDir, plainHttpSecretServers }, wanted, signal) => {
      const { resolveSecrets } = await import("../../secrets/resolve.ts");
      const { userAgent } = context.coordinator.identity;
      const outside = { connections, userAgent, tlsCaFile, certsDir };
      const means = { ...outside, plainHttpHosts: plainHttpSecretServers, environment: context.env };
      return await resolveSecrets(wanted, means, signal);
    },
    ...(tuning.timing === undefined ? {} : { timing: tuning.timing }),
    scratchDir: stateDir.scratchDir,
    liveKey: liveKey.get,
    minFreeBytes: () => config.minFreeDiskBytes,
    identity: {
      version,
      revision,
      architecture: `${context.coordinator.identity.platform}/${context.coordinator.identity.architecture}`,
      ...(context.coordinator.systemId === undefined ? {} : { systemId: context.coordinator.systemId }),
    },
    log,
    liveMasks,
    sessionTimeoutMs: first.sessionServer?.sessionTimeoutMs ?? 0,
  });
  return {
    living,
    handleJob: handler,
    ...(sessions === null ? {} : { offerSession: sessions.offer }),
    openCoordinator: (entry, meter) => {
      const coordinator = openCoordinator(entry, {
        ...context.coordinator,
        bounds: uploadBounds(entry),
        onRequest: (request) => {
          const { status } = request;
          meter.request(request);
          if (status >= 200 && status < 500 && status !== 429) outbox.answered(coordinator.origin);
        },
      });
      return coordinator;
    },
    openExecutor: (entry, from, meter) =>
      entry.openExecutor({ log: liveMasks.masked(log), host, meter: meter.executor, user: from.user }),
    hasRoom: () => disk.hasRoom(),
    disk: () => ({
      freeBytes: disk.freeBytes,
      minFreeBytes: config.minFreeDiskBytes,
      freeInodes: disk.freeInodes,
      minFreeInodes: config.admission.minFreeInodes,
    }),
    durable: () => liveKey.durable,
    isPending: (origin, jobId) => outbox.has(origin, jobId),
    ...(tokens === undefined ? {} : { finishExchanges: tokens.finish, keepTokens: tokens.keep }),
    reconfigure: (next) => {
      config = next;
      liveKey.look();
      connections.limitAge(config.connectionMaxAgeMs);
    },
    async close(signal) {
      await tokens?.close(signal);
      await sessions?.close();
      recovering.abort();
      await recovery;
      if (goingOn.size > 0) await cleaners.close(log);
      await outbox.close(signal);
      await nearby.close();
      await journal.close();
      await stateDir.close();
    },
  };
}

/** Longest delay that Node's timers can hold. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** What the entry says of its uploads. */
function uploadBounds({ artifact: { uploadTimeoutMs, answerTimeoutMs } }: RunnerConfig): Partial<Bounds> {
  return {
    ...(uploadTimeoutMs === null ? {} : { uploadMs: Math.min(uploadTimeoutMs, LONGEST_TIMER_MS) }),
    ...(answerTimeoutMs === null ? {} : { uploadSilenceMs: Math.min(answerTimeoutMs, LONGEST_TIMER_MS) }),
  };
}

/** @throws {ConfigError} the address or the certificate cannot be used */
async function openSessions({ sessionServer }: Config, log: RunnerLog): Promise<SessionServer | null> {
  if (sessionServer === null) return null;
  // Imported only here, because most runners serve no terminals.
  const { openSessionServer } = await import("../../session/server.ts");
  const server = await openSessionServer(sessionServer, log);
  log.info("serving terminals of jobs", { url: server.origin });
  return server;
}
