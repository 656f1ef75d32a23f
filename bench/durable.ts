import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import shell from "../executors/shell/index.ts";
import type { Environment } from "../src/executor/environment.ts";
import type { Executor } from "../src/executor/executor.ts";
import { never } from "../src/time.ts";
import { openDockerStand } from "../test/executors/docker-stand.ts";
import { openStand } from "../test/executors/ssh-stand.ts";
import { testEngine } from "../test/support/docker.ts";
import { executorDeps } from "../test/support/executor-deps.ts";
import { Sink, sampleRequest, scriptOf, source } from "../test/support/executor-kit.ts";
import { sshdMissing } from "../test/support/sshd.ts";
import { type Figure, mean, median, p95, withScene } from "./scene.ts";

/** Both ways of running a script, measured in turn, so that what else the machine does meets both. */
const WAYS = [false, true] as const;
type Ways<T> = readonly [attached: T, durable: T];
type Opener = (durable: boolean) => Executor;

const ROUNDS = 60;
const AT_ONCE = 10;
const PIPE_BYTES = 200_000_000;

async function withBoth<T>(open: Opener, body: (environments: Ways<Environment>) => Promise<T>): Promise<T> {
  const executors = WAYS.map(open);
  try {
    const [attached, durable] = await Promise.all(
      executors.map(async (executor) => await executor.prepare(sampleRequest(), new Sink(), never)),
    );
    if (attached === undefined || durable === undefined) throw new Error("two were made");
    try {
      return await body([attached, durable]);
    } finally {
      await Promise.all([attached.destroy(never), durable.destroy(never)]);
    }
  } finally {
    for (const executor of executors) await executor.close(never);
  }
}

async function withBothHere<T>(body: (environments: Ways<Environment>) => Promise<T>): Promise<T> {
  const dir = mkdtempSync(join(tmpdir(), "alloy-bench-durable-"));
  mkdirSync(join(dir, "scratch"), { mode: 0o700 });
  try {
    return await withBoth((durable) => shell.create({}, executorDeps(dir, { durable })), body);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** On a host that is this machine, reached by its loopback. */
async function withBothOverSsh<T>(body: (environments: Ways<Environment>) => Promise<T>): Promise<T> {
  const stand = await openStand();
  try {
    return await withBoth((durable) => stand.open({ durable }), body);
  } finally {
    await stand.close();
  }
}

async function run(environment: Environment, text: string, output: Writable = new Sink()): Promise<void> {
  const { code } = await environment.run(scriptOf(environment, source(text)), output, never);
  if (code !== 0) throw new Error(`the script ended with ${code}`);
}

async function msOf(body: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await body();
  return performance.now() - begin;
}

/** Milliseconds of a script that does nothing, so many at a time. */
async function scripts(environments: Ways<Environment>, atOnce: number): Promise<Ways<number>> {
  const times: Ways<number[]> = [[], []];
  for (let round = -3; round < ROUNDS / atOnce ** 0.5; round++) {
    for (const [way, environment] of environments.entries()) {
      const ms = await msOf(() => Promise.all(Array.from({ length: atOnce }, () => run(environment, "echo hello"))));
      if (round >= 0) times[way === 0 ? 0 : 1].push(ms / atOnce);
    }
  }
  return [median(times[0]), median(times[1])];
}

/** Milliseconds from printing a line until it is here. */
async function lineDelays(environment: Environment): Promise<number[]> {
  const delays: number[] = [];
  const output = new Writable({
    write(chunk: Buffer, _encoding, done) {
      const now = performance.timeOrigin + performance.now();
      for (const [, at] of chunk.toString().matchAll(/^at (\d+\.\d+)$/gm)) delays.push(now - Number(at) * 1000);
      done();
    },
  });
  await run(environment, 'for i in $(seq 1 200); do echo "at $EPOCHREALTIME"; sleep 0.01; done', output);
  return delays;
}

/** What is taken in MB/s, and this process's own seconds of processor time. */
async function throughput(environment: Environment, text: string): Promise<{ rate: number; cpu: number }> {
  let bytes = 0;
  const output = new Writable({
    write(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      done();
    },
  });
  const before = process.cpuUsage();
  const ms = await msOf(() => run(environment, text, output));
  const { user, system } = process.cpuUsage(before);
  return { rate: bytes / 1000 / ms, cpu: (user + system) / 1e6 };
}

/** Proportional memory of what runs for a script besides it, in MB, where ten run: what all share counts as one tenth. */
async function carriedMb(environment: Environment): Promise<number> {
  const stop = new AbortController();
  const scripts = Array.from({ length: AT_ONCE }, () => {
    const output = new Sink();
    const ended = environment.run(scriptOf(environment, source("echo of $PPID; sleep 600")), output, stop.signal);
    ended.catch(() => {});
    return { output, ended };
  });
  const attendants = await Promise.all(scripts.map(async ({ output }) => (await output.until(/of (\d+)\n/))[1] ?? ""));
  const pids = execFileSync("ps", ["-o", "pid=", "-s", attendants.join(",")], { encoding: "utf8" })
    .trim()
    .split(/\s+/);
  const sizes = pids.map((pid) =>
    Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1]),
  );
  stop.abort(new Error("measured"));
  await Promise.allSettled(scripts.map(({ ended }) => ended));
  return sizes.reduce((sum, kib) => sum + kib, 0) / 1024 / AT_ONCE;
}

