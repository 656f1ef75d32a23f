import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import type { ProcessTable } from "../../executors/shell/processes/process-table.ts";
import { createProcfsTable } from "../../executors/shell/processes/procfs.ts";
import { createPsTable } from "../../executors/shell/processes/ps.ts";

const isLinux = process.platform === "linux";
const isRoot = process.getuid?.() === 0;
const own = process.getuid?.() ?? 0;
const NOBODY = 65_534;

/** Starts a process that runs until the test has ended. */
async function started(argv: readonly [string, ...string[]], env: Record<string, string>, uid = own) {
  const [program, ...args] = argv;
  const child = spawn(program, args, {
    env: { PATH: process.env.PATH, ...env },
    uid,
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
    const theirs = await started(quiet, { MARK: "job-1" }, NOBODY);
    expect(await pidsMarked(table, [theirs], "MARK=job-1", own)).toEqual([]);
    expect(await pidsMarked(table, [theirs], "MARK=job-1", NOBODY)).toEqual([theirs]);
    expect(await pidsMarked(table, [theirs], "MARK=job-1", null)).toEqual([theirs]);
  });
});

test.skipIf(!isLinux)("an environment of 3 GiB costs neither time of the event loop nor memory", async () => {
  const uid = isRoot ? NOBODY : own;
  const giant = ["python3", join(import.meta.dirname, "../support/giant-environment.py"), String(uid), "3"] as const;
  const giants = await Promise.all([started(giant, {}), started(giant, {}), started(giant, {})]);
  const marked = await started(quiet, { MARK: "job-1" }, uid);
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
