import { mkdtempSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import shell from "../../executors/shell/index.ts";
import { findShellWriter } from "../../shells/index.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Note } from "../../src/executor/prepare.ts";
import type { Job, JobProgress, Outcome, Step, Variable } from "../../src/job/job.ts";
import type { JobRunner, RunJobRequest } from "../../src/job/life/request.ts";
import { runJob } from "../../src/job/life/run.ts";
import { secretsOf } from "../../src/job/variables/secrets.ts";
import type { Log } from "../../src/log.ts";
import type { ShellName } from "../../src/shell.ts";
import { never } from "../../src/time.ts";
import { openTrace } from "../../src/trace/trace.ts";
import { openLocalCaches } from "../../src/transfer/cache/cache-local.ts";
import { createKeptCaches } from "../../src/transfer/cache/kept-caches.ts";
import { executorDeps, silentLog } from "../support/executor-deps.ts";
import { sampleJob } from "../support/job.ts";

export function variable(key: string, value: string, more: Partial<Variable> = {}): Variable {
  return { key, value, public: true, file: false, masked: false, raw: false, ...more };
}

export function step(name: string, script: readonly string[], more: Partial<Step> = {}): Step {
  return {
    name,
    script,
    timeoutMs: null,
    when: name === "after_script" ? "always" : "on_success",
    allowFailure: false,
    ...more,
  };
}

/** A sound job of AlloyCI without sources, changed by `more`. */
export function jobWith(more: Partial<Job> = {}): Job {
  const job = sampleJob();
  return {
    ...job,
    id: "17",
    token: "job-token-0123456789",
    name: "unit",
    projectId: "5",
    projectName: "widget",
    git: { ...job.git, repoUrl: "https://example.invalid/acme/widget.git", beforeSha: "" },
    variables: [variable("GIT_STRATEGY", "none")],
    steps: [step("script", ["echo hello"])],
    ...more,
  };
}

const plainRunner: JobRunner = {
  name: "builder",
  id: "7e3b05c2",
  token: "aBcDeFgHiJkLmNoPqRsT",
  shortToken: "aBcDeFgHi",
  url: new URL("http://127.0.0.1:1"),
  environment: [],
  cloneUrl: "",
  preCloneScript: "",
  postGetSourcesScript: "",
  preBuildScript: "",
  postBuildScript: "",
  debugTraceDisabled: false,
  featureFlags: {},
  prepareTimeoutMs: null,
  getSourcesTimeoutMs: null,
  gitSslNoVerify: false,
};

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>> | undefined;
}

export function recordingLog(lines: LogLine[] = []): Log {
  const at =
    (level: string) =>
    (message: string, fields?: Readonly<Record<string, unknown>>): void => {
      lines.push({ level, message, fields });
    };
  const log: Log = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error"), child: () => log };
  return log;
}

export interface Finished {
  readonly outcome: Outcome;
  /** The trace without colours. */
  readonly trace: string;
  readonly states: readonly JobProgress[];
  readonly logged: readonly LogLine[];
  readonly tookMs: number;
}

export interface RunOptions {
  readonly runner?: Partial<JobRunner>;
  readonly executor?: Executor;
  readonly signal?: AbortSignal;
  readonly halt?: AbortSignal;
  readonly request?: Partial<RunJobRequest>;
  /** Called with the trace so far, each time it has grown. */
  readonly onTrace?: (text: string) => void;
}

export interface Stand {
  readonly dir: string;
  readonly buildsDir: string;
  readonly executor: Executor;
  /** Runs a job through the real executor, shell and trace. */
  run(job: Job, options?: RunOptions): Promise<Finished>;
  close(): Promise<void>;
}

export function createStand({ shell: shellName = "bash" }: { shell?: ShellName } = {}): Stand {
  const dir = mkdtempSync(join(tmpdir(), "alloy-job-"));
  const buildsDir = join(dir, "builds");
  const executor = openShell(dir, buildsDir, shellName);
  let jobs = 0;
  const keptCaches = createKeptCaches({ log: silentLog });
  return {
    dir,
    buildsDir,
    executor,
    async run(job, options = {}) {
      const path = join(dir, `trace-${jobs++}`);
      const { traceSections, tokenMaskPrefixes } = job.features;
      const secrets = secretsOf(job);
      const trace = await openTrace({
        path,
        secrets: secrets.values,
        secretPrefixes: tokenMaskPrefixes,
        limitBytes: 4 * 1024 * 1024,
        sections: traceSections,
      });
      const logged: LogLine[] = [];
      const states: JobProgress[] = [];
      const start = performance.now();
      let seen = "";
      let reading = Promise.resolve();
      const stopWatching = trace.watch(() => {
        if (options.onTrace === undefined) return;
        reading = reading.then(async () => {
          seen += (await trace.read(Buffer.byteLength(seen), 1024 * 1024)).toString();
          options.onTrace?.(seen);
        });
      });
      const { outcome, destroyed } = await runJob(
        {
          job,
          jobKey: `test-${process.pid}-${jobs}-${Math.random().toString(36).slice(2)}`,
          runner: { ...plainRunner, ...options.runner },
          identity: { version: "2.0.0", revision: "abc1234", architecture: "linux/amd64" },
          executor: options.executor ?? executor,
          secrets,
          findWriter: findShellWriter,
          trace,
          transfers: {
            coordinator: {
              uploadArtifacts: () => Promise.reject(new Error("there is no coordinator")),
              downloadArtifacts: () => Promise.reject(new Error("there is no coordinator")),
            },
            openCaches: async () =>
              openLocalCaches({
                dir: join(dir, "cache"),
                oldDir: join(dir, "cache"),
                coordinator: "127.0.0.1:1",
                maxBytes: null,
                guarded: false,
                minFreeBytes: () => 0,
              }),
            keptCaches,
            scratchDir: dir,
            minFreeBytes: () => 0,
          },
          resolveSecrets: () => Promise.reject(new Error("there are no stores")),
          log: recordingLog(logged),
          concurrentId: 3,
          remember: async (_note: Note) => {},
          halt: options.halt ?? never,
          onProgress: (state) => states.push(state),
          preparePauseMs: 5,
          attemptPauseMs: 5,
          ...options.request,
        },
        options.signal ?? never,
      );
      const tookMs = performance.now() - start;
      await destroyed;
      await trace.end();
      stopWatching();
      await reading;
      await trace.close();
      if (outcome === null) throw new Error("the job was handed over");
      const text = (await readFile(path, "utf8")).replace(/\x1b\[[0-9;]*[mK]/g, "");
      return { outcome, trace: text, states, logged, tookMs };
    },
    async close() {
      await executor.close(never);
      await rm(dir, { recursive: true, force: true });
    },
  };
}

function openShell(dir: string, buildsDir: string, shellName: ShellName): Executor {
  const deps = { log: recordingLog(), buildsDir, shell: shellName, scratch: dir, killGraceMs: 300 };
  return shell.create({}, executorDeps(dir, deps));
}
