import { readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import type { Note } from "../../src/executor/prepare.ts";
import type { JobRecord, StoredJob } from "../../src/journal/contract.ts";
import { createOutbox } from "../../src/journal/delivery/outbox.ts";
import { type RecoveryOptions, recoverJobs } from "../../src/journal/delivery/recover.ts";
import { never } from "../../src/time.ts";
import { failure, scriptedCoordinator } from "./scripted-coordinator.ts";
import { openState, recordingLog, storedJob, temporaryDirectory } from "./support.ts";

const timing = { firstMs: 4, maxMs: 40, probeMaxMs: 20, lingerMs: 5 };
const died = (text: string): RegExp =>
  new RegExp(
    `${text}\u001b\\[0m\u001b\\[31;1mERROR: Job failed \\(system failure\\): the runner died while this job ran \\((.*)\\)\u001b\\[0m\n$`,
  );

/** Starts a process that accepts these jobs and dies. */
async function deadProcess(
  path: string,
  ...jobs: { trace: string | Buffer; stored?: Partial<StoredJob>; notes?: Note[] }[]
) {
  const { journal, close } = await openState(path);
  const records: JobRecord[] = [];
  for (const { trace, stored, notes = [] } of jobs) {
    const record = await journal.accept(storedJob({ boot: journal.boot, ...stored }));
    for (const note of notes) await record.remember(note);
    await writeFile(record.tracePath, trace);
    records.push(record);
  }
  await close();
  return records;
}

async function nextStart(path: string, options: Partial<RecoveryOptions> = {}, signal = never) {
  const log = recordingLog();
  const { journal, close } = await openState(path, log);
  const scripted = scriptedCoordinator();
  const outbox = createOutbox({ openCoordinator: () => scripted.coordinator, log, maxAgeMs: () => 1e9, timing });
  onTestFinished(() => outbox.close(AbortSignal.abort()));
  const recover: RecoveryOptions["executorFor"] = async () => ({
    recover: async () => ({ done: ["ended 3 processes"], left: [] }),
  });
  const recovery = await recoverJobs({ journal, outbox, log, executorFor: recover, pauseMs: 1, ...options }, signal);
  return { recovery, scripted, log, journal, close, outbox };
}

test("a dead job is cleaned up with its notes, its trace is completed, and it fails", async () => {
  const path = await temporaryDirectory();
  const notes = [
    { kind: "mark", root: "/builds" },
    { kind: "pid", pid: 7 },
  ];
  const [record] = await deadProcess(path, { trace: "compiling…\nhalf a l", notes });
  const asked: unknown[] = [];
  const { recovery, scripted } = await nextStart(path, {
    executorFor: async (stored) => ({
      recover: async (key, kept) => {
        asked.push([stored.executor, key, kept]);
        return { done: ["ended 3 processes"], left: ["could not remove /builds/x"] };
      },
    }),
  });
  await recovery.delivered;
  expect([recovery.dead, recovery.undelivered]).toEqual([1, 0]);
  const crash = { kind: "crash", boot: record?.stored.boot, sameBoot: true };
  expect(asked).toEqual([["shell", record?.stored.key, [...notes, crash]]]);
  const [call] = scripted.calls;
  expect(call).toMatchObject({ update: { state: "failed", reason: "runner_system_failure" } });
  const text = scripted.jobs.get(record?.stored.id ?? "")?.text;
  expect(text).toMatch(died("^compiling…\nhalf a l\n"));
  expect(text).toMatch(
    /\(its process ended unexpectedly; found at the next start, [-0-9T:.]+Z; ended 3 processes; could not remove \/builds\/x\)/,
  );
});

test("after a restart of the machine the trace and the executor hear of it", async () => {
  const path = await temporaryDirectory();
  const [record] = await deadProcess(path, { trace: "", stored: { boot: "another" } });
  let sameBoot: unknown;
  const recover = async (_: string, notes: readonly Note[]) => {
    sameBoot = notes.at(-1)?.sameBoot;
    return { done: [], left: [] };
  };
  const { recovery, scripted } = await nextStart(path, { executorFor: async () => ({ recover }) });
  await recovery.delivered;
  expect(sameBoot).toBe(false);
  expect(scripted.jobs.get(record?.stored.id ?? "")?.text).toMatch(/^\u001b.*the machine was restarted/);
});

test.each([
  ["in the middle of a character", Buffer.from("line ✓").subarray(0, 6), "line \n"],
  [
    "with NULs where the disk had not got the bytes yet",
    Buffer.concat([Buffer.from("li\n"), Buffer.alloc(5000), Buffer.from("x")]),
    "li\n",
  ],
  ["with garbage", Buffer.concat([Buffer.from("a\nüb"), Buffer.from([0xff, 0xfe, 0x41])]), "a\nüb\n"],
  [
    "with garbage beyond the first megabyte",
    Buffer.concat([Buffer.alloc(1_500_000, "äb\n"), Buffer.from([0xc3, 0x28, 0x41])]),
    `${"äb\n".repeat(375_000)}`,
  ],
  ["empty", Buffer.alloc(0), ""],
])("a spool that ends %s is cut to what is sound", async (_, bytes, expected) => {
  const path = await temporaryDirectory();
  const [record] = await deadProcess(path, { trace: bytes });
  const { recovery, scripted } = await nextStart(path);
  await recovery.delivered;
  const text = scripted.jobs.get(record?.stored.id ?? "")?.text ?? "";
  const notice = text.lastIndexOf("\u001b[0m\u001b[31;1m");
  expect(text.slice(0, notice) === expected).toBe(true);
});

test("a spool cut at any length, as a power failure does, still ends in a verdict", async () => {
  const whole = Buffer.from("Ä line\n✓ and 😀 more\nhalf");
  for (let length = 0; length <= whole.length; length++) {
    const path = await temporaryDirectory();
    const [record] = await deadProcess(path, { trace: whole });
    await truncate(join(path, "jobs", record?.stored.key ?? "", "trace"), length);
    const { recovery, scripted, close, outbox } = await nextStart(path);
    await recovery.delivered;
    const { text = "", state } = scripted.jobs.get(record?.stored.id ?? "") ?? {};
    expect(state).toBe("failed");
    expect(text).not.toContain("\ufffd");
    const sound = text.slice(0, text.indexOf("\u001b[0m"));
    expect(`${whole.toString()}\n`.startsWith(sound.replace(/\n$/, ""))).toBe(true);
    await outbox.close(AbortSignal.abort());
    await close();
  }
});

test("what GitLab has and the disk lost keeps its place, so that the notice follows it", async () => {
  const path = await temporaryDirectory();
  const first = await openState(path);
  const record = await first.journal.accept(storedJob({ dialect: "gitlab" }));
  const had = `${"output that was sent\n".repeat(20)}`;
  await writeFile(record.tracePath, had.slice(0, 30));
  record.acknowledged(had.length);
  await first.close();
  const log = recordingLog();
  const { journal } = await openState(path, log);
  const scripted = scriptedCoordinator();
  scripted.jobs.set(record.stored.id, { text: had, state: null, checksum: undefined, reports: 0, callsAfterEnd: 0 });
  const outbox = createOutbox({ openCoordinator: () => scripted.coordinator, log, maxAgeMs: () => 1e9, timing });
  const executorFor: RecoveryOptions["executorFor"] = async () => ({ recover: async () => ({ done: [], left: [] }) });
  await (await recoverJobs({ journal, outbox, log, executorFor }, never)).delivered;
  const stored = scripted.jobs.get(record.stored.id);
  expect(stored?.text.startsWith(had)).toBe(true);
  expect(stored?.text).toMatch(died("\n"));
  expect(stored).toMatchObject({ state: "failed", checksum: undefined });
  await outbox.close(never);
});

const LINE = "2026-01-02T03:04:05.000001Z 01O whole\n";

test.each([
  ["within a header", "2026-01-02T03:04", `${"2026-01-02T03:04".padEnd(32)}\n`],
  ["within a line", "2026-01-02T03:04:05.123456Z 01O half", "2026-01-02T03:04:05.123456Z 01O half\n"],
  ["with a line", "", ""],
])("a trace with times that ends %s goes on with lines that have them", async (_, end, sealed) => {
  const path = await temporaryDirectory();
  const [record] = await deadProcess(path, { trace: LINE + end, stored: { dialect: "gitlab", stamped: true } });
  const { recovery, scripted } = await nextStart(path);
  await recovery.delivered;
  const text = scripted.jobs.get(record?.stored.id ?? "")?.text ?? "";
  expect(text.startsWith(LINE + sealed)).toBe(true);
  expect(text.slice(LINE.length + sealed.length)).toMatch(
    /^[-0-9T:]{19}\.\d{6}Z 00O \x1b\[0m\x1b\[31;1mERROR: Job failed \(system failure\): the runner died [^\n]*\n$/,
  );
});

test("with times, what GitLab has and the disk lost keeps its place, and the notice has a time", async () => {
  const path = await temporaryDirectory();
  const first = await openState(path);
  const record = await first.journal.accept(storedJob({ dialect: "gitlab", stamped: true }));
  const had = LINE.repeat(20);
  await writeFile(record.tracePath, had.slice(0, 50));
  record.acknowledged(had.length);
  await first.close();
  const log = recordingLog();
  const { journal } = await openState(path, log);
  const scripted = scriptedCoordinator();
  scripted.jobs.set(record.stored.id, { text: had, state: null, checksum: undefined, reports: 0, callsAfterEnd: 0 });
  const outbox = createOutbox({ openCoordinator: () => scripted.coordinator, log, maxAgeMs: () => 1e9, timing });
  const executorFor: RecoveryOptions["executorFor"] = async () => ({ recover: async () => ({ done: [], left: [] }) });
  await (await recoverJobs({ journal, outbox, log, executorFor }, never)).delivered;
  const text = scripted.jobs.get(record.stored.id)?.text ?? "";
  expect(text.startsWith(had)).toBe(true);
  expect(text.slice(had.length)).toMatch(/^[-0-9T:]{19}\.\d{6}Z 00O \S*ERROR: Job failed [^\n]*\n$/);
  await outbox.close(never);
});

test("a known verdict is delivered as it is, and nobody cleans up", async () => {
  const path = await temporaryDirectory();
  const first = await openState(path);
  const record = await first.journal.accept(storedJob());
  await writeFile(record.tracePath, "all well\n");
  await record.finish({ state: "success", reason: null, exitCode: null, at: new Date().toISOString() });
  await first.close();
  const executorFor = async (): Promise<null> => Promise.reject(new Error("must not be asked"));
  const { recovery, scripted } = await nextStart(path, { executorFor });
  await recovery.delivered;
  expect([recovery.dead, recovery.undelivered]).toEqual([0, 1]);
  expect(scripted.jobs.get(record.stored.id)).toMatchObject({ text: "all well\n", state: "success" });
});

test("a clean-up that fails, hangs or has no executor does not keep the verdict back", async () => {
  const path = await temporaryDirectory();
  const executors = ["broken", "hanging", "unknown", "well"];
  const records = await deadProcess(path, ...executors.map((executor) => ({ trace: "", stored: { executor } })));
  let tries = 0;
  const { recovery, scripted, log } = await nextStart(path, {
    timeoutMs: 500,
    executorFor: async ({ executor }) => {
      if (executor === "unknown") return null;
      if (executor === "hanging") return { recover: () => new Promise(() => undefined) };
      if (executor === "well") return { recover: async () => ({ done: [], left: [] }) };
      tries++;
      return { recover: async () => Promise.reject(new Error("daemon is away")) };
    },
  });
  await recovery.delivered;
  expect(tries).toBe(3);
  const texts = records.map(({ stored }) => scripted.jobs.get(stored.id)?.text ?? "");
  expect(texts[0]).toContain("its clean-up failed: daemon is away");
  expect(texts[1]).toContain("its clean-up failed: took longer than 0.5 s");
  expect(texts[2]).toContain('its clean-up failed: there is no executor "unknown"');
  expect(texts[3]).not.toContain("failed:");
  expect(log.lines.filter((line) => line.startsWith("warn cannot clean up after job"))).toHaveLength(3);
});

test("a shutdown in the middle leaves the job to the next start, which says it once", async () => {
  const path = await temporaryDirectory();
  const [record] = await deadProcess(path, { trace: "output\n" });
  const stop = new AbortController();
  const first = await nextStart(
    path,
    {
      executorFor: async () => {
        stop.abort(new Error("stop"));
        return { recover: async () => ({ done: [], left: [] }) };
      },
    },
    stop.signal,
  );
  expect(first.scripted.calls).toEqual([]);
  await first.outbox.close(never);
  await first.close();

  // The next process dies right after it has written its line.
  const second = await openState(path);
  const [leftover] = second.journal.leftovers();
  expect(leftover?.record.report).toBeNull();
  await leftover?.record.died(7);
  await writeFile(leftover?.record.tracePath ?? "", "output\nERROR: Job fa");
  await second.close();

  const third = await nextStart(path);
  await third.recovery.delivered;
  expect(third.scripted.jobs.get(record?.stored.id ?? "")?.text).toMatch(died("^output\n"));
});

test("a recovered job waits for its coordinator like any other, over further restarts", async () => {
  const path = await temporaryDirectory();
  const [record] = await deadProcess(path, { trace: "output\n" });
  const log = recordingLog();
  const first = await openState(path, log);
  const away = scriptedCoordinator();
  away.answerWith(() => failure(0));
  const outbox = createOutbox({ openCoordinator: () => away.coordinator, log, maxAgeMs: () => 1e9, timing });
  const executorFor: RecoveryOptions["executorFor"] = async () => ({ recover: async () => ({ done: [], left: [] }) });
  const { delivered } = await recoverJobs({ journal: first.journal, outbox, log, executorFor }, never);
  await away.called(() => true);
  await outbox.close(never);
  await delivered;
  await first.close();
  expect((await stat(record?.tracePath ?? "")).size).toBeGreaterThan(50);
  const { recovery, scripted } = await nextStart(path);
  await recovery.delivered;
  expect(recovery).toMatchObject({ dead: 0, undelivered: 1 });
  expect(scripted.jobs.get(record?.stored.id ?? "")).toMatchObject({ state: "failed", reports: 1 });
});

test("a missing spool is made anew", async () => {
  const path = await temporaryDirectory();
  const [record] = await deadProcess(path, { trace: "x" });
  await rm(record?.tracePath ?? "");
  const { recovery, scripted } = await nextStart(path);
  await recovery.delivered;
  expect(scripted.jobs.get(record?.stored.id ?? "")?.text).toMatch(died("^"));
  await expect(readFile(record?.tracePath ?? "")).rejects.toThrow("ENOENT");
});
