import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { type LifeEntry, readLife } from "../../src/journal/live/life.ts";
import type { LocalJob } from "../../src/local/coordinator/jobs/job.ts";
import { crash, openDurableSite, steady } from "../support/durable-site.ts";
import type { Site } from "../support/site.ts";

const onLinux = process.platform === "linux" && process.geteuid?.() === 0;
const SECRET = "hush-4711-hush-4711";
/** A kill after each so many steps; a night may have one after each. */
const STRIDE = Number(process.env.ALLOY_TEST_STRIDE ?? 5);

/** What is kept of the only job there is; `null`: there is none, or nothing of it. */
function stepsNow({ stateDir }: Site): readonly LifeEntry[] | null {
  try {
    const [key = ""] = readdirSync(join(stateDir, "jobs"));
    // A job that was handed out is the coordinator's to give away again until this is written.
    if (readFileSync(join(stateDir, "jobs", key, "record")).length === 0) return null;
    const read = readLife(readFileSync(join(stateDir, "jobs", key, "life")));
    return "entries" in read ? read.entries : [];
  } catch {
    return null;
  }
}

/** The job's steps, as many as there were when it ended, or when there were `most`. */
async function follow(here: Site, job: LocalJob, most: number): Promise<readonly LifeEntry[]> {
  let last: readonly LifeEntry[] = [];
  while (last.length < most && job.finishedAt === undefined) {
    last = stepsNow(here) ?? last;
    await nextTurn();
  }
  return last;
}

describe.runIf(onLinux)("a job whose runner is killed at a step of its life", () => {
  for (const dialect of ["gitlab", "alloy"] as const) {
    test(`${dialect}: ends as if nothing had happened, whichever step that was`, { timeout: 600_000 }, async () => {
      const here = await openDurableSite({ dialect });
      const { coordinator, dir, stateDir } = here;
      const starts = (name: string): string | null =>
        existsSync(join(dir, name)) ? readFileSync(join(dir, name), "utf8") : null;
      const enqueue = (n: number): LocalJob =>
        coordinator.enqueue({
          name: "job",
          script: [
            `echo x >>${dir}/script-${n}; echo begun with $SECRET; seq 1 200`,
            "printf 'half of '; sleep 0.1; echo whole; echo $SECRET >result",
            "exit 3",
          ],
          afterScript: [`echo x >>${dir}/after-${n}; echo afterwards $CI_JOB_STATUS`],
          variables: [{ key: "SECRET", value: SECRET, masked: true, public: false }],
          artifacts: { paths: ["result"], when: "always" },
        });
      /** All that can be told of a job. */
      const told = (job: LocalJob, n: number) => ({
        status: job.status,
        exit: job.exitCode,
        reason: job.failureReason,
        trace: steady(job.trace).replace(/\b(script|after)-\d+/g, "$1"),
        // What was under way is sent again.
        hasArtifacts: job.artifacts.length > 0,
        starts: ["script", "after"].map((name) => starts(`${name}-${n}`)),
      });

      const undisturbed = enqueue(0);
      const steps = await follow(here, undisturbed, Number.POSITIVE_INFINITY);
      await undisturbed.finished();
      const expected = told(undisturbed, 0);
      expect(expected).toMatchObject({ status: "failed", exit: 3, hasArtifacts: true, starts: ["x\n", "x\n"] });
      expect(steps.length).toBeGreaterThan(20);

      for (let at = 1 + Math.floor(Math.random() * STRIDE); at <= steps.length; at += STRIDE) {
        const job = enqueue(at);
        const until = await follow(here, job, at);
        await crash(here);
        await here.start();
        await job.finished({ timeoutMs: 60_000 }).catch((error: unknown) => {
          throw new Error(`killed after ${JSON.stringify(until.at(-1))}, then: ${here.runner.stderr()}`, {
            cause: error,
          });
        });
        const where = `killed after ${until.length} steps, the last of them ${JSON.stringify(until.at(-1))}`;
        expect(told(job, at), where).toEqual(expected);
        expect(job.trace).not.toContain(SECRET);
        await expect.poll(() => readdirSync(join(stateDir, "jobs")), { timeout: 30_000 }).toEqual([]);
      }
    });
  }
});
