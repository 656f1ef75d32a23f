import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { ProcessTable } from "../../executors/shell/processes/process-table.ts";
import { createProcfsTable } from "../../executors/shell/processes/procfs.ts";
import { createPsTable } from "../../executors/shell/processes/ps.ts";
import { createStartTimes } from "../../executors/shell/processes/start-times.ts";
import { findMembers } from "../../executors/shell/processes/tree.ts";

const isLinux = process.platform === "linux";
const isRoot = process.getuid?.() === 0;
const own = process.getuid?.() ?? 0;
const NOBODY = 65_534;

/** Starts a process that runs until the test has ended. */
async function started(
  argv: readonly [string, ...string[]],
  env: Record<string, string>,
  { uid = own, detached = false } = {},
) {
  const [program, ...args] = argv;
  const child = spawn(program, args, {
    env: { PATH: process.env.PATH, ...env },
    uid,
    detached,
    stdio: ["pipe", "pipe", "inherit"],
  });
  onTestFinished(async () => {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  });
  await once(child.stdout, "data");
  return child.pid ?? 0;
}

const quiet = ["sh", "-c", "echo ready; read -r nothing"] as const;

async function pidsMarked(table: ProcessTable, among: readonly number[], entry: string, uid: number | null) {
  const all = await table.list();
  const found = await table.marked(
    all.filter(({ pid }) => among.includes(pid)),
    entry,
    uid,
  );
  return found.map(({ pid }) => pid);
}

describe.each([
  ["/proc", isLinux ? () => createProcfsTable("/proc") : null],
  // `ps` of procps takes the same arguments as the others.
  ["ps", process.platform === "win32" ? null : createPsTable],
])("the process table from %s", (from, open) => {
  test.skipIf(open === null)(
    "finds what was started with an entry in its environment, and nothing like it",
    async () => {
      const table = open?.() ?? createPsTable();
      const [marked, other, late] = await Promise.all([
        started(quiet, { MARK: "job-1" }),
        started(quiet, { MARK: "job-12", XMARK: "job-1" }),
        started(quiet, { A: "x".repeat(100_000), B: "y".repeat(31_072 - 100), MARK: "job-1", C: "z".repeat(100_000) }),
      ]);
      // procps shows only the first 128 KiB of an environment.
      const expected = from === "ps" ? [marked] : [marked, late];
      expect((await pidsMarked(table, [marked, other, late], "MARK=job-1", own)).sort()).toEqual(expected.sort());
      expect(table.find(marked)?.pid).toBe(marked);
    },
  );

  test.skipIf(open === null || !isRoot)("looks into the environments of one account alone", async () => {
    const table = open?.() ?? createPsTable();
    const theirs = await started(quiet, { MARK: "job-1" }, { uid: NOBODY });
    expect(await pidsMarked(table, [theirs], "MARK=job-1", own)).toEqual([]);
    expect(await pidsMarked(table, [theirs], "MARK=job-1", NOBODY)).toEqual([theirs]);
    expect(await pidsMarked(table, [theirs], "MARK=job-1", null)).toEqual([theirs]);
  });
});

test.skipIf(!isLinux)("an environment of 3 GiB costs neither time of the event loop nor memory", async () => {
  const uid = isRoot ? NOBODY : own;
  const giant = ["python3", join(import.meta.dirname, "../support/giant-environment.py"), String(uid), "3"] as const;
  const giants = await Promise.all([started(giant, {}), started(giant, {}), started(giant, {})]);
  const marked = await started(quiet, { MARK: "job-1" }, { uid });
  const table = createProcfsTable("/proc");
  const before = process.memoryUsage().rss;
  let [longest, last, most] = [0, performance.now(), before];
  const ticker = setInterval(() => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    most = Math.max(most, process.memoryUsage().rss);
  }, 5);
  onTestFinished(() => clearInterval(ticker));
  const begin = performance.now();
  for (let round = 0; round < 5; round++) {
    expect(await pidsMarked(table, [...giants, marked], "MARK=job-1", uid)).toEqual([marked]);
  }
  expect(performance.now() - begin).toBeLessThan(10_000);
  expect(longest).toBeLessThan(1000);
  expect(most - before).toBeLessThan(32 * 1024 * 1024);
});

