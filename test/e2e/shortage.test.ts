import { execFileSync } from "node:child_process";
import { mkdir, readdir, readFile, rm, stat, statfs, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { type Intercept, type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { footprint } from "../support/memory.ts";
import { isAlive } from "../support/processes.ts";
import { emptyHome, start } from "../support/program.ts";
import { openSite, type Site, type SiteOptions } from "../support/site.ts";
import { tree } from "../support/tree.ts";

const closers: (() => Promise<unknown>)[] = [];
async function site(options: SiteOptions): Promise<Site> {
  const opened = await openSite(options);
  closers.push(() => opened.close());
  return opened;
}
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function mount(...args: string[]): boolean {
  try {
    execFileSync("mount", args, { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** Mounts a small file system for the state; `null`: this account may not mount. */
async function smallState(one: Site, size: string): Promise<((options: string) => void) | null> {
  await mkdir(one.stateDir, { recursive: true, mode: 0o700 });
  if (!mount("-t", "tmpfs", "-o", `size=${size},mode=0700,huge=never`, "tmpfs", one.stateDir)) return null;
  closers.push(async () => void execFileSync("umount", ["-l", one.stateDir]));
  return (options) => execFileSync("mount", ["-o", `remount,${options}`, one.stateDir]);
}

const NO_MOUNT = "only an account that may mount can make a small disk";

describe("a state directory in need", () => {
  test("too little room for jobs: none is taken, it says why, and goes on when there is room", async ({ skip }) => {
    const one = await site({ dialect: "alloy", stopped: true, global: "check_interval = 1" });
    const remount = await smallState(one, "4m");
    if (remount === null) return skip(NO_MOUNT);
    const job = one.coordinator.enqueue({ script: ["true"] });
    const words = ["run", "--config", one.configFile, "--working-directory", one.workDir];
    const runner = start(words, { home: one.dir });
    closers.push(() => runner.stop("SIGKILL"));
    await runner.seen(/min_free_disk|disk/i);
    expect(job.status).toBe("pending");
    remount("size=600m");
    await job.finished();
    expect(job.status).toBe("success");
    expect((await runner.stop()).code).toBe(0);
  });

  test("caches on its disk leave room for jobs, and give it back at the next start", async ({ skip }) => {
    const one = await site({ dialect: "gitlab", stopped: true });
    if ((await smallState(one, "96m")) === null) return skip(NO_MOUNT);
    const cacheDir = join(one.stateDir, "caches");
    const configure = (least: string): Promise<void> =>
      one.configure({ global: `min_free_disk = "${least}"`, entry: `cache_dir = "${cacheDir}"` });
    await configure("32MiB");
    await one.start();
    const save = async (key: string): Promise<string> => {
      const job = one.coordinator.enqueue({
        script: ["head -c 12000000 /dev/urandom > data"],
        cache: { key, paths: ["data"] },
      });
      await job.finished();
      expect(job.status, job.trace).toBe("success");
      return job.trace;
    };
    for (const key of ["a", "b", "c", "d", "e", "f", "g", "h"]) {
      expect(await save(key)).toContain(`Saved cache ${key}`);
      const { bavail, bsize } = await statfs(one.stateDir);
      expect(bavail * bsize).toBeGreaterThanOrEqual(32 * 1024 ** 2);
    }
    await one.runner.stop();
    // More space must stay free than there is, as when another program has filled the disk meanwhile.
    await configure("64MiB");
    await one.start();
    await one.runner.seen(/caches were removed/);
    expect(await save("i")).toContain("Saving cache i");
  });

  test("it fills up in mid-job: the job fails with the reason, the next one works", async ({ skip }) => {
    const one = await site({ dialect: "gitlab", stopped: true, global: "min_free_disk = 1\nconcurrent = 2" });
    if ((await smallState(one, "1m")) === null) return skip(NO_MOUNT);
    const runner = await one.start();
    const job = one.coordinator.enqueue({ script: ["seq 1 300000", "echo NEVER; sleep 60"] });
    const update = await job.reported();
    expect(update.state).toBe("failed");
    expect(update.failureReason).toBe("runner_system_failure");
    await runner.seen(/ENOSPC|no space/i);
    await expect.poll(() => readdir(join(one.stateDir, "jobs")), { timeout: 20_000 }).toEqual([]);
    const next = one.coordinator.enqueue({ script: ["echo fine"] });
    await next.finished();
    expect(next.status).toBe("success");
  });

  test("it becomes read-only: no job is taken until it can be written again", async ({ skip }) => {
    const one = await site({ dialect: "alloy", stopped: true, global: "min_free_disk = 1\ncheck_interval = 1" });
    const remount = await smallState(one, "64m");
    if (remount === null) return skip(NO_MOUNT);
    const runner = await one.start();
    remount("ro");
    await runner.seen(/no job|not asking|room/i);
    const job = one.coordinator.enqueue({ script: ["true"] });
    remount("rw");
    await job.finished();
    expect(job.status, job.trace).toBe("success");
  });

  test("a power failure takes what was not synced: the job is reported, the rest of its trace kept", async () => {
    const one = await site({ dialect: "gitlab" });
    const job = one.coordinator.enqueue({ script: ["seq 1 2000; echo ready; sleep 600"] });
    await job.traceContains("ready");
    const delivered = one.coordinator.enqueue({ script: ["true"] });
    await one.runner.stop("SIGKILL");
    const [key] = await readdir(join(one.stateDir, "jobs"));
    const dir = join(one.stateDir, "jobs", key ?? "");
    const { size } = await stat(join(dir, "trace"));
    // After a power cut, blocks that never reached the disk read as zeros, or are missing.
    await truncate(join(dir, "trace"), size - 5000);
    await truncate(join(dir, "trace"), size - 3000);
    await rm(join(dir, "acknowledged"), { force: true });
    const record = await readFile(join(dir, "record"));
    await writeFile(join(dir, "record"), Buffer.concat([record, Buffer.from('{"kind":"finis\0\0\0')]));
    await one.start();
    await job.reported();
    expect(job.status).toBe("failed");
    expect(job.trace).toContain("\n1000\n");
    expect(job.trace).not.toContain("\0");
    await delivered.finished();
    expect(await readdir(join(one.stateDir, "corrupt"))).toEqual([]);
  });

  test("entries that cannot be used are set aside, and the rest goes on", async () => {
    const one = await site({ dialect: "alloy", stopped: true });
    const jobs = join(one.stateDir, "jobs");
    await mkdir(join(jobs, "0a1b2c3d-7-0123456789ab"), { recursive: true, mode: 0o700 });
    await mkdir(join(jobs, "empty-one"), { mode: 0o700 });
    await writeFile(join(jobs, "0a1b2c3d-7-0123456789ab", "record"), Buffer.alloc(300));
    await writeFile(join(jobs, "a file"), "what is this");
    const runner = await one.start();
    await runner.seen(/cannot be used.*moved to/s);
    const job = one.coordinator.enqueue({ script: ["true"] });
    await job.finished();
    expect(job.status).toBe("success");
    expect(await readdir(join(one.stateDir, "corrupt"))).toHaveLength(3);
  });
});

// The behaviour of a machine that is short of memory depends on what else runs on it, so there is one retry, which the
// report shows.
describe("a machine in need", { retry: 1 }, () => {
  test("few file descriptors: each job ends with a clear word, and the runner lives on", {
    timeout: 120_000,
  }, async () => {
    const one = await site({
      dialect: "alloy",
      global: "concurrent = 30",
      run: { under: ["prlimit", "--nofile=80:80"] },
    });
    const jobs = Array.from({ length: 40 }, () => one.coordinator.enqueue({ script: ["echo hello", "sleep 0.3"] }));
    await Promise.all(jobs.map((job) => job.reported({ timeoutMs: 100_000 })));
    for (const job of jobs) {
      if (job.status === "success") continue;
      expect(job.trace.trimEnd().split("\n").at(-1)).toMatch(/system failure.*(EMFILE|too many open files)/i);
    }
    const quiet = one.coordinator.enqueue({ script: ["true"] });
    await quiet.finished();
    expect(quiet.status, quiet.trace).toBe("success");
  });

  test("a flood of output costs neither memory nor disk, and the status stays the script's", {
    timeout: 120_000,
  }, async () => {
    const bytes = process.env.FLOOD_BYTES ?? "3G";
    const one = await site({ dialect: "alloy" });
    const before = footprint(one.runner.pid).residentMb;
    const job = one.coordinator.enqueue({ script: [`head -c ${bytes} /dev/zero`, "exit 7"] });
    await job.running();
    let mostSpooled = 0;
    const watch = setInterval(() => {
      const blocks = [...tree(one.stateDir)].reduce((sum, { stats }) => sum + stats.blocks, 0);
      mostSpooled = Math.max(mostSpooled, blocks / 2);
    }, 200);
    closers.push(async () => clearInterval(watch));
    await job.reported({ timeoutMs: 100_000 });
    expect(job.status).toBe("failed");
    expect(job.trace).toMatch(/exit (?:code|status) 7/);
    expect(footprint(one.runner.pid).peakMb - before).toBeLessThan(150);
    expect(mostSpooled).toBeLessThan(16 * 1024);
  });

  test("hundreds of jobs leave neither memory nor descriptors behind", { timeout: 120_000 }, async () => {
    const one = await site({ dialect: "alloy", global: "concurrent = 8", record: false });
    const run = async (count: number): Promise<ReturnType<typeof footprint>> => {
      const jobs = Array.from({ length: count }, () => one.coordinator.enqueue({ script: ["seq 1 50"] }));
      await Promise.all(jobs.map((job) => job.reported({ timeoutMs: 100_000 })));
      return footprint(one.runner.pid);
    };
    const early = await run(100);
    const late = await run(250);
    expect(late.residentMb - early.residentMb).toBeLessThan(25);
    expect(late.descriptors - early.descriptors).toBeLessThanOrEqual(4);
    await expect.poll(() => readdir(join(one.stateDir, "jobs")), { timeout: 10_000 }).toEqual([]);
  });

  test("its own log is closed or not read: jobs and delivery go on", async () => {
    const closed = await site({ dialect: "alloy", run: { under: ["sh", "-c", 'exec "$@" 2>&- >&-', "sh"] } });
    const vanishing = await site({ dialect: "gitlab", global: 'log_level = "debug"' });
    vanishing.runner.child.stderr?.destroy();
    for (const one of [closed, vanishing]) {
      for (let i = 0; i < 3; i++) {
        const job = one.coordinator.enqueue({ script: ["echo still here"] });
        await job.reported();
        expect(job.status).toBe("success");
        expect(job.trace).toContain("still here");
      }
      expect(isAlive(one.runner.pid)).toBe(true);
    }
  });
});

describe("a coordinator in need beside a good one", () => {
  const bad: readonly (readonly [string, Intercept])[] = [
    ["that says nothing", () => ({ kind: "silence" })],
    ["with endless headers", () => ({ kind: "endless", part: "headers" })],
    ["with endless jobs", () => ({ kind: "endless", part: "body", status: 201 })],
    ["with endless errors", () => ({ kind: "endless", part: "body", status: 500 })],
    ["that sends a byte per second", () => ({ kind: "slow", intervalMs: 1000 })],
    ["that speaks something else", () => ({ kind: "raw", bytes: "SSH-2.0-OpenSSH_9.6\r\n" })],
    ["that redirects for ever", () => ({ kind: "status", status: 307, headers: { location: "/api/v4/jobs/request" } })],
  ];
  test.each(bad)("%s: the good one's jobs run on time, and memory stays in its bound", async (_, intercept) => {
    const one = await site({ dialect: "alloy", stopped: true, global: "concurrent = 2\ncheck_interval = 1" });
    const other: LocalCoordinator = await startCoordinator({ dialect: "alloy", intercept });
    closers.push(() => other.close());
    const config = await readFile(one.configFile, "utf8");
    const entries = Array.from(
      { length: 3 },
      (_, i) => `[[runners]]\nname = "bad-${i}"\nurl = "${other.url}"\ntoken = "bad-${i}"\nexecutor = "shell"\n`,
    );
    await writeFile(one.configFile, `${config}\n${entries.join("\n")}`, { mode: 0o600 });
    const runner = await one.start();
    await other.waitForRequest(({ endpoint }) => endpoint === "job_request");
    const before = footprint(runner.pid).residentMb;
    for (let i = 0; i < 3; i++) {
      const job = one.coordinator.enqueue({ script: ["true"] });
      await job.reported({ timeoutMs: 8000 });
      expect(job.status).toBe("success");
    }
    expect(isAlive(runner.pid)).toBe(true);
    // Three entries may each hold 64 MiB at the same time, and freed memory is not collected at once.
    expect(footprint(runner.pid).peakMb - before).toBeLessThan(2 * 3 * 64 + 100);
    await other.close();
    expect((await runner.stop("SIGTERM")).code).toBe(0);
  });
});

test("SIGUSR1 opens no debugger, whatever the program does just then", async () => {
  const home = await emptyHome();
  try {
    const demo = start(["demo"], { home: home.dir, runtime: "node" });
    await demo.seen(/./);
    demo.child.kill("SIGUSR1");
    expect((await demo.exit).code).toBe(0);
    expect(demo.stderr()).not.toMatch(/debugger/i);
  } finally {
    await home.dispose();
  }
});
