import { hostname, uptime } from "node:os";
import { expect, onTestFinished, test } from "vitest";
import type { Note } from "../../src/executor/prepare.ts";
import { keepJob } from "../../src/job/life/durable/keep.ts";
import { lookAtLife } from "../../src/job/life/durable/look.ts";
import { jobKeyOf, storedJobOf } from "../../src/job/life/outcome/report.ts";
import type { LeftoverJob } from "../../src/journal/contract.ts";
import type { LifeEntry } from "../../src/journal/live/life.ts";
import { startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { never } from "../../src/time.ts";
import { runnerLine } from "../../src/trace/lines.ts";
import { Sink, sampleRequest } from "../support/executor-kit.ts";
import { openHandling } from "./handling.ts";
import { recordingLog } from "./stand.ts";

const key = Buffer.alloc(32, 9);

/**
 * A job of which an earlier process has noted so much, handled by this one.
 * @param noted hears where its place is found, which that process has made
 */
async function takenUp(noted: (now: number, handle: Note) => readonly LifeEntry[], notes: readonly Note[] = []) {
  const local = await startCoordinator({ dialect: "gitlab" });
  onTestFinished(() => local.close());
  const { token } = local.addRunner();
  const handling = await openHandling({ url: local.url, token, entry: "durable = true", liveKey: key });
  onTestFinished(() => handling.close());
  const job = local.enqueue({ script: ["echo it runs"], afterScript: ["echo afterwards"] });
  const received = await handling.receive();
  const { entry, journal, executor, logged } = handling;
  const stored = storedJobOf(received, entry, jobKeyOf(received, entry.id), journal.boot);
  const record = await journal.accept(stored);
  for (const note of notes) await record.remember(note);
  const { dir } = record;
  const log = recordingLog(logged);
  const kept = keepJob({
    ...{ dir, jobKey: stored.key, key, version: "2.0.0", boot: stored.boot, job: received, entry: entry.written },
    ...{ secrets: [token, received.token], prefixes: [], log },
  });
  const request = { ...sampleRequest(), job: received, jobKey: stored.key, runnerId: entry.id };
  const place = noted.length < 2 ? null : await executor.prepare(request, new Sink(), never);
  for (const one of noted(uptime(), place?.handle ?? { kind: "none" })) kept.note(one);
  kept.letGo();
  const found = await lookAtLife(dir, stored.key, key, token);
  if (found.is !== "whole") throw new Error(JSON.stringify(found));
  const buried: string[] = [];
  const leftover: LeftoverJob = { record, notes, acknowledged: 0, diedAt: null };
  const bury = async (why: string) => {
    buried.push(why);
    return { delivered: Promise.resolve<"kept">("kept") };
  };
  // Its directories are locked by this process, which is the one that made it.
  const adopting = place === null ? executor : { ...executor, adopt: async () => place };
  const handled = await handling.handle(received, never, adopting, 0, { leftover, life: found.kept, bury });
  await handled.delivered;
  return { job, outcome: handled.outcome, buried };
}

const limit = (now: number): LifeEntry => ({ kind: "limit", uptimeSeconds: now + 3600, boot: "" });
const preparing = (attempt: number, now: number): LifeEntry => ({ kind: "preparing", attempt, uptimeSeconds: now });
const died = { result: "failed", reason: "runner_system_failure" };

test("of which nothing was begun runs from its beginning", async () => {
  const { job, outcome, buried } = await takenUp(() => []);
  expect([outcome, buried]).toEqual([{ result: "success" }, []]);
  expect(job.trace).toMatch(/^\S*Running with[\s\S]*it runs[\s\S]*afterwards[\s\S]*Job succeeded/);
});

test("that was being prepared is prepared anew: that its runner died is no failure of that", async () => {
  const { job, outcome } = await takenUp((now) => [limit(now), preparing(1, now)]);
  expect(outcome).toEqual({ result: "success" });
  expect(job.trace.match(/it runs$/gm)).toHaveLength(1);
  const last = await takenUp((now) => [limit(now), preparing(3, now), preparing(3, now), preparing(3, now)]);
  expect([last.outcome, last.buried]).toEqual([{ result: "success" }, []]);
});

test("whose place is gone is prepared anew where nothing of it has run, and else is lost", async () => {
  const prepared: LifeEntry = { kind: "prepared", handle: { kind: "shell-job", root: "/nowhere" } };
  const fresh = await takenUp((now) => [limit(now), preparing(1, now), prepared]);
  expect(fresh.outcome).toEqual({ result: "success" });
  const begun = await takenUp((now) => [
    ...[limit(now), preparing(1, now), prepared],
    { kind: "begun", stage: 0, uptimeSeconds: now },
  ]);
  expect(begun.outcome).toMatchObject(died);
  expect(begun.buried).toEqual(["what it was to do was not kept"]);
  const bound = await takenUp((now) => [limit(now), preparing(1, now), { kind: "prepared", handle: null }]);
  expect(bound.buried).toEqual(["its scripts end with the runner"]);
});

test("whose place was made, but not said to be, has its section of the trace ended, and ended once", async () => {
  const began = ["Running with\n", "section_start:1:prepare_executor\r\x1b[0K\n"];
  const ends = /section_end:\d+:prepare_executor/g;
  const sentence = `Running on ${hostname()}...`;
  for (const said of [began, [...began, runnerLine(sentence, "plain").toString()]]) {
    const own = said.map((text, n): LifeEntry => ({ kind: "own", at: said.slice(0, n).join("").length, text }));
    const { job, outcome } = await takenUp((now, handle) => [
      ...[limit(now), ...own.slice(0, 2), preparing(1, now)],
      ...[{ kind: "prepared", handle } as const, ...own.slice(2)],
    ]);
    expect(outcome).toEqual({ result: "success" });
    expect(job.trace.match(ends)).toHaveLength(1);
    expect(job.trace.split(sentence)).toHaveLength(2);
    expect(job.trace.search(ends)).toBeGreaterThan(job.trace.indexOf(sentence));
    expect(job.trace.indexOf("it runs")).toBeGreaterThan(job.trace.search(ends));
  }
});

test("that takes its runner with it each time is not gone on with for ever", async () => {
  const often = Array.from({ length: 20 }, () => 0);
  const { buried } = await takenUp((now) =>
    often.map(() => ({ kind: "adopted", uptimeSeconds: now - 60, pid: 1 }) as const),
  );
  expect(buried).toEqual(["it was gone on with 20 times within 10 min"]);
  const longAgo = await takenUp((now) =>
    often.map(() => ({ kind: "adopted", uptimeSeconds: Math.max(0, now - 700), pid: 1 }) as const),
  );
  expect(longAgo.buried).toEqual([]);
});

test("whose time is over, or that was told to stop, runs no script of its author's", async () => {
  const late = await takenUp((now) => [{ kind: "limit", uptimeSeconds: now - 5, boot: "" }, preparing(1, now)]);
  expect(late.outcome).toMatchObject({ result: "failed", reason: "job_execution_timeout" });
  expect(late.job.trace).not.toContain("it runs");
  const stop: LifeEntry = { kind: "stopping", why: "canceled", message: "by the coordinator" };
  const gone = await takenUp((now) => [limit(now), preparing(1, now), stop]);
  expect(gone.outcome).toEqual({ result: "canceled", message: "by the coordinator" });
});

test("that had finished is reported as it had, although its place is gone by then", async () => {
  const prepared: LifeEntry = { kind: "prepared", handle: { kind: "shell-job", root: "/nowhere" } };
  const { job, outcome, buried } = await takenUp((now) => [
    ...[limit(now), preparing(1, now), prepared],
    { kind: "begun", stage: 0, uptimeSeconds: now },
    ...[{ kind: "over" } as const, { kind: "finished", outcome: { result: "success" } } as const],
  ]);
  expect([outcome, buried]).toEqual([{ result: "success" }, []]);
  expect(job.status).toBe("success");
});

test("that had finished is reported as it had, and says nothing more", async () => {
  const { job, outcome } = await takenUp((now) => [
    ...[limit(now), preparing(1, now)],
    { kind: "over" },
    {
      kind: "finished",
      outcome: { result: "failed", reason: "script_failure", message: "exit status 4", exitCode: 4 },
    },
  ]);
  expect(outcome).toMatchObject({ result: "failed", exitCode: 4 });
  expect(job.exitCode).toBe(4);
  expect(job.trace).not.toContain("restarted");
});
