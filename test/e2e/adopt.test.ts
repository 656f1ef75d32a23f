import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { openSite, type Site } from "../support/site.ts";

const onLinux = process.platform === "linux" && process.geteuid?.() === 0;
const SECRET = "hush-4711-hush-4711";
const AWAY = /[^\n]*The runner was restarted \(away for \d+\.\d s\); the job went on and is followed again[^\n]*\n/g;

const keyDir = mkdtempSync(join(tmpdir(), "alloy-live-key-"));
const keyFile = join(keyDir, "key");
writeFileSync(keyFile, randomBytes(32), { mode: 0o600 });
afterAll(() => rmSync(keyDir, { recursive: true }));

const open: Site[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

async function site(dialect: "alloy" | "gitlab", entry = ""): Promise<Site> {
  const one = await openSite({
    dialect,
    global: `concurrent = 4\ncheck_interval = 1\nlog_level = "debug"\nlive_key_file = "${keyFile}"`,
    entry: `durable = true\n${entry}`,
  });
  open.push(one);
  return one;
}

async function crash({ runner }: Site): Promise<void> {
  runner.child.kill("SIGKILL");
  await runner.exit;
}

/** Without what differs from run to run. */
function steady(trace: string): string {
  return trace
    .replace(AWAY, "")
    .replace(/section_(start|end):\d+:/g, "section_$1:0:")
    .replace(/(Used|Took) .*/g, "used");
}

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
});
