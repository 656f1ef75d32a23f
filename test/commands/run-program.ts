/**
 * `runCommand` as a program of its own, for signals and exit statuses. Its configuration is a JSON file, its jobs do what
 * their id says, and each thing that happens is a line on stdout.
 */
import { readFile } from "node:fs/promises";
import { setTimeout as wait } from "node:timers/promises";
import { createBoard } from "../../src/board/board.ts";
import type { ConfigChanges } from "../../src/commands/run/deps.ts";
import { runCommand } from "../../src/commands/run/run.ts";
import { stopHandsOver } from "../../src/commands/run/signals.ts";
import { CommandError, ConfigError } from "../../src/errors.ts";
import type { HandleJob } from "../../src/job/life/received.ts";
import { createLog, streamOutput } from "../../src/log.ts";
import { createMetrics } from "../../src/metrics/metrics.ts";
import { openNotifier } from "../../src/notify.ts";
import { configOf, connectTo, entryOf, executorOf, quickTiming } from "../poll/setting.ts";

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const [configFile = "", workingDirectory, slow] = process.argv.slice(2);

const log = createLog({ level: "info", format: "text", journal: true, output: streamOutput(process.stderr, String) });
const metrics = createMetrics({ version: "test" });

async function loadConfig(file: string) {
  if (slow === "slow") await wait(500);
  const text = await readFile(file, "utf8").catch((cause) => {
    throw new ConfigError(`${file}: cannot be read`, { cause });
  });
  if (!text.startsWith("{")) throw new ConfigError(`${file}:1: concurrent: expected a number`);
  const { url, tokens = [], ...more } = JSON.parse(text);
  return configOf(
    tokens.map((token: string) => entryOf(new URL(url), token)),
    { file, ...more },
  );
}

function watchConfig(file: string, signal: AbortSignal): ConfigChanges {
  let asked = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => asked.resolve());
  return {
    reload: () => asked.resolve(),
    async *[Symbol.asyncIterator]() {
      for (;;) {
        await asked.promise;
        if (signal.aborted) return;
        asked = Promise.withResolvers<void>();
        yield await loadConfig(file).then(
          (config) => ({ config }),
          (error) => ({ error }),
        );
      }
    },
  };
}

const handleJob: HandleJob = async ({ job, signal, handOver, board }) => {
  say(`started ${job.id}`);
  if (job.id === "durable" && handOver !== undefined) {
    board.outlives();
    await wait(60_000, undefined, { signal: AbortSignal.any([signal, handOver]) }).catch(() => {});
    if (!signal.aborted) {
      say("left durable");
      return { outcome: null, delivered: Promise.resolve("kept") };
    }
  }
  if (job.id === "stray") {
    setImmediate(() => {
      throw new Error("stray exception");
    });
    void Promise.reject(new Error("stray rejection"));
  }
  const deaf = new AbortController();
  await wait(job.id === "short" ? 300 : 60_000, undefined, { signal: job.id === "deaf" ? deaf.signal : signal }).catch(
    () => {},
  );
  const { reason } = signal;
  say(`ended ${job.id} ${signal.aborted ? (reason.why ?? reason.name) : "by itself"}`);
  return { outcome: { result: "success" }, delivered: Promise.resolve("delivered") };
};

try {
  const status = await runCommand(
    {
      config: configFile,
      workingDirectory: workingDirectory === "" ? undefined : workingDirectory,
      syslog: false,
      stopHandsOver: stopHandsOver(process.env),
      listenAddress: undefined,
      logLevel: undefined,
      logFormat: undefined,
    },
    {
      version: "test",
      log,
      metrics,
      board: createBoard(),
      notifier: openNotifier({ env: process.env, pid: process.pid, log }),
      loadConfig,
      watchConfig,
      openServices: async () => {
        say(`opened in ${process.cwd()}`);
        return {
          handleJob,
          openCoordinator: connectTo,
          openExecutor: () => executorOf(),
          hasRoom: async () => true,
          disk: () => ({ freeBytes: undefined, minFreeBytes: 0 }),
          isPending: () => false,
          close: async () => say("closed"),
        };
      },
      timing: quickTiming,
    },
  );
  process.exit(status);
} catch (error) {
  if (!(error instanceof CommandError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(error.exitCode);
}
