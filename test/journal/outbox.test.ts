import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { expect, onTestFinished, test, vi } from "vitest";
import type { FinalReport, JobRecord, Journal, Outbox, SentTrace, StoredJob } from "../../src/journal/contract.ts";
import { MOST_DISAGREEMENTS } from "../../src/journal/delivery/delivery.ts";
import { createOutbox, type OutboxOptions } from "../../src/journal/delivery/outbox.ts";
import { deadline, never, pause } from "../../src/time.ts";
import { failure, type Script, scriptedCoordinator } from "./scripted-coordinator.ts";
import { openState, recordingLog, storedJob, temporaryDirectory } from "./support.ts";

const success: FinalReport = { state: "success", reason: null, exitCode: null, at: new Date().toISOString() };
const quick = { firstMs: 4, maxMs: 40, probeMaxMs: 20, remindMs: 60_000, suspectMs: 0, lingerMs: 5, parallel: 8 };

async function setUp(script: Script = () => undefined, options: Partial<OutboxOptions> = {}) {
  const path = await temporaryDirectory();
  const log = recordingLog();
  const state = await openState(path);
  const scripted = scriptedCoordinator();
  scripted.answerWith(script);
  const open = (): Outbox =>
    createOutbox({ openCoordinator: () => scripted.coordinator, log, maxAgeMs: () => 1e9, timing: quick, ...options });
  const outbox = open();
  onTestFinished(() => outbox.close(AbortSignal.abort()));
  return { ...state, path, log, scripted, outbox, open };
}

async function finished(
  journal: Journal,
  trace: string | Buffer,
  changes: Partial<StoredJob> = {},
  report: FinalReport = success,
): Promise<JobRecord> {
  const record = await journal.accept(storedJob(changes));
  await writeFile(record.tracePath, trace);
  await record.finish(report);
  return record;
}

const atStart = { sent: 0, offered: 0, gone: false };

test("AlloyCI gets state and whole trace in one call, and nothing is left on disk", async () => {
  const { journal, scripted, outbox, path } = await setUp();
  const failed: FinalReport = { state: "failed", reason: "script_failure", exitCode: 3, at: success.at };
  const record = await finished(journal, "one\ntwo ✓\n", { knownReasons: ["x"] }, failed);
  const delivery = outbox.deliver(record, { sent: 4, offered: 4, gone: true });
  expect(outbox.has("http://coordinator.test/", record.stored.id)).toBe(true);
  expect(await delivery).toBe("delivered");
  expect(outbox.has("http://coordinator.test/", record.stored.id)).toBe(false);
  const call = scripted.calls.map((seen) => (seen.call === "update" ? { ...seen.update, trace: seen.trace } : seen));
  const said = { state: "failed", reason: "script_failure", exitCode: 3, knownReasons: ["x"], trace: "one\ntwo ✓\n" };
  expect(call).toEqual([said]);
  expect(await readdir(join(path, "jobs"))).toEqual([]);
  expect(outbox.gauges()).toEqual({ entries: 0, oldestSeconds: 0, bytes: 0 });
});

test("GitLab gets the rest of the trace in pieces from where it is, then the state with a checksum", async () => {
  const { journal, scripted, outbox } = await setUp();
  const trace = Buffer.alloc(2.5 * 1024 * 1024, "0123456789abcdef\n");
  const record = await finished(journal, trace, { dialect: "gitlab" });
  scripted.jobs.set(record.stored.id, {
    text: trace.toString("utf8", 0, 5),
    state: null,
    checksum: "",
    reports: 0,
    callsAfterEnd: 0,
  });
  expect(await outbox.deliver(record, { sent: 5, offered: 5, gone: false })).toBe("delivered");
  const stored = scripted.jobs.get(record.stored.id);
  expect(stored?.text).toBe(trace.toString());
  expect(stored?.checksum).toBe(`crc32:${crc32(trace).toString(16).padStart(8, "0")}`);
  expect(scripted.calls.map(({ call }) => call)).toEqual(["trace", "trace", "trace", "update"]);
});

