import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import { createBoard } from "../../src/board/board.ts";
import type { Config, RunnerConfig } from "../../src/config/config.ts";
import type { Coordinator, JobAnswer } from "../../src/coordinator/contract.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Dialect, Job } from "../../src/job/job.ts";
import type { HandleJob, ReceivedJob } from "../../src/job/life/received.ts";
import { createLog } from "../../src/log.ts";
import { createMetrics } from "../../src/metrics/metrics.ts";
import { createAdmission } from "../../src/poll/admission/admission.ts";
import { type PollTiming, pollTiming } from "../../src/poll/pace.ts";
import { createSupervisor } from "../../src/poll/supervisor.ts";
import { sampleJob } from "../support/job.ts";

/** Pauses a hundred times shorter than those of the real program. */
export const quickTiming: PollTiming = {
  ...pollTiming,
  heldMs: 40,
  lendMs: 40,
  lendHeldMs: 600,
  conflictMs: 10,
  troubleFirstMs: 10,
  troubleMaxMs: 50,
  probesMs: [30, 60],
  burstMs: [5, 15, 50],
  lastRequestMs: 300,
};

export interface Asked {
  readonly token: string;
  readonly hold: boolean;
  readonly at: number;
  /** How many requests of this token were under way already. */
  readonly beside: number;
}

/** The answer to a request: a job, a status, or whatever the function does with the response. */
export type Reply = { job: string; dialect?: Dialect } | number | ((response: ServerResponse) => void);

