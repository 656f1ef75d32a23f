import { existsSync, readdirSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { LocalCoordinator } from "../src/local/coordinator/coordinator.ts";
import type { GitSpec, JobSpec } from "../src/local/coordinator/jobs/job.ts";
import { type Figure, residentMb, type Scene, withRepository, withScene } from "./scene.ts";

const SECRETS = Array.from({ length: 4 }, (_, i) => ({
  key: `SECRET_${i}`,
  value: `s3cr3t-value-${i}-of-the-bench`,
  masked: true,
}));
const BATCH = 100;

/** What a runner holds open, or has left behind, while it has nothing to do. */
interface Holdings {
  readonly mb: number;
  readonly descriptors: number;
  readonly threads: number;
  /** Files in its state directory and in the system's temporary one. */
  readonly files: number;
  readonly children: number;
}

async function holdings({ runner: { pid }, dir }: Scene): Promise<Holdings> {
  // In this time, connections that were kept alive close, and free memory is given back.
  await wait(15_000);
  return {
    mb: residentMb(pid).now,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: readdirSync(`/proc/${pid}/task`).length,
    // The pipes that wait for the next scripts are not counted.
    files:
      readdirSync(join(dir, "state"), { recursive: true, encoding: "utf8" }).filter((name) => !/pipe-/.test(name))
        .length + readdirSync(tmpdir()).length,
    children: readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).length,
  };
}

/** Makes one of a day's jobs: they are short, failing, canceled or loud, with sources, artifacts and caches. */
function mixed(git: GitSpec, index: number): JobSpec {
  switch (index % 8) {
    case 0:
      return { script: ["echo before", "false"] };
    case 1:
      return { script: ["cat file-1"], git };
    case 2:
      return { script: ["yes 'a line with s3cr3t-value-1-of-the-bench in it' | head -c 2000000"], variables: SECRETS };
    case 3:
      return { script: ["mkdir -p out", "echo text > out/a", "echo text > out/b"], artifacts: { paths: ["out/"] } };
    case 4:
      return { script: ["mkdir -p kept", "date > kept/a"], cache: { key: "mixed", paths: ["kept/"] } };
    case 5:
      return { script: ["sleep 600 & sleep 600"], afterScript: ["echo after"], variables: SECRETS };
    default:
      return { script: ["echo hello"], projectName: `p${index % 5}`, projectId: 1 + (index % 5) };
  }
}

async function runBatch(coordinator: LocalCoordinator, git: GitSpec): Promise<void> {
  const jobs = Array.from({ length: BATCH }, (_, index) => coordinator.enqueue(mixed(git, index)));
  await Promise.all(
    jobs.map(async (job, index) => {
      if (index % 8 === 5) {
        await job.running({ timeoutMs: 300_000 });
        job.cancel();
      }
      await job.finished({ timeoutMs: 300_000 });
    }),
  );
}

/** Runs 2,000 mixed jobs after the first hundred and measures what has grown meanwhile. */
export async function endurance(): Promise<readonly Figure[]> {
  return await withRepository(2, async (git) => {
    return await withScene(
      { dialect: "gitlab", concurrent: 20, switches: { storeTrace: "count", longPollMs: 50_000 } },
      async (scene) => {
        await runBatch(scene.coordinator, git);
        const before = await holdings(scene);
        const batches = async (count: number): Promise<Holdings> => {
          for (let batch = 0; batch < count; batch++) await runBatch(scene.coordinator, git);
          return await holdings(scene);
        };
        const between = await batches(10);
        const after = await batches(10);
        const grown = (key: keyof Holdings, unit: string, target: number): Figure => ({
          name: `after 2,000 mixed jobs: ${key === "mb" ? "memory" : key} beyond the first hundred's ${Math.round(before[key])}`,
          value: after[key] - before[key],
          unit,
          target,
          bound: "at most",
        });
        return [
          grown("mb", "MB", 10),
          {
            name: "the second thousand's share of it",
            value: after.mb - between.mb,
            unit: "MB",
            target: 5,
            bound: "at most",
          },
          grown("descriptors", "", 0),
          grown("threads", "", 0),
          grown("files", "", 0),
          grown("children", "", 0),
        ];
      },
    );
  });
}

const PORT = 9252 + (process.pid % 1000);

/** Cancels one job at work; returns the seconds until all of its processes have ended. */
async function cancelOne({ coordinator, dir }: Scene, name: string): Promise<{ pickUp: number; cancel: number }> {
  const file = join(dir, name);
  const job = coordinator.enqueue({ script: [`echo $$ > ${file}; sleep 600`] });
  while (!existsSync(file) || readFileSync(file, "utf8") === "") await wait(20);
  const pid = readFileSync(file, "utf8").trim();
  const pickUp = ((job.pickedUpAt ?? 0) - job.enqueuedAt) / 1000;
  await wait(2000);
  const begin = performance.now();
  job.cancel();
  while (existsSync(`/proc/${pid}`)) await wait(10);
  const cancel = (performance.now() - begin) / 1000;
  await job.finished({ timeoutMs: 60_000 });
  return { pickUp, cancel };
}

/**
 * Ten jobs flood the trace, mask and pack; meanwhile an eleventh one is picked up and canceled, and metrics are asked
 * for.
 */
export async function fairness(): Promise<readonly Figure[]> {
  return await withScene(
    {
      dialect: "gitlab",
      concurrent: 12,
      switches: { storeTrace: "count", longPollMs: 50_000, bodyLimitBytes: 1e9 },
      global: `listen_address = "127.0.0.1:${PORT}"`,
      entry: "output_limit = 1000000\nrequest_concurrency = 2",
    },
    async (scene) => {
      const idle = await cancelOne(scene, "idle");
      const stop = join(scene.dir, "stop");
      const loud = `until [ -e ${stop} ]; do yes "a line with s3cr3t-value-2-of-the-bench in it" | head -c 4000000; done`;
      const packing = ["mkdir -p out", "yes 'text of a file that is packed' | head -c 100000000 > out/a"];
      const jobs = Array.from({ length: 10 }, (_, index) =>
        scene.coordinator.enqueue(
          index < 5
            ? { script: [loud], variables: SECRETS }
            : { script: packing, artifacts: { paths: ["out/"] }, cache: { key: `k${index}`, paths: ["out/"] } },
        ),
      );
      await Promise.all(jobs.map((job) => job.running({ timeoutMs: 60_000 })));
      let slowest = 0;
      let over = false;
      const scraping = (async () => {
        while (!over) {
          const begin = performance.now();
          await (await fetch(`http://127.0.0.1:${PORT}/metrics`)).text();
          slowest = Math.max(slowest, performance.now() - begin);
          await wait(20);
        }
      })();
      const busy = await cancelOne(scene, "busy");
      await writeFile(stop, "");
      await Promise.all(jobs.map((job) => job.finished({ timeoutMs: 300_000 })));
      over = true;
      await scraping;
      const row = (name: string, value: number): Figure => ({ name, value, unit: "s", target: 1, bound: "at most" });
      return [
        row("beside ten busy jobs: picked up later by", Math.max(0, busy.pickUp - idle.pickUp)),
        row("beside ten busy jobs: canceled later by", Math.max(0, busy.cancel - idle.cancel)),
        row("beside ten busy jobs: slowest answer of /metrics", slowest / 1000),
      ];
    },
  );
}