test("a checksum that the trace's writer knows goes with it, as long as nobody finds another trace", async () => {
  const text = "0123456789";
  const whole = { size: text.length, crc32: 0x1234 };
  const fresh = `crc32:${crc32(text).toString(16).padStart(8, "0")}`;
  const checksums = async (sent: SentTrace): Promise<unknown> => {
    let mismatches = 1;
    const { journal, scripted, outbox } = await setUp((call) =>
      call.call === "update" && mismatches-- > 0 ? { kind: "resend" } : undefined,
    );
    const record = await finished(journal, text, { dialect: "gitlab" });
    expect(await outbox.deliver(record, sent)).toBe("delivered");
    return scripted.calls.flatMap((seen) => (seen.call === "update" ? [seen.update.checksum] : []));
  };
  expect(await checksums({ ...atStart, whole })).toEqual(["crc32:00001234", fresh]);
  expect(await checksums({ ...atStart, whole: { ...whole, size: 9 } })).toEqual([fresh, fresh]);
});

test("offsets that the coordinator corrects are followed, absurd ones are survived", async () => {
  const { journal, scripted, outbox } = await setUp();
  const record = await finished(journal, "0123456789", { dialect: "gitlab" });
  scripted.jobs.set(record.stored.id, { text: "01", state: null, checksum: "", reports: 0, callsAfterEnd: 0 });
  expect(await outbox.deliver(record, { sent: 7, offered: 7, gone: false })).toBe("delivered");
  expect(scripted.jobs.get(record.stored.id)?.text).toBe("0123456789");

  const other = await finished(journal, "0123456789", { dialect: "gitlab" });
  scripted.answerWith((call) =>
    call.call === "trace" ? { status: "running", next: 1e9, intervalMs: undefined } : undefined,
  );
  expect(await outbox.deliver(other, atStart)).toBe("delivered");
  expect(scripted.jobs.get(other.stored.id)).toMatchObject({ state: "success", checksum: undefined });

  const third = await finished(journal, "0123456789", { dialect: "gitlab" });
  scripted.answerWith((call) =>
    call.call === "trace" && call.job === third.stored.id
      ? { status: "running", next: 0, intervalMs: undefined }
      : undefined,
  );
  expect(await outbox.deliver(third, atStart)).toBe("delivered");
  expect(scripted.jobs.get(third.stored.id)?.state).toBe("success");
});

test.each([
  ["its beginning", 0],
  ["always the same byte", 5],
  ["a byte that it was never sent", 1e9],
])(
  "a GitLab that answers each piece with 416 and wants %s gets the state after some rounds, and a word of what is missing",
  async (_what, next) => {
    const { journal, scripted, outbox, log } = await setUp((call) =>
      call.call === "trace" ? { status: "running", next, intervalMs: undefined } : undefined,
    );
    const record = await finished(journal, "0123456789", { dialect: "gitlab" });
    expect(await outbox.deliver(record, atStart)).toBe("delivered");
    expect(scripted.jobs.get(record.stored.id)).toMatchObject({ state: "success", checksum: undefined, reports: 1 });
    const pieces = scripted.calls.flatMap((call) => (call.call === "trace" ? [call.text] : []));
    expect(pieces.length).toBe(MOST_DISAGREEMENTS + 1);
    const held = next > 10 ? 0 : next;
    expect(pieces.at(-1)).toContain(`it has ${held} of 10 bytes, the rest is missing here`);
    expect(log.lines.join("\n")).toContain(`it has ${held} of 10 bytes, and the job's state goes without the rest`);
  },
);

test("a GitLab whose place in the trace goes to and fro gets the state after some rounds", async () => {
  let pieces = 0;
  const { journal, scripted, outbox } = await setUp((call) =>
    call.call === "trace" ? { status: "running", next: ++pieces % 2, intervalMs: undefined } : undefined,
  );
  const record = await finished(journal, "0123456789", { dialect: "gitlab" });
  expect(await outbox.deliver(record, atStart)).toBe("delivered");
  expect(scripted.jobs.get(record.stored.id)).toMatchObject({ state: "success", checksum: undefined, reports: 1 });
});