/** A coordinator over HTTP that hands out what the test says. */
export async function startServer(reply: (asked: Asked, count: number) => Reply | Promise<Reply>) {
  const asked: Asked[] = [];
  const under = new Map<string, number>();
  const watchers = new Set<() => void>();
  const server = createServer((request, response) => {
    const token = String(request.headers.token);
    const beside = under.get(token) ?? 0;
    under.set(token, beside + 1);
    response.on("close", () => under.set(token, (under.get(token) ?? 1) - 1));
    const one = { token, hold: request.headers.hold === "true", at: performance.now(), beside };
    asked.push(one);
    for (const watcher of watchers) watcher();
    void (async () => {
      const answer = await reply(one, asked.filter((other) => other.token === token).length);
      if (typeof answer === "function") answer(response);
      else if (typeof answer === "number") response.writeHead(answer).end();
      else response.writeHead(201).end(JSON.stringify(answer));
    })();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = address === null || typeof address === "string" ? 0 : address.port;
  return {
    url: new URL(`http://127.0.0.1:${port}`),
    asked,
    of: (token: string) => asked.filter((one) => one.token === token),
    /** Resolves once `condition` holds after some request. */
    until: (condition: () => boolean) =>
      new Promise<void>((resolve) => {
        const look = () => {
          if (!condition()) return;
          watchers.delete(look);
          resolve();
        };
        watchers.add(look);
        look();
      }),
    close: async () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

export function connectTo(entry: RunnerConfig): Coordinator {
  const refuse = () => Promise.reject(new Error("only asks for jobs"));
  return {
    origin: entry.url.origin,
    async requestJob(_info, { hold }, signal): Promise<JobAnswer> {
      const before = performance.now();
      try {
        const response = await fetch(new URL("/api/v4/jobs/request", entry.url), {
          method: "POST",
          headers: { token: entry.token, hold: String(hold) },
          signal,
        });
        const text = await response.text();
        const heldMs = performance.now() - before;
        const retryAfter = response.headers.get("retry-after");
        if (response.status === 201) {
          const { job, dialect = "alloy" } = JSON.parse(text);
          return { kind: "job", job: jobOf(job, dialect) };
        }
        if (response.status === 204)
          return { kind: "none", heldMs, ...(response.headers.has("changed") ? { changed: true } : {}) };
        if (response.status === 401 || response.status === 403)
          return { kind: "unauthorized", status: response.status };
        if (response.status === 409) return { kind: "conflict" };
        const retryAfterMs = retryAfter === null ? undefined : Number(retryAfter);
        return { kind: "trouble", message: `status ${response.status}`, retryAfterMs };
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        return { kind: "trouble", message: String(error), retryAfterMs: undefined };
      }
    },
    appendTrace: refuse,
    updateJob: refuse,
    uploadArtifacts: refuse,
    downloadArtifacts: refuse,
    close: async () => {},
  };
}

export function jobOf(id: string, dialect: Dialect = "alloy"): Job {
  const job = sampleJob({ id, token: `token-of-${id}`, dialect, name: `job ${id}`, projectName: "group/project" });
  return { ...job, git: { ...job.git, repoUrl: "https://oauth2:canary@git.example.org/group/project.git" } };
}

export function entryOf(url: URL, token: string, more: Partial<RunnerConfig> = {}): RunnerConfig {
  const entry = {
    name: `runner ${token}`,
    url,
    token,
    tokenLife: { runnerId: "", obtainedAtMs: null, expiresAtMs: null, written: true, rotates: true },
    id: `id-${token}`,
    limit: Number.POSITIVE_INFINITY,
    requestConcurrency: 1,
    shortToken: "",
    weight: 1,
    outputLimitBytes: 4096 * 1024,
    strictCheckInterval: false,
    unhealthyRequestsLimit: 3,
    unhealthyIntervalMs: 3_600_000,
    tlsCaFile: undefined,
    tlsCertFile: undefined,
    tlsKeyFile: undefined,
    certsDir: "/nonexistent",
    executor: "shell",
    shell: undefined,
    buildsDir: undefined,
    cacheDir: undefined,
    cache: { maxBytes: null, maxUploadBytes: null, bucket: null },
    cloneUrl: "",
    environment: [],
    preCloneScript: "",
    postGetSourcesScript: "",
    preBuildScript: "",
    postBuildScript: "",
    debugTraceDisabled: false,
    prepareTimeoutMs: null,
    getSourcesTimeoutMs: null,
    gitSslNoVerify: false,
    plainHttpSecretServers: [],
    inheritEnvironment: [],
    durable: false,
    written: "{}",
    killLeftovers: true,
    queuingLimits: [],
    featureFlags: {},
    labels: {},
    artifact: { uploadTimeoutMs: null, answerTimeoutMs: null },
    executorFingerprint: "as it was",
    reconfigure: () => false,
    openExecutor: () => executorOf(),
    ...more,
  };
  return { fingerprint: `${url.href} ${token} ${entry.limit} ${entry.name}`, ...entry };
}

export function executorOf(more: Partial<Executor> = {}): Executor {
  return {
    name: "shell",
    title: "Shell",
    features: { variables: true, image: false, services: false, shared: true },
    shell: "bash",
    prepare: () => Promise.reject(new Error("nothing runs here")),
    recover: async () => ({ done: [], left: [] }),
    close: async () => {},
    ...more,
  };
}

export function configOf(runners: readonly RunnerConfig[], more: Partial<Config> = {}): Config {
  return {
    file: "/etc/alloy-runner/config.toml",
    concurrent: 1,
    checkIntervalMs: 50,
    logLevel: undefined,
    logFormat: undefined,
    metricsAddress: "",
    debugEndpoints: false,
    web: null,
    sessionServer: null,
    user: undefined,
    stateDir: "/var/lib/alloy-runner",
    liveKeyFile: undefined,
    minFreeDiskBytes: 0,
    outboxMaxAgeMs: 604_800_000,
    shutdownTimeoutMs: 30_000,
    connectionMaxAgeMs: 0,
    admission: {
      minFreeInodes: 0,
      maxMemoryPressure: null,
      maxCpuPressure: null,
      maxWeight: Number.POSITIVE_INFINITY,
      maxSystemFailures: null,
      failurePauseMs: 60_000,
    },
    housekeeping: { images: null, volumes: null, builds: null, free: null },
    runners,
    broken: [],
    warnings: [],
    ...more,
  };
}

/** A supervisor whose jobs do what the test says. */
export function supervise(
  work: (received: ReceivedJob) => Promise<unknown>,
  more: {
    timing?: PollTiming;
    hasRoom?: () => Promise<boolean>;
    pressureDir?: string;
    isPending?: (origin: string, id: string) => boolean;
    openExecutor?: (entry: RunnerConfig) => Executor;
    handleJob?: HandleJob;
  } = {},
) {
  const lines: string[] = [];
  const log = createLog({
    level: "info",
    format: "text",
    journal: true,
    output: { write: (line) => void lines.push(line), flush: async () => {} },
  });
  const metrics = createMetrics({ version: "test" });
  const board = createBoard();
  metrics.observe({ jobs: board.jobs });
  const stopping = new AbortController();
  const supervisor = createSupervisor(
    {
      handleJob: async (received) => {
        await work(received);
        return { outcome: { result: "success" }, delivered: Promise.resolve("delivered") };
      },
      openCoordinator: connectTo,
      openExecutor: (entry) => executorOf({ name: entry.executor }),
      admission: createAdmission({
        hasRoom: more.hasRoom ?? (async () => true),
        disk: () => ({ freeBytes: 1_200_000_000, minFreeBytes: 2_000_000_000 }),
        onRoom: metrics.pollingPaused,
        log,
        ...(more.pressureDir === undefined ? {} : { pressureDir: more.pressureDir }),
      }),
      isPending: () => false,
      timing: quickTiming,
      ...more,
      board,
      metrics,
      log,
    },
    stopping.signal,
  );
  return { supervisor, board, lines, metrics, stopping, log };
}
