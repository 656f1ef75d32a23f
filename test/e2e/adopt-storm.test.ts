import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { MEMORY, runPlaces } from "../../executors/shell/places/run-rooms.ts";
import type { LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { AWAY, openDurableSite } from "../support/durable-site.ts";
import { start } from "../support/program.ts";

const onLinux = process.platform === "linux" && process.geteuid?.() === 0;
const SECRET = "hush-4711-hush-4711";
const JOBS = 40;
const AT_ONCE = 8;

function textOf(file: string): string | null {
  return existsSync(file) ? readFileSync(file, "utf8") : null;
}

describe.runIf(onLinux)("a storm of jobs whose runner is killed again and again", () => {
  for (const dialect of ["gitlab", "alloy"] as const) {
    test(`${dialect}: each ends once, as its script made it`, { timeout: 280_000 }, async () => {
      const here = await openDurableSite({ dialect, global: `concurrent = ${AT_ONCE}`, stopped: true });
      const { coordinator, dir, configFile, workDir, stateDir } = here;
      const lines = (n: number): string => `seq 1 ${200 + n * 10}`;
      const jobs = Array.from({ length: JOBS }, (_, n) =>
        coordinator.enqueue({
          name: `job-${n}`,
          script: [
            `echo x >>${dir}/job-${n}; echo begun with $SECRET`,
            `sleep 0.${n % 10}; ${lines(n)}; printf 'half of '; sleep 0.${(n * 7) % 10}; echo whole; echo $SECRET >result`,
            `exit ${n % 3}`,
          ],
          afterScript: [`echo x >>${dir}/after-${n}; echo afterwards $CI_JOB_STATUS`],
          variables: [{ key: "SECRET", value: SECRET, masked: true, public: false }],
          artifacts: { paths: ["result"], when: "always" },
        }),
      );
      // Of what was handed out to a runner that died before it had kept it nobody knows but the coordinator.
      const lost = new Set<LocalJob>();
      const findLost = (): void => {
        const kept = readdirSync(join(stateDir, "jobs"));
        for (const job of jobs) {
          const isOpen = job.pickedUpAt !== undefined && job.status === "running";
          if (isOpen && !kept.some((name) => name.includes(`-${job.id}-`))) lost.add(job);
        }
      };
      const isOver = (job: LocalJob): boolean =>
        lost.has(job) || (job.status !== "running" && job.status !== "pending");
      let kills = 0;
      for (const end = Date.now() + 200_000; Date.now() < end; kills++) {
        const running = start(["run", "--config", configFile, "--working-directory", workDir], { home: dir });
        for (const next = Date.now() + 150 + Math.random() * 1500; Date.now() < next && !jobs.every(isOver); )
          await wait(20);
        running.child.kill("SIGKILL");
        await running.exit;
        findLost();
        if (jobs.every(isOver)) break;
      }
      expect(kills).toBeGreaterThan(3);
      expect(lost.size).toBeLessThan(JOBS / 4);
      const whole = [...jobs.entries()].filter(([, job]) => !lost.has(job));
      const told = whole.map(([n, job]) => {
        const trace = job.trace.replace(AWAY, "");
        const numbers = [...trace.matchAll(/^(\d+)$/gm)].map(([, number]) => Number(number));
        return {
          name: job.name,
          exit: job.status === "success" ? 0 : job.exitCode,
          reason: job.failureReason,
          runs: ["job", "after"].map((name) => textOf(join(dir, `${name}-${n}`))),
          numbers: numbers.every((number, index) => number === index + 1) ? numbers.length : numbers,
          once: ["begun with [MASKED]", "half of whole", "afterwards"].map(
            (text) => trace.split(`\n${text}`).length - 1,
          ),
          secret: trace.includes(SECRET),
          artifacts: job.artifacts.length > 0,
        };
      });
      expect(told).toEqual(
        whole.map(([n, job]) => ({
          name: job.name,
          exit: n % 3,
          reason: n % 3 === 0 ? undefined : "script_failure",
          runs: ["x\n", "x\n"],
          numbers: 200 + n * 10,
          once: [1, 1, 1],
          secret: false,
          artifacts: true,
        })),
      );
      // What a kill has left of a job that had been reported goes with the next one.
      await here.start();
      const last = coordinator.enqueue({ script: ["true"] });
      await last.finished();
      await expect.poll(() => readdirSync(join(stateDir, "jobs"))).toEqual([]);
      await here.runner.stop();
      for (const place of runPlaces(stateDir, MEMORY)) expect(existsSync(place) ? readdirSync(place) : []).toEqual([]);
    });
  }
});
