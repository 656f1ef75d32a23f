import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { AWAY, crash, openDurableSite, steady } from "../support/durable-site.ts";
import type { Site } from "../support/site.ts";

const onLinux = process.platform === "linux" && process.geteuid?.() === 0;
const SECRET = "hush-4711-hush-4711";

const site = (dialect: "alloy" | "gitlab", entries = 1): Promise<Site> =>
  openDurableSite({ dialect, entries, global: "concurrent = 12" });

describe.runIf(onLinux)("a job whose runner was killed", () => {
  for (const dialect of ["alloy", "gitlab"] as const) {
    test(`${dialect}: goes on, and ends as if nothing had happened`, { timeout: 60_000 }, async () => {
      const here = await site(dialect);
      const { coordinator, dir } = here;
      const go = join(dir, "go");
      const started = join(dir, "started");
      const work = {
        script: [
          `echo x >>${started}`,
          "echo begun",
          "printf 'half of hush-47'",
          `until [ -e ${go} ]; do sleep 0.05; done`,
          "echo '11-hush-4711'; seq 1 5000; echo over $SECRET",
          "exit 3",
        ],
        afterScript: ["echo afterwards $CI_JOB_STATUS"],
        variables: [{ key: "SECRET", value: SECRET, masked: true, public: false }],
      };
      writeFileSync(go, "");
      const usual = coordinator.enqueue(work);
      await usual.finished();
      rmSync(go);
      const job = coordinator.enqueue(work);
      await job.traceContains("begun");
      await crash(here);
      await here.start();
      await here.runner.seen(/a job of an earlier process goes on/);
      writeFileSync(go, "");
      await job.finished();
      expect(job.trace.match(AWAY)).toHaveLength(1);
      expect(steady(job.trace)).toBe(steady(usual.trace));
      expect(job.trace).not.toContain(SECRET);
      expect({ status: job.status, exit: job.exitCode }).toEqual({ status: "failed", exit: usual.exitCode });
      expect(readFileSync(started, "utf8")).toBe("x\nx\n");
      expect(existsSync(join(here.stateDir, "jobs", "x"))).toBe(false);
    });
  }

  test("is what it is by then, whatever happened meanwhile; nothing runs twice", { timeout: 90_000 }, async () => {
    const here = await site("gitlab", 3);
    const { coordinator, dir, stateDir, tokens } = here;
    const starts = (name: string): string => `echo x >>${join(dir, name)}.starts; echo begun`;
    const until = (name: string): string => `until [ -e ${join(dir, name)} ]; do sleep 0.05; done`;
    const after = { afterScript: ["echo after: $CI_JOB_STATUS"] };
    const [runnerToken = "", changedToken = "", goneToken = ""] = tokens;
    const add = (name: string, script: string[], more: object = after) =>
      coordinator.enqueue({ name, script: [starts(name), ...script], runnerToken, ...more });
    const canceled = add("canceled", ["sleep 600"]);
    const late = add("late", ["sleep 600"], { ...after, timeoutSeconds: 4 });
    const soon = add("soon", ["sleep 600"], { ...after, timeoutSeconds: 9 });
    const [during, later] = [add("during", ["sleep 600"]), add("later", ["sleep 600"])];
    // A word that may be a token never ends: it is masked, and what waits is read all the same.
    const loud = add("loud", [
      until("go"),
      "printf glpat-; head -c 90000000 /dev/zero | tr '\\0' x; echo; head -c 9000000 /dev/zero | tr '\\0' x; echo; exit 7",
    ]);
    const orphaned = add("orphaned", ["echo of $PPID", "sleep 600"]);
    const forged = add("forged", ["sleep 600"]);
    const guest = add("guest", [until("go"), "echo still here"], { ...after, runnerToken: goneToken });
    const changed = add("changed", [until("go"), "echo on this machine"], { ...after, runnerToken: changedToken });
    const all = [canceled, late, soon, during, later, loud, orphaned, forged, guest, changed];
    await Promise.all(all.map((job) => job.traceContains("begun")));
    await orphaned.traceContains("of ");
    await crash(here);

    process.kill(Number(/of (\d+)/.exec(orphaned.trace)?.[1]), "SIGKILL");
    canceled.cancel("canceling");
    const payloadOf = (id: string): string => {
      const [key = ""] = readdirSync(join(stateDir, "jobs")).filter((name) => name.includes(`-${id}-`));
      return join(stateDir, "jobs", key, "payload");
    };
    writeFileSync(payloadOf(forged.id), readFileSync(payloadOf(late.id)));
    writeFileSync(join(dir, "go"), "");
    const config = readFileSync(here.configFile, "utf8").replace("concurrent = 12", "concurrent = 1");
    const [head, first, second = ""] = config.split("[[runners]]");
    const other = second.replace('executor = "shell"', 'executor = "docker"').replace("durable = true", "");
    const entries = [head, first, `${other}[runners.docker]\nimage = "nowhere.invalid/none"\n`];
    writeFileSync(here.configFile, entries.join("[[runners]]"));
    await expect.poll(() => Date.now() - (late.pickedUpAt ?? 0), { timeout: 10_000 }).toBeGreaterThan(4200);
    const starting = here.start();
    await here.runner.seen(/job found running; it goes on/);
    during.cancel("canceling");
    await here.runner.seen(new RegExp(`a job of an earlier process goes on +job=${later.id} `));
    later.cancel("canceling");
    await starting;
    // All of them have their slots before anybody asks for another job.
    const next = coordinator.enqueue({ script: ["true"], runnerToken });
    await Promise.all([...all, next].map((job) => job.finished({ timeoutMs: 40_000 })));

    for (const job of [canceled, during, later]) {
      expect(job.status).toBe("canceled");
      expect(job.trace).toMatch(
        /WARNING: Stopped .*sleep[\s\S]*after: canceled[\s\S]*Job failed: canceled \(by the coordinator/,
      );
    }
    for (const [job, limit] of [
      [late, "4s"],
      [soon, "9s"],
    ] as const) {
      expect(job.failureReason).toBe("job_execution_timeout");
      expect(job.trace).toMatch(/WARNING: Stopped .*sleep[\s\S]*after: timedout[\s\S]*Job failed: took longer than /);
      expect(job.trace).toContain(`took longer than ${limit}`);
    }
    expect([loud.exitCode, loud.failureReason]).toEqual([7, "script_failure"]);
    expect(loud.trace).toContain("\nglpat-[MASKED]\nxxx");
    expect(loud.trace).toMatch(/output exceeded the limit[\s\S]*Job failed: exit status 7/);
    expect(orphaned.trace).toMatch(
      /How the script ended is not known: the process that waited for it was killed; ended/,
    );
    expect(forged.trace).toMatch(/the runner died while this job ran \(.*what it was doing was not kept\)/);
    for (const job of [orphaned, forged]) expect(job.failureReason).toBe("runner_system_failure");
    expect(changed.status, changed.trace).toBe("success");
    expect(changed.trace).toMatch(/on this machine[\s\S]*after: success/);
    expect(guest.status).toBe("success");
    expect(guest.trace).toMatch(/still here[\s\S]*after: success/);
    for (const job of all) expect(readFileSync(join(dir, `${job.name}.starts`), "utf8")).toBe("x\n");
    await expect.poll(() => readdirSync(join(stateDir, "jobs")), { timeout: 10_000 }).toEqual([]);
    expect(processesOf(dir)).toEqual([]);
  });
});

/** Processes that say in their arguments that they are of this site, but for the runner. */
function processesOf(dir: string): string[] {
  const all = execFileSync("ps", ["-eo", "args="], { encoding: "utf8" }).split("\n");
  return all.filter((line) => line.includes(dir) && !line.includes("alloy-runner-linux"));
}