test.skipIf(!isLinux)("what is in the session of another script's shell is not looked into", async () => {
  const real = createProcfsTable("/proc");
  const asked = new Set<number>();
  const table: ProcessTable = {
    ...real,
    marked: async (processes, entry, uid) => {
      for (const { pid } of processes) asked.add(pid);
      return await real.marked(processes, entry, uid);
    },
  };
  const inOwn = { detached: true };
  const leaderPid = await started(quiet, { MARK: "job-1" }, inOwn);
  const [escaped, other, stranger] = await Promise.all([
    started(quiet, { MARK: "job-1" }, inOwn),
    started(["sh", "-c", "sh -c 'echo ready; read -r nothing'; :"], { MARK: "job-2" }, inOwn),
    started(quiet, { MARK: "job-3" }, inOwn),
  ]);
  const leader = { pid: leaderPid, startedAt: table.find(leaderPid)?.startedAt ?? -1 };
  const belonging = { table, mark: "MARK=job-1", uid: own, leader, since: leader.startedAt, cgroup: null };
  const pids = async (others: ReadonlySet<number>): Promise<number[]> =>
    (await findMembers({ ...belonging, others })).map(({ pid }) => pid).sort();
  expect(await pids(new Set([leaderPid, other]))).toEqual([leaderPid, escaped].sort());
  const ofOther = (await real.list()).filter(({ session }) => session === other).map(({ pid }) => pid);
  expect(ofOther.length).toBe(2);
  for (const pid of ofOther) expect(asked.has(pid)).toBe(false);
  expect(asked.has(stranger)).toBe(true);
  expect(await pids(new Set())).toEqual([leaderPid, escaped].sort());
  for (const pid of ofOther) expect(asked.has(pid)).toBe(true);
});

test.skipIf(!isLinux)("who asks for what is new gets all of it, and what was there is not read again", async () => {
  const table = createProcfsTable("/proc");
  const old = await started(quiet, {});
  await table.list();
  const since = (table.find(old)?.startedAt ?? 0) + 1;
  // Start times are in hundredths of a second.
  await new Promise((resolve) => setTimeout(resolve, 20));
  const fresh = await started(quiet, {});
  const pids = async (from?: number): Promise<number[]> => (await table.list(from)).map(({ pid }) => pid);
  expect(await pids(since)).toContain(fresh);
  expect(await pids(since)).not.toContain(old);
  expect(await pids()).toEqual(expect.arrayContaining([old, fresh]));
  const [all, some] = await Promise.all([pids(), pids(since)]);
  expect(all).toContain(old);
  expect(some).toContain(fresh);
});

test("a number is forgotten before it can be another process's", () => {
  const proc = mkdtempSync(join(tmpdir(), "alloy-proc-"));
  onTestFinished(() => rmSync(proc, { recursive: true }));
  mkdirSync(join(proc, "sys", "kernel"), { recursive: true });
  const say = (starts: string, threads = 500, highest = "32768"): void => {
    writeFileSync(join(proc, "sys", "kernel", "pid_max"), `${highest}\n`);
    writeFileSync(join(proc, "loadavg"), `0.1 0.2 0.3 2/${threads} 77\n`);
    writeFileSync(join(proc, "stat"), `cpu 1 2 3\nintr ${"0 ".repeat(2000)}\nprocesses ${starts}\n`);
  };
  const times = createStartTimes(proc);
  const known = (): number | undefined => {
    times.refresh();
    return times.get(7);
  };
  say("1000");
  times.refresh();
  times.set(7, 42);
  say("9191");
  expect(known()).toBe(42);
  say("9192");
  expect(known()).toBeUndefined();
  times.set(7, 43);
  say("9193");
  expect(known()).toBe(43);
  say("9193", 16_384);
  expect(known()).toBeUndefined();
  for (const unknown of ["", "many"]) {
    say("9193");
    times.refresh();
    times.set(7, 44);
    say(unknown);
    expect(known()).toBeUndefined();
    times.set(7, 44);
    say("9193", 500, unknown);
    expect(known()).toBeUndefined();
  }
});

test.skipIf(!isLinux)("what starts after a look at the clock is not older, what was there before is", async () => {
  const table = createProcfsTable("/proc");
  const now = table.now();
  const after = table.find(await started(quiet, {}))?.startedAt ?? Number.NaN;
  expect(after).toBeGreaterThanOrEqual(now);
  // The start of these tests took longer than the clock is in doubt.
  expect(table.find(process.pid)?.startedAt).toBeLessThan(now);
});