/** A runner with `/run` in memory, as it is on most machines: there are its key and the files of its scripts. */
const IN_MEMORY = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"];

/** Seconds for 100 jobs, ten at once, on the built runner. */
async function hundredJobs(durable: boolean): Promise<number> {
  return await withScene(
    { dialect: "alloy", concurrent: AT_ONCE, global: `durable = ${durable}`, under: IN_MEMORY },
    async ({ coordinator }) => {
      await coordinator.enqueue({ script: ["true"] }).reported();
      const ms = await msOf(async () => {
        const jobs = Array.from({ length: 100 }, () => coordinator.enqueue({ script: ["true"] }));
        await Promise.all(jobs.map((job) => job.reported({ timeoutMs: 120_000 })));
      });
      return ms / 1000;
    },
  );
}

const atMost = (name: string, value: number, unit: string, target: number): Figure => ({
  ...{ name, value, unit, target },
  bound: "at most",
});
const atLeast = (name: string, value: number, target: number): Figure => ({
  ...{ name, value, target },
  unit: "MB/s",
  bound: "at least",
});

const BLOCKS = `head -c ${PIPE_BYTES} /dev/zero`;

async function localFigures(environments: Ways<Environment>): Promise<Figure[]> {
  const [attached, durable] = environments;
  const [one, oneDurable] = await scripts(environments, 1);
  const [ten, tenDurable] = await scripts(environments, AT_ONCE);
  const quiet = await lineDelays(attached);
  const delays = await lineDelays(durable);
  const plain = await throughput(attached, BLOCKS);
  const pieces = await throughput(durable, BLOCKS);
  return [
    atMost(`script below an attendant, over ${one.toFixed(1)} ms without`, oneDurable - one, "ms", 5),
    atMost(`the same, ten at a time, over ${ten.toFixed(1)} ms`, tenDurable - ten, "ms", 3),
    atMost(`line printed → reader, mean; ${mean(quiet).toFixed(1)} ms without`, mean(delays), "ms", 1.5),
    atMost("the same, max", Math.max(...delays), "ms", 20),
    atLeast(`200 MB pipe → reader; ${plain.rate.toFixed(0)} MB/s without`, pieces.rate, 400),
    atMost(`reader's processor time for them; ${plain.cpu.toFixed(2)} s without`, pieces.cpu, "s", 0.25),
    atMost("memory outside the runner, per script of ten that run", await carriedMb(durable), "MB", 0.5),
  ];
}

/** In containers of an engine here. */
async function withBothInContainers<T>(body: (environments: Ways<Environment>) => Promise<T>): Promise<T | null> {
  const engine = await testEngine("docker").catch(() => null);
  if (engine === null) return null;
  await engine.images("git");
  const stand = openDockerStand(engine);
  try {
    return await withBoth((durable) => stand.open({}, { durable }), body);
  } finally {
    await stand.close();
  }
}

async function containerFigures(environments: Ways<Environment>): Promise<Figure[]> {
  const [attached, durable] = environments;
  const [one, oneDurable] = await scripts(environments, 1);
  const plain = (await throughput(attached, BLOCKS)).rate;
  const pieces = (await throughput(durable, BLOCKS)).rate;
  return [
    atMost(`script in a container that outlives the runner, over ${one.toFixed(1)} ms`, oneDurable - one, "ms", 35),
    atLeast(`200 MB out of a container to the reader; ${plain.toFixed(0)} MB/s without`, pieces, 45),
  ];
}

async function farFigures(environments: Ways<Environment>): Promise<Figure[]> {
  const [attached, durable] = environments;
  const [one, oneDurable] = await scripts(environments, 1);
  const quiet = await lineDelays(attached);
  const delays = await lineDelays(durable);
  const rates: Ways<number[]> = [[], []];
  for (let round = 0; round < 3; round++) {
    for (const [way, environment] of environments.entries())
      rates[way === 0 ? 0 : 1].push((await throughput(environment, BLOCKS)).rate);
  }
  const [plain, pieces] = [median(rates[0]), median(rates[1])];
  return [
    atMost(`script over ssh that outlives its connection, over ${one.toFixed(1)} ms`, oneDurable - one, "ms", 25),
    atMost(`line printed there → reader, p95; ${p95(quiet).toFixed(1)} ms without`, p95(delays), "ms", 50),
    atLeast(`200 MB over ssh to the reader; ${plain.toFixed(0)} MB/s without`, pieces, 100),
  ];
}

export async function durableScripts(): Promise<readonly Figure[]> {
  const figures = await withBothHere(localFigures);
  if (sshdMissing() === null) figures.push(...(await withBothOverSsh(farFigures)));
  figures.push(...((await withBothInContainers(containerFigures)) ?? []));
  const seconds: Ways<number[]> = [[], []];
  for (let round = 0; round < 5; round++) {
    for (const durable of WAYS) seconds[durable ? 1 : 0].push(await hundredJobs(durable));
  }
  const [without, below] = [median(seconds[0]), median(seconds[1])];
  const name = `100 trivial shell jobs below attendants, over ${without.toFixed(2)} s without`;
  return [...figures, { name, value: below / without, unit: "times", target: 1.2, bound: "at most" }];
}
