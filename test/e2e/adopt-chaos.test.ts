import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { AWAY, crash, openDurableSite, steady } from "../support/durable-site.ts";
import { start } from "../support/program.ts";

const onLinux = process.platform === "linux" && process.geteuid?.() === 0;
const SECRET = "hush-4711-hush-4711";
/** A job that is gone on with more often within 10 min is ended. */
const KILLS = 18;
const JOBS = 3;
const MANY = 50;

describe.runIf(onLinux)("jobs whose runner is killed", () => {
  test("again and again, at any moment of its start, end as if nothing had happened", {
    timeout: 180_000,
  }, async () => {
    const here = await openDurableSite({ dialect: "gitlab", global: `concurrent = ${JOBS + 1}` });
    const { coordinator, dir, configFile, workDir } = here;
    const over = join(dir, "over");
    const work = (name: string) => ({
      script: [
        `echo x >>${dir}/${name}`,
        // Pieces of lines and of secrets, for as long as the runner is killed, and at least so many.
        `n=0; until [ -e ${over} ] && [ $n -ge 3000 ]; do printf "$n hush-4711-"; [ $((n % 100)) != 7 ] || sleep 0.05; echo "hush-4711 ünd"; n=$((n + 1)); done; echo $n >${dir}/${name}.lines`,
        "exit 3",
      ],
      afterScript: ["echo afterwards $CI_JOB_STATUS"],
      variables: [{ key: "SECRET", value: SECRET, masked: true, public: false }],
    });
    const jobs = Array.from({ length: JOBS }, (_, index) => coordinator.enqueue(work(`job-${index}`)));
    for (const job of jobs) await job.traceContains("9 [MASKED]");
    await crash(here);
    for (let count = 1; count < KILLS; count++) {
      const words = ["run", "--config", configFile, "--working-directory", workDir];
      const running = start(words, { home: dir });
      await wait(50 + Math.random() * 450);
      running.child.kill("SIGKILL");
      await running.exit;
    }
    await here.start();
    writeFileSync(over, "");
    for (const [index, job] of jobs.entries()) {
      await job.finished({ timeoutMs: 60_000 });
      const lines = Number(readFileSync(join(dir, `job-${index}.lines`), "utf8"));
      const printed = Array.from({ length: lines }, (_, n) => `${n} [MASKED] ünd\n`).join("");
      expect(steady(job.trace)).toContain(`\n${printed}`);
      expect(job.trace).not.toContain(SECRET);
      const said = job.trace.match(AWAY)?.length ?? 0;
      expect(said).toBeGreaterThan(0);
      expect(said).toBeLessThanOrEqual(KILLS);
      expect(job.trace).toContain("\nafterwards failed\n");
      expect([job.status, job.exitCode]).toEqual(["failed", 3]);
      expect(readFileSync(join(dir, `job-${index}`), "utf8")).toBe("x\n");
    }
  });

  test("fifty of them are gone on with at once, and left again while they are", { timeout: 180_000 }, async () => {
    const here = await openDurableSite({ dialect: "gitlab", global: `concurrent = ${MANY + 1}` });
    const { coordinator, dir } = here;
    const go = join(dir, "go");
    const script = [`echo x >>${dir}/$CI_JOB_NAME; echo begun`, `until [ -e ${go} ]; do sleep 1; done; echo over`];
    const jobs = Array.from({ length: MANY }, (_, n) =>
      coordinator.enqueue({ name: `job-${n}`, script, variables: { GIT_STRATEGY: "none" } }),
    );
    for (const job of jobs) await job.traceContains("begun", { timeoutMs: 60_000 });
    await crash(here);

    // Profiles are asked before a job can be gone on with.
    const profile = join(dir, ".profile");
    writeFileSync(profile, "sleep 14\n");
    await here.start();
    await here.runner.seen(/job found running; it goes on/);
    const toldAt = performance.now();
    here.runner.child.kill("SIGUSR2");
    expect(await here.runner.exit).toEqual({ code: 0, signal: null });
    expect(performance.now() - toldAt).toBeLessThan(10_000);
    rmSync(profile);

    await here.start();
    here.runner.child.kill("SIGUSR2");
    expect(await here.runner.exit).toEqual({ code: 0, signal: null });

    await here.start();
    await expect
      .poll(() => here.runner.stderr().match(/a job of an earlier process goes on/g)?.length, { timeout: 60_000 })
      .toBe(MANY);
    writeFileSync(go, "");
    for (const [n, job] of jobs.entries()) {
      await job.finished({ timeoutMs: 60_000 });
      expect(job.status, job.trace).toBe("success");
      expect(job.trace.match(/^begun$/gm)).toHaveLength(1);
      expect(job.trace.match(/^over$/gm)).toHaveLength(1);
      expect(readFileSync(join(dir, `job-${n}`), "utf8")).toBe("x\n");
    }
  });

  test("each time by one of them: that is ended after twenty times, the runner lives", {
    timeout: 180_000,
  }, async () => {
    const here = await openDurableSite({ dialect: "gitlab", global: "concurrent = 2" });
    const { coordinator, dir, configFile } = here;
    const pidFile = join(dir, "runner");
    const job = coordinator.enqueue({
      script: [
        `echo begun; while :; do [ ! -e ${pidFile} ] || kill -9 $(cat ${pidFile}) 2>/dev/null || :; sleep 0.05; done`,
      ],
      afterScript: ["echo afterwards"],
      variables: { GIT_STRATEGY: "none" },
    });
    await job.traceContains("begun");
    await crash(here);
    let starts = 0;
    for (;;) {
      const running = start(["run", "--config", configFile, "--working-directory", here.workDir], { home: dir });
      starts++;
      // Killed as soon as it follows the job.
      const seen = await Promise.race([
        running.seen(/a job of an earlier process goes on/).then(() => "follows" as const),
        running.seen(/is reported as failed/).then(() => "buried" as const),
      ]);
      if (seen === "buried") {
        await job.finished();
        expect(running.child.exitCode).toBeNull();
        await running.stop();
        break;
      }
      writeFileSync(pidFile, String(running.pid));
      expect(await running.exit).toEqual({ code: null, signal: "SIGKILL" });
    }
    expect(starts).toBe(21);
    expect(job.failureReason).toBe("runner_system_failure");
    expect(job.trace).toMatch(/it was gone on with 20 times within 10 min/);
    expect(job.trace).not.toContain("afterwards");
    await here.start();
    const next = coordinator.enqueue({ script: ["echo fine"], variables: { GIT_STRATEGY: "none" } });
    await next.finished();
    expect(next.status).toBe("success");
  });
});
