import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import type { LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { imageName, testEngine } from "../../test/support/docker.ts";
import { type Figure, median, withScene } from "../scene.ts";

const script = join(import.meta.dirname, "../../scripts/test-engine.sh");
const run = promisify(execFile);

/** Jobs of `true` in containers, with local images: one after the other, 8 of them 4 at a time, 10 at once. */
export async function dockerJobs(): Promise<readonly Figure[]> {
  const running = await testEngine("docker").catch(() => null);
  if (running === null) await run("bash", [script, "start", "docker"]);
  try {
    const engine = running ?? (await testEngine("docker"));
    if (engine === null) throw new Error("no container engine answers");
    await engine.images("git");
    const entry = `[runners.docker]\nhost = "${engine.host}"\nimage = "${imageName("git")}"\nhelper_image = "${imageName("git")}"\npull_policy = "never"\n`;
    const figures = [...(await measure(4, entry)), ...(await measure(10, entry))];
    return figures;
  } finally {
    if (running === null) await run("bash", [script, "stop", "docker"]);
  }
}

async function measure(concurrent: number, entry: string): Promise<Figure[]> {
  return await withScene(
    { dialect: "gitlab", executor: "docker", concurrent, entry: `request_concurrency = ${concurrent}\n${entry}` },
    async ({ coordinator }) => {
      const all = async (count: number): Promise<{ seconds: number; each: number[] }> => {
        const begin = performance.now();
        const jobs = Array.from({ length: count }, () => coordinator.enqueue({ script: ["true"] }));
        const each = await Promise.all(jobs.map(toSuccess));
        return { seconds: (performance.now() - begin) / 1000, each };
      };
      await all(1); // the first job connects to the engine
      if (concurrent > 4) {
        const { seconds } = await all(10);
        return [
          { name: "10 docker jobs of `true`, all at once", value: seconds, unit: "s", target: 5, bound: "at most" },
        ];
      }
      const alone: number[] = [];
      for (let round = 0; round < 5; round++) alone.push(...(await all(1)).each);
      const { seconds } = await all(8);
      return [
        {
          name: "docker job of `true`, received → success, median",
          value: median(alone),
          unit: "s",
          target: 1.5,
          bound: "at most",
        },
        { name: "8 docker jobs of `true`, 4 at a time", value: seconds, unit: "s", target: 4, bound: "at most" },
      ];
    },
  );
}

/** Seconds from the pick-up to the report. */
async function toSuccess(job: LocalJob): Promise<number> {
  const update = await job.reported({ timeoutMs: 120_000 });
  if (update.state !== "success") throw new Error(`the job failed:\n${job.trace}`);
  return (update.at - (job.pickedUpAt ?? 0)) / 1000;
}
