import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { AWAY, openDurableSite, steady } from "../support/durable-site.ts";

const onLinux = process.platform === "linux" && process.geteuid?.() === 0;
const SECRET = "hush-4711-hush-4711";
const JOBS = 4;
const HAND_OVERS = 5;

describe.runIf(onLinux)("jobs of a runner that hands over again and again", () => {
  test("go on, each once, and their traces are what they would have been", { timeout: 120_000 }, async () => {
    const here = await openDurableSite({ dialect: "gitlab", global: `concurrent = ${JOBS + 1}` });
    const { coordinator, dir } = here;
    const over = join(dir, "over");
    const work = (name: string) => ({
      script: [
        `echo x >>${dir}/${name}`,
        // Pieces of lines and of secrets, for as long as it is handed over, and at least so many.
        `n=0; until [ -e ${over} ] && [ $n -ge 3000 ]; do printf "$n hush-4711-"; [ $((n % 100)) != 7 ] || sleep 0.05; echo "hush-4711 ünd"; n=$((n + 1)); done; echo $n >${dir}/${name}.lines`,
        "exit 3",
      ],
      afterScript: ["echo afterwards $CI_JOB_STATUS"],
      variables: [{ key: "SECRET", value: SECRET, masked: true, public: false }],
    });
    const jobs = Array.from({ length: JOBS }, (_, index) => coordinator.enqueue(work(`job-${index}`)));
    for (const job of jobs) await job.traceContains("9 [MASKED]");
    for (let count = 0; count < HAND_OVERS; count++) {
      const began = performance.now();
      here.runner.child.kill("SIGUSR2");
      expect(await here.runner.exit).toEqual({ code: 0, signal: null });
      expect(performance.now() - began).toBeLessThan(10_000);
      await here.start();
      await here.runner.seen(/a job of an earlier process goes on/);
    }
    writeFileSync(over, "");
    for (const [index, job] of jobs.entries()) {
      await job.finished();
      const lines = Number(readFileSync(join(dir, `job-${index}.lines`), "utf8"));
      const printed = Array.from({ length: lines }, (_, n) => `${n} [MASKED] ünd\n`).join("");
      expect(steady(job.trace)).toContain(`\n${printed}`);
      expect(job.trace).not.toContain(SECRET);
      // Whoever was handed over again at once had no time to say so.
      const said = job.trace.match(AWAY)?.length ?? 0;
      expect(said).toBeGreaterThan(0);
      expect(said).toBeLessThanOrEqual(HAND_OVERS);
      expect(job.trace).toContain("\nafterwards failed\n");
      expect([job.status, job.exitCode]).toEqual(["failed", 3]);
      expect(readFileSync(join(dir, `job-${index}`), "utf8")).toBe("x\n");
    }
  });
});
