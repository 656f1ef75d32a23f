import { execFileSync, spawnSync } from "node:child_process";
import { createWriteStream, existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { program } from "../test/support/program.ts";
import { adoption } from "./adoption.ts";
import { durableScripts } from "./durable.ts";
import { endurance, fairness } from "./endurance.ts";
import { execBesidePeer } from "./exec.ts";
import { housekeeping } from "./gc.ts";
import { lineDelays, promptScene } from "./line-delays.ts";
import { looking } from "./looking.ts";
import { outbox, recovery } from "./outages.ts";
import { customJobs } from "./places/custom.ts";
import { dockerJobs } from "./places/docker.ts";
import { kubernetesJobs } from "./places/kubernetes.ts";
import { machines } from "./places/machines.ts";
import { pwshJobs } from "./places/pwsh.ts";
import { readyMachines } from "./places/ready-machines.ts";
import { virtualMachineJobs } from "./places/virtual-machines.ts";
import { cpuSeconds, type Figure, mean, median, residentMb, withRepository, withScene } from "./scene.ts";
import { artifacts, transfers } from "./transfers.ts";

type Measure = () => Promise<readonly Figure[]>;

/** 100 jobs whose script is `true`, ten at once: from the first being queued to the last result. */
async function trivialJobs(): Promise<readonly Figure[]> {
  return await withScene(
    { dialect: "alloy", concurrent: 10, entry: "request_concurrency = 1" },
    async ({ coordinator }) => {
      const first = coordinator.enqueue({ script: ["true"] });
      await first.reported();
      const begin = performance.now();
      const jobs = Array.from({ length: 100 }, () => coordinator.enqueue({ script: ["true"] }));
      await Promise.all(jobs.map((job) => job.reported({ timeoutMs: 120_000 })));
      const seconds = (performance.now() - begin) / 1000;
      return [
        { name: "100 trivial shell jobs, concurrent = 10", value: seconds, unit: "s", target: 3, bound: "at most" },
      ];
    },
  );
}

async function logLatency(): Promise<readonly Figure[]> {
  return await withScene(promptScene, async ({ coordinator }) => {
    const delays = await lineDelays(coordinator);
    return [
      {
        name: "line printed → line at the coordinator, mean",
        value: mean(delays),
        unit: "s",
        target: 0.25,
        bound: "at most",
      },
      {
        name: "line printed → line at the coordinator, max",
        value: Math.max(...delays),
        unit: "s",
        target: 1,
        bound: "at most",
      },
    ];
  });
}

/** 200 MB of log text through mask, spool and HTTP. */
async function throughput(): Promise<readonly Figure[]> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-bench-text-"));
  const file = join(dir, "text");
  const lines = Array.from(
    { length: 10_000 },
    (_, i) => `[${i}] compiling module number ${i * 7} of the project, all is well\n`,
  ).join("");
  const stream = createWriteStream(file);
  let size = 0;
  while (size < 200e6) {
    size += lines.length;
    if (!stream.write(lines)) await new Promise<void>((resolve) => stream.once("drain", () => resolve()));
  }
  await new Promise<void>((resolve) => stream.end(() => resolve()));
  try {
    return await withScene(
      { dialect: "gitlab", switches: { storeTrace: "count" }, entry: "output_limit = 1000000" },
      async ({ coordinator, runner }) => {
        const variables = Array.from({ length: 8 }, (_, i) => ({
          key: `SECRET_${i}`,
          value: `s3cr3t-value-${i}-${"x".repeat(i * 4)}`,
          masked: true,
        }));
        // The first job pays for reading the file, and for code that never ran before.
        await coordinator.enqueue({ script: [`cat ${file}`], variables }).reported({ timeoutMs: 120_000 });
        const job = coordinator.enqueue({ script: [`cat ${file}`], variables });
        const update = await job.reported({ timeoutMs: 120_000 });
        const seconds = (update.at - (job.pickedUpAt ?? 0)) / 1000;
        return [
          {
            name: "output of one job to the coordinator",
            value: size / 1e6 / seconds,
            unit: "MB/s",
            target: 100,
            bound: "at least",
          },
          {
            name: "memory meanwhile, peak",
            value: residentMb(runner.pid).peak,
            unit: "MB",
            target: 150,
            bound: "at most",
          },
        ];
      },
    );
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Jobs that come to an idle runner at odd moments. */
async function pickUp(): Promise<readonly Figure[]> {
  const measure = async (dialect: "alloy" | "gitlab", jobs: number): Promise<number> =>
    await withScene(
      { dialect, switches: dialect === "gitlab" ? { longPollMs: 50_000 } : {} },
      async ({ coordinator }) => {
        const waits: number[] = [];
        for (let i = 0; i < jobs; i++) {
          // By then the quick requests after a finished job are over.
          await wait(2500 + ((i * 397) % 1200));
          const job = coordinator.enqueue({ script: ["true"] });
          await job.reported();
          waits.push(((job.pickedUpAt ?? 0) - job.enqueuedAt) / 1000);
        }
        return mean(waits);
      },
    );
  return [
    {
      name: "queued → picked up while idle, AlloyCI, mean",
      value: await measure("alloy", 20),
      unit: "s",
      target: 0.7,
      bound: "at most",
    },
    {
      name: "queued → picked up while idle, long polling, mean",
      value: await measure("gitlab", 5),
      unit: "s",
      target: 0.05,
      bound: "at most",
    },
  ];
}

/** A script with children, canceled in a quiet moment. */
async function cancel(): Promise<readonly Figure[]> {
  return await withScene({ dialect: "alloy" }, async ({ coordinator, dir }) => {
    const times: number[] = [];
    for (let i = 0; i < 3; i++) {
      const file = join(dir, `pid-${i}`);
      const job = coordinator.enqueue({ script: [`sh -c 'echo $$ > ${file}; sleep 600' & sleep 600`] });
      while (!existsSync(file)) await wait(50);
      await wait(3000 + i * 1300);
      const pid = execFileSync("cat", [file], { encoding: "utf8" }).trim();
      const begin = performance.now();
      job.cancel();
      while (existsSync(`/proc/${pid}`)) await wait(20);
      times.push((performance.now() - begin) / 1000);
      await job.reported();
    }
    return [
      {
        name: "cancel at the coordinator → last process gone, max",
        value: Math.max(...times),
        unit: "s",
        target: 6,
        bound: "at most",
      },
    ];
  });
}

/** One `git fetch` in a warm working copy, then `true`. */
async function gitJob(): Promise<readonly Figure[]> {
  return await withRepository(50, async (git) => {
    return await withScene({ dialect: "alloy" }, async ({ coordinator }) => {
      const times: number[] = [];
      for (let i = 0; i < 21; i++) {
        const job = coordinator.enqueue({ script: ["true"], git });
        const update = await job.reported();
        if (update.state !== "success") throw new Error(`the job failed:\n${job.trace}`);
        if (i > 0) times.push(update.at - (job.pickedUpAt ?? 0));
      }
      return [
        {
          name: "job of one git fetch and `true`, received → success, median",
          value: median(times),
          unit: "ms",
          target: 90,
          bound: "at most",
        },
      ];
    });
  });
}

/**
 * Empties the page cache (root only), as after a start of the machine. Of a binary that was just written the kernel
 * maps much more than is used (3 MB here), which says nothing about the program.
 */
async function forgetFiles(): Promise<void> {
  execFileSync("sync");
  await writeFile("/proc/sys/vm/drop_caches", "1").catch(() => {});
}

/** Entries that ask an idle coordinator, and what they hold in memory. */
async function idle(): Promise<readonly Figure[]> {
  const measure = async (entries: number): Promise<{ cpu: number; mb: number }> => {
    await forgetFiles();
    return await withScene({ dialect: "alloy", entries }, async ({ runner }) => {
      await wait(8000);
      const before = cpuSeconds(runner.pid);
      await wait(20_000);
      return { cpu: ((cpuSeconds(runner.pid) - before) / 20) * 100, mb: residentMb(runner.pid).now };
    });
  };
  const one = await measure(1);
  const hundred = await measure(100);
  return [
    {
      name: "100 entries polling an idle coordinator",
      value: hundred.cpu,
      unit: "% of a core",
      target: 5,
      bound: "at most",
    },
    { name: "resident memory, 1 entry", value: one.mb, unit: "MB", target: 65, bound: "at most" },
    { name: "resident memory, 100 entries", value: hundred.mb, unit: "MB", target: 75, bound: "at most" },
  ];
}

/** Fifty jobs at work at the same time. */
async function busyMemory(): Promise<readonly Figure[]> {
  return await withScene({ dialect: "alloy", concurrent: 50 }, async ({ coordinator, runner }) => {
    const jobs = Array.from({ length: 50 }, () => coordinator.enqueue({ script: ["echo started", "sleep 15"] }));
    await Promise.all(jobs.map((job) => job.traceContains("started")));
    await wait(2000);
    const { now } = residentMb(runner.pid);
    await Promise.all(jobs.map((job) => job.reported({ timeoutMs: 60_000 })));
    return [{ name: "resident memory, 50 jobs", value: now, unit: "MB", target: 110, bound: "at most" }];
  });
}

/** Measures the whole process, for as long as a person waits for it. */
async function startUp(): Promise<readonly Figure[]> {
  const [command, ...args] = program();
  const times: number[] = [];
  for (let i = 0; i < 31; i++) {
    const begin = performance.now();
    spawnSync(command, [...args, "--version"], { stdio: "ignore" });
    times.push(performance.now() - begin);
  }
  return [{ name: "--version, median", value: median(times), unit: "ms", target: 25, bound: "at most" }];
}

export const measures: Readonly<Record<string, Measure>> = {
  startUp,
  trivialJobs,
  gitJob,
  logLatency,
  pickUp,
  cancel,
  output: throughput,
  artifacts,
  transfers,
  idle,
  busyMemory,
  looking,
  housekeeping,
  recovery,
  outbox,
  docker: dockerJobs,
  kubernetes: kubernetesJobs,
  pwsh: pwshJobs,
  custom: customJobs,
  durable: durableScripts,
  adoption,
  machines: async () => [...(await machines()), ...(await readyMachines())],
  exec: execBesidePeer,
  virtualMachines: virtualMachineJobs,
  endurance,
  fairness,
};