test("an AlloyCI that answers 416 whenever there is a trace gets the state without", async () => {
  const { journal, scripted, outbox } = await setUp((call) => {
    if (call.call === "trace") return { status: "running", next: call.from, intervalMs: undefined };
    return call.trace === null ? undefined : failure(416);
  });
  const record = await finished(journal, "0123456789\n".repeat(100_000));
  expect(await outbox.deliver(record, atStart)).toBe("delivered");
  expect(scripted.jobs.get(record.stored.id)).toMatchObject({ state: "success", reports: 1 });
});

test("of a trace that was never sent no byte is left out, wherever GitLab says that it is", async () => {
  let odd = true;
  const { journal, scripted, outbox } = await setUp((call) => {
    if (call.call !== "trace" || !odd) return undefined;
    odd = false;
    return { status: "running", next: 8, intervalMs: undefined };
  });
  const trace = "0123456789".repeat(200_000);
  const record = await finished(journal, trace, { dialect: "gitlab" });
  expect(await outbox.deliver(record, { sent: 0, offered: 5, gone: false })).toBe("delivered");
  expect(scripted.jobs.get(record.stored.id)?.text).toBe(trace);
});

test("a coordinator that is not ready is asked again, one that wants the trace anew gets it", async () => {
  let updates = 0;
  const { journal, scripted, outbox } = await setUp((call) => {
    if (call.call === "trace" || ++updates > 4) return undefined;
    return updates <= 2
      ? { kind: "again", afterMs: 2 }
      : updates === 3
        ? { kind: "resend" }
        : { kind: "again", afterMs: 2 };
  });
  const record = await finished(journal, "trace\n", { dialect: "gitlab" });
  expect(await outbox.deliver(record, { sent: 6, offered: 6, gone: false })).toBe("delivered");
  expect(scripted.calls.map(({ call }) => call).join(" ")).toBe("update update update trace update update");
  const other = await finished(journal, "trace\n", { dialect: "gitlab" });
  scripted.answerWith((call) =>
    call.call === "update" && call.update.checksum !== undefined ? { kind: "resend" } : undefined,
  );
  expect(await outbox.deliver(other, { sent: 6, offered: 6, gone: false })).toBe("delivered");
});

test("a trace that GitLab wants again from its start goes in large pieces, however little of it was left", async () => {
  const { journal, scripted, outbox } = await setUp();
  const trace = Buffer.alloc(300 * 1024, "0123456789abcdef\n");
  const record = await finished(journal, trace, { dialect: "gitlab" });
  expect(await outbox.deliver(record, { sent: trace.length - 100, offered: trace.length - 100, gone: false })).toBe(
    "delivered",
  );
  expect(scripted.jobs.get(record.stored.id)?.text).toBe(trace.toString());
  expect(scripted.calls.map(({ call }) => call)).toEqual(["trace", "trace", "update"]);
});

test.each([
  ["alloy", { kind: "again", afterMs: 2 }],
  ["gitlab", { kind: "again", afterMs: 2 }],
  ["alloy", { kind: "resend" }],
  ["gitlab", { kind: "resend" }],
] as const)(
  "%s that answers %o for ever gets fewer and fewer calls, and none when the result is too old",
  async (dialect, answer) => {
    let maxAgeMs = 1e9;
    const { journal, scripted, outbox } = await setUp((call) => (call.call === "update" ? answer : undefined), {
      maxAgeMs: () => maxAgeMs,
      timing: { ...quick, firstMs: 20, maxMs: 1e6 },
    });
    const delivery = outbox.deliver(await finished(journal, "trace\n", { dialect }), atStart);
    if (answer.kind === "resend") {
      await pause(500, never);
      expect(scripted.calls.length).toBeLessThan(25);
    } else await scripted.called(({ call }) => call === "update");
    maxAgeMs = 1;
    expect(await delivery).toBe("expired");
  },
);

test.each([403, 404, 409])("after %i nothing more is sent", async (status) => {
  const { journal, scripted, outbox, path } = await setUp(() => failure(status));
  const record = await finished(journal, "trace");
  expect(await outbox.deliver(record, atStart)).toBe("refused");
  expect(scripted.calls).toHaveLength(1);
  expect(await readdir(join(path, "jobs"))).toEqual([]);
});

