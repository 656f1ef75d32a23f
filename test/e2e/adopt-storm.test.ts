import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { MEMORY, runPlaces } from "../../executors/shell/places/run-rooms.ts";
import { openDurableSite } from "../support/durable-site.ts";
import { STORM_SWITCHES, type StormJob, storm, stormWork, told, undisturbed } from "../support/storm.ts";

const onLinux = process.platform === "linux" && process.geteuid?.() === 0;
const JOBS = 40;
const AT_ONCE = 8;

describe.runIf(onLinux)("a storm of jobs whose runner is killed again and again", () => {
  for (const dialect of ["gitlab", "alloy"] as const) {
    test(`${dialect}: each ends once, as its script made it`, { timeout: 500_000 }, async () => {
      const here = await openDurableSite({
        ...{ dialect, global: `concurrent = ${AT_ONCE}`, stopped: true },
        ...(dialect === "gitlab" ? STORM_SWITCHES : {}),
      });
      const { coordinator, dir, stateDir } = here;
      const counts = { theirs: dir, ours: dir };
      const all = Array.from(
        { length: JOBS },
        (_, n): StormJob => ({ n, counts, job: coordinator.enqueue(stormWork(n, counts)) }),
      );
      const { kills, lost, open, log } = await storm(
        here,
        all.map(({ job }) => job),
        { lifeMs: [150, 1650], limitMs: 90_000 },
      );
      expect(open, log.slice(-20_000)).toEqual([]);
      expect(kills).toBeGreaterThan(3);
      expect(lost.size).toBeLessThan(JOBS / 4);
      const whole = all.filter(({ job }) => !lost.has(job));
      expect(whole.map(told)).toEqual(whole.map(undisturbed));
      // What a kill has left of a job that had been reported goes with the next one.
      await here.start();
      const last = coordinator.enqueue({ script: ["true"] });
      await last.finished();
      await expect.poll(() => readdirSync(join(stateDir, "jobs")), { timeout: 30_000 }).toEqual([]);
      await here.runner.stop();
      for (const place of runPlaces(stateDir, MEMORY)) expect(existsSync(place) ? readdirSync(place) : []).toEqual([]);
    });
  }
});