test("a job that is over for GitLab is not reported, for AlloyCI it is: its trace would be lost", async () => {
  const { journal, scripted, outbox } = await setUp();
  expect(
    await outbox.deliver(await finished(journal, "t", { dialect: "gitlab" }), { sent: 0, offered: 0, gone: true }),
  ).toBe("refused");
  expect(scripted.calls).toEqual([]);
  expect(await outbox.deliver(await finished(journal, "t"), { sent: 0, offered: 0, gone: true })).toBe("delivered");
});

test("after an outage two hundred results drain at once, each exactly once, with few calls while it lasts", async () => {
  let away = true;
  const { journal, scripted, outbox, log } = await setUp(() => (away ? failure(0) : undefined));
  const records = await Promise.all(
    Array.from({ length: 200 }, (_, index) =>
      finished(journal, `trace of ${index}\n`, index % 2 ? { dialect: "gitlab" } : {}),
    ),
  );
  const deliveries = records.map((record) => outbox.deliver(record, atStart));
  await scripted.called(() => scripted.calls.length >= 14);
  expect(outbox.gauges()).toMatchObject({ entries: 200 });
  const during = scripted.calls.length;
  expect(during).toBeLessThan(40);
  away = false;
  const start = performance.now();
  expect(new Set(await Promise.all(deliveries))).toEqual(new Set(["delivered"]));
  expect(performance.now() - start).toBeLessThan(10_000);
  for (const [index, { stored }] of records.entries()) {
    expect(scripted.jobs.get(stored.id)).toMatchObject({ text: `trace of ${index}\n`, reports: 1, callsAfterEnd: 0 });
  }
  expect(log.lines).toHaveLength(2);
  expect(log.lines[0]).toMatch(
    /^warn http:\/\/coordinator.test\/ takes no results: the call failed: answered 0; 200 wait/,
  );
  expect(log.lines[1]).toMatch(/^info http:\/\/coordinator.test\/ takes results again after \d+ s/);
});

test("that somebody else was answered ends the wait", async () => {
  let away = true;
  const slow = { ...quick, firstMs: 600_000, maxMs: 600_000, probeMaxMs: 600_000 };
  const { journal, scripted, outbox } = await setUp(() => (away ? failure(503) : undefined), { timing: slow });
  const first = outbox.deliver(await finished(journal, "a"), atStart);
  await scripted.called(() => true);
  await pause(5, never);
  const second = outbox.deliver(await finished(journal, "b"), atStart);
  away = false;
  outbox.answered("http://elsewhere.test/");
  outbox.answered("http://coordinator.test/");
  // The first report waits for a reason of its own, for longer than the outage, and keeps its time.
  expect(await second).toBe("delivered");
  await outbox.close(AbortSignal.abort());
  expect(await first).toBe("kept");
});

test("results that hang or fail for their own sake delay no other", async () => {
  const { journal, outbox, scripted } = await setUp();
  const bad = await Promise.all(Array.from({ length: 4 }, () => finished(journal, "bad")));
  const ids = new Set(bad.map(({ stored }) => stored.id));
  scripted.answerWith((call) => (ids.has(call.job) ? (Number(call.job) % 2 ? "hang" : failure(500)) : undefined));
  const stuck = bad.map((record) => outbox.deliver(record, atStart));
  for (let index = 0; index < 20; index++) {
    expect(await outbox.deliver(await finished(journal, "good"), atStart)).toBe("delivered");
  }
  await outbox.close(AbortSignal.abort());
  expect(await Promise.all(stuck)).toEqual(["kept", "kept", "kept", "kept"]);
});

test("a trace that is too large is cut in the middle until it is taken, and says so", async () => {
  const most = 100_000;
  const { journal, scripted, outbox, log } = await setUp((call) =>
    call.call === "update" && Buffer.byteLength(call.trace ?? "") > most ? { kind: "too_large" } : undefined,
  );
  const trace = `first line\n${"äöü in the middle\n".repeat(100_000)}ERROR: Job failed: exit status 3\n`;
  const record = await finished(journal, trace);
  expect(await outbox.deliver(record, atStart)).toBe("delivered");
  const stored = scripted.jobs.get(record.stored.id);
  expect(stored?.text).toMatch(/^first line\n/);
  expect(stored?.text).toMatch(/ERROR: Job failed: exit status 3\n$/);
  expect(stored?.text).toMatch(/WARNING: the coordinator did not take the whole output; \d+ bytes are left out here/);
  expect(stored?.text).not.toContain("\ufffd");
  expect(log.lines.join()).toContain(`does not take the trace of job ${record.stored.id}`);
  const bytes = /; (\d+) bytes are left out/.exec(stored?.text ?? "")?.[1];
  const notice = /\u001b\[0m\u001b\[33;1mWARNING.*\n/.exec(stored?.text ?? "")?.[0] ?? "";
  expect(Buffer.byteLength(stored?.text ?? "") - Buffer.byteLength(notice) + Number(bytes)).toBe(
    Buffer.byteLength(trace),
  );
});

test("a coordinator that fails whenever there is a trace gets the state without", async () => {
  const { journal, scripted, outbox } = await setUp((call) =>
    call.call === "update" && call.trace !== null ? failure(500) : undefined,
  );
  const record = await finished(journal, "long line without end ".repeat(50_000));
  expect(await outbox.deliver(record, atStart)).toBe("delivered");
  expect(scripted.jobs.get(record.stored.id)).toMatchObject({ state: "success", reports: 1 });
  const sizes = scripted.calls.flatMap((call) => (call.call === "update" ? [call.trace?.length ?? -1] : []));
  expect(new Set(sizes).size).toBe(5);
});

test("GitLab that fails at the trace gets the state, without a checksum", async () => {
  for (const status of [500, 413]) {
    const { journal, scripted, outbox } = await setUp((call) => (call.call === "trace" ? failure(status) : undefined));
    const record = await finished(journal, "x".repeat(200_000), { dialect: "gitlab" });
    expect(await outbox.deliver(record, atStart)).toBe("delivered");
    expect(scripted.jobs.get(record.stored.id)).toMatchObject({ state: "success", checksum: undefined });
  }
});

test("a job that GitLab never heard was taken is left to others, also where its trace is refused", async () => {
  for (const status of [500, 413]) {
    const { journal, scripted, outbox } = await setUp((call) => {
      if (call.call === "trace") return failure(status);
      return call.update.state === "pending" ? { kind: "done", status: "running" } : failure(400);
    });
    const record = await finished(journal, "x".repeat(200_000), { dialect: "gitlab" });
    expect(await outbox.deliver(record, atStart)).toBe("refused");
    const states = new Set(scripted.calls.flatMap((call) => (call.call === "update" ? [call.update.state] : [])));
    expect(states).toEqual(new Set(["pending", "success"]));
  }
});

test("an outage by 500 of everything, however long, costs no byte of a trace", async () => {
  let answered = 0;
  const { journal, scripted, outbox } = await setUp(() => (++answered < 40 ? failure(500) : undefined));
  const trace = "line\n".repeat(300_000);
  const record = await finished(journal, trace);
  expect(await outbox.deliver(record, atStart)).toBe("delivered");
  expect(scripted.jobs.get(record.stored.id)?.text).toBe(trace);
});

test("a result that is too old is given up, after one try", async () => {
  const { journal, scripted, outbox, path, log } = await setUp(() => failure(0), { maxAgeMs: () => 1000 });
  const record = await finished(journal, "x", {}, { ...success, at: "2020-01-01T00:00:00Z" });
  expect(outbox.gauges()).toMatchObject({ entries: 0 });
  expect(await outbox.deliver(record, atStart)).toBe("expired");
  expect(scripted.calls).toHaveLength(1);
  expect(await readdir(join(path, "jobs"))).toEqual([]);
  expect(log.lines.join()).toContain("could not be delivered to http://coordinator.test/ in time; it is given up");
});

test("close lets deliveries end, keeps the rest, and the next process goes on exactly there", async () => {
  let away = true;
  const { journal, scripted, outbox, open, path, close } = await setUp();
  const slow = await finished(journal, "slow");
  scripted.answerWith((call) => (away && call.job !== slow.stored.id ? failure(0) : undefined));
  const waiting = await Promise.all(
    Array.from({ length: 5 }, () => finished(journal, "0123456789", { dialect: "gitlab" })),
  );
  const deliveries = waiting.map((record) => outbox.deliver(record, { sent: 4, offered: 4, gone: false }));
  for (const record of waiting) {
    scripted.jobs.set(record.stored.id, { text: "0123", state: null, checksum: "", reports: 0, callsAfterEnd: 0 });
    record.acknowledged(4);
  }
  await scripted.called(() => true);
  await outbox.close(never);
  expect(new Set(await Promise.all(deliveries))).toEqual(new Set(["kept"]));
  expect(await outbox.deliver(slow, atStart)).toBe("kept");
  expect(scripted.closed).toBe(1);
  await close();

  away = false;
  const next = await openState(path);
  const second = open();
  const adopted = await Promise.all(next.journal.leftovers().map((leftover) => second.adopt(leftover)));
  expect(adopted).toEqual(Array.from({ length: 6 }, () => "delivered"));
  for (const { stored } of waiting) {
    expect(scripted.jobs.get(stored.id)).toMatchObject({ text: "0123456789", reports: 1, callsAfterEnd: 0 });
  }
  expect(await readdir(join(path, "jobs"))).toEqual([]);
  await second.close(never);
});

test("close waits for the delivery under way, and no longer than it may", async () => {
  const { journal, scripted, outbox } = await setUp(() => "hang");
  const delivery = outbox.deliver(await finished(journal, "x"), atStart);
  await scripted.called(() => true);
  using limit = deadline(never, 30, new Error("time is up"));
  await outbox.close(limit.signal);
  expect(limit.signal.aborted).toBe(true);
  expect(await delivery).toBe("kept");
});

test("a spool that is gone costs the trace, not the state", async () => {
  const { journal, scripted, outbox } = await setUp();
  for (const dialect of ["alloy", "gitlab"] as const) {
    const record = await finished(journal, "x", { dialect });
    await rm(record.tracePath);
    expect(await outbox.deliver(record, { sent: 1, offered: 1, gone: false })).toBe("delivered");
    expect(scripted.jobs.get(record.stored.id)).toMatchObject({ state: "success", checksum: undefined });
  }
  expect([...scripted.jobs.values()][0]?.text).toContain("the output of this job was lost on the runner");
});

test("a job that was never kept is answered from memory", async () => {
  const { scripted, outbox } = await setUp();
  const failed: FinalReport = { ...success, state: "failed", reason: "runner_system_failure" };
  for (const dialect of ["alloy", "gitlab"] as const) {
    const stored = storedJob({ dialect });
    expect(await outbox.answer(stored, failed, Buffer.from("cannot\n"))).toBe("delivered");
    expect(scripted.jobs.get(stored.id)).toMatchObject({ text: "cannot\n", state: "failed", reports: 1 });
  }
});

test("close waits for a delivery that was announced, and lets it happen", async () => {
  const { journal, scripted, outbox } = await setUp();
  const record = await finished(journal, "x");
  const announced = Promise.withResolvers<{ sent: number; offered: number; gone: boolean }>();
  const delivery = outbox.deliver(record, announced.promise);
  expect(outbox.has("http://coordinator.test/", record.stored.id)).toBe(true);
  const closing = outbox.close(never);
  expect(await outbox.deliver(record, atStart)).toBe("kept");
  announced.resolve({ sent: 0, offered: 0, gone: false });
  expect(await delivery).toBe("delivered");
  await closing;
  expect(scripted.jobs.get(record.stored.id)?.reports).toBe(1);
});

test("a clock that is set while a result waits does not make it too old", async () => {
  let failures = 0;
  const { journal, outbox } = await setUp(
    (call) => {
      if (call.call !== "update" || failures++ > 2) return undefined;
      const real = Date.now();
      vi.spyOn(Date, "now").mockImplementation(() => real + 50 * 31_557_600_000);
      return failure(0);
    },
    { maxAgeMs: () => 60_000 },
  );
  onTestFinished(() => void vi.restoreAllMocks());
  const record = await finished(journal, "all\n", {}, { ...success, at: new Date().toISOString() });
  expect(await outbox.deliver(record, atStart)).toBe("delivered");
  expect(failures).toBeGreaterThan(2);
});
