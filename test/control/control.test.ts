import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test, vi } from "vitest";
import { createBoard } from "../../src/board/board.ts";
import type { JobCard, JobHandles, ShownTrace } from "../../src/board/contract.ts";
import { createControlClient } from "../../src/control/client.ts";
import { lastLine } from "../../src/control/last-line.ts";
import {
  canceledSchema,
  runnersSchema,
  statusSchema,
  type TraceLine,
  traceLineSchema,
} from "../../src/control/protocol.ts";
import { openControl } from "../../src/control/server.ts";
import { doingOf } from "../../src/control/words.ts";
import { createLog } from "../../src/log.ts";
import { never } from "../../src/time.ts";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Opens a socket for a board, and a client of it. */
async function open() {
  const stateDir = await mkdtemp(join(tmpdir(), "alloy-control-"));
  closers.push(() => rm(stateDir, { recursive: true, force: true }));
  const board = createBoard();
  const told: unknown[] = [];
  const log = createLog({ level: "error", format: "text", output: { write: () => {}, flush: async () => {} } });
  const server = await openControl(
    stateDir,
    {
      board,
      version: "test",
      about: () => ({ config: "/etc/config.toml", state: "running", concurrent: 1 }),
      figures: () => [],
      pause: (ids) => told.push(["pause", ids]),
      resume: (ids) => told.push(["resume", ids]),
      tidy: async () => [],
      drain: () => told.push("drain"),
      reload: async () => ({ problem: "not today" }),
    },
    log,
  );
  closers.push(() => server.close());
  return { board, told, client: createControlClient({ stateDir, named: stateDir, uid: process.getuid?.() }) };
}

const card: JobCard = {
  id: "17",
  title: "acme/widget: unit",
  page: "",
  runner: "aaaa1111",
  runnerName: "one",
  receivedAt: 1000,
};

/** A trace that grows when the test says so; its file can be closed while somebody reads it. */
function growing() {
  let bytes = Buffer.alloc(0);
  let closed = false;
  const state = { ended: false };
  const trace: ShownTrace = {
    get size() {
      return bytes.length;
    },
    get ended() {
      return state.ended;
    },
    read: async (from, most) => {
      if (closed) throw new Error("closed");
      return bytes.subarray(from, from + most);
    },
  };
  return {
    trace,
    state,
    close: () => {
      closed = true;
    },
    add(text: string | Buffer): number {
      const more = Buffer.from(text);
      bytes = Buffer.concat([bytes, more]);
      return more.length;
    },
    all: () => bytes,
  };
}

const handlesOf = (trace: ShownTrace): JobHandles => ({ trace, cancel: () => {}, usage: async () => ({}) });

test("a trace with times is shown without them, as it is written and from its middle", async () => {
  const { board, client } = await open();
  const { trace, state, add } = growing();
  const entry = board.add(card, handlesOf(trace));
  const T = "2026-01-02T03:04:05.123456Z";
  add(`${T} 00O first\n${T} 01O 10%\r\n${T} 01O+20%\n`);
  const read = client.lines("jobs/17/trace?follow=1", traceLineSchema, new AbortController().signal);
  const texts: string[] = [];
  for await (const line of read) {
    if ("end" in line) break;
    texts.push(line.text);
    if (texts.join("") === "first\n10%\r20%\n") {
      state.ended = true;
      add(`${T} 01O Größe\n`);
      entry.traced(1);
    }
  }
  expect(texts.join("")).toBe("first\n10%\r20%\nGröße\n");
  const tail: string[] = [];
  for await (const line of client.lines("jobs/17/trace?from=-30", traceLineSchema, new AbortController().signal)) {
    if ("text" in line) tail.push(line.text);
  }
  expect(tail.join("")).toBe("Größe\n");
  expect(await lastLine(trace)).toBe("Größe");
});

test("a job whose number two coordinators gave out has to be named by its runner, too", async () => {
  const { board, client } = await open();
  const canceled: string[] = [];
  const { trace } = growing();
  board.add(card, { ...handlesOf(trace), cancel: () => canceled.push("one") });
  board.add(
    { ...card, runner: "bbbb2222", runnerName: "two" },
    { ...handlesOf(trace), cancel: () => canceled.push("two") },
  );
  await expect(client.post("jobs/17/cancel", canceledSchema)).rejects.toThrow(
    'There are several jobs 17, of the runners "one" (aaaa1111), "two" (bbbb2222): say which with --runner',
  );
  expect((await client.post("jobs/17/cancel?runner=two", canceledSchema)).job).toMatchObject({ runner: "two" });
  await client.post("jobs/17/cancel?runner=aaaa1111", canceledSchema);
  expect(canceled).toEqual(["two", "one"]);
  await expect(client.post("jobs/17/cancel?runner=three", canceledSchema)).rejects.toThrow(
    /no job 17 of a runner "three"/,
  );
});

test("entries of one name are paused together, and one that cannot be used is none", async () => {
  const { board, told, client } = await open();
  const runner = { executor: "shell", origin: "http://ci", limit: 1 };
  board.addRunner({ ...runner, id: "aaaa1111", name: "twin" }, () => ({ at: "paused" }));
  board.addRunner({ ...runner, id: "bbbb2222", name: "twin" }, () => ({ at: "paused" }));
  board.addRunner({ ...runner, id: "", name: "broken" }, () => ({ at: "unusable", problem: "no token" }));
  expect((await client.post("pause?runner=twin", runnersSchema)).runners).toHaveLength(2);
  expect((await client.post("resume?runner=bbbb2222", runnersSchema)).runners).toMatchObject([{ id: "bbbb2222" }]);
  expect(told).toEqual([
    ["pause", ["aaaa1111", "bbbb2222"]],
    ["resume", ["bbbb2222"]],
  ]);
  await expect(client.post("pause?runner=broken", runnersSchema)).rejects.toThrow('no runner "broken" at work');
});

test("a trace is followed whole while its file is closed and read otherwise, and characters are not torn", async () => {
  const { board, client } = await open();
  const live = growing();
  const entry = board.add(card, handlesOf(live.trace));
  const lines: TraceLine[] = [];
  const reading = (async () => {
    for await (const line of client.lines("jobs/17/trace?follow=1", traceLineSchema, never)) lines.push(line);
  })();
  // The text is longer than a piece, and a piece ends in the middle of a character's bytes.
  const text = "€".repeat(50_000);
  entry.traced(live.add(text));
  const seen = () => lines.map((line) => ("text" in line ? line.text : "")).join("");
  await vi.waitFor(() => expect(seen().length).toBeGreaterThan(40_000));
  const stored = growing();
  stored.add(live.all());
  stored.add("the end\n");
  stored.state.ended = true;
  live.add("the end\n");
  live.state.ended = true;
  live.close();
  entry.offer({ trace: stored.trace });
  entry.moved({ at: "finished", outcome: { result: "success" } });
  await reading;
  expect(seen()).toBe(`${text}the end\n`);
  expect(lines.at(-1)).toMatchObject({ end: 150_008, job: { state: "finished", outcome: { result: "success" } } });
});

test("a job that asks for its secrets is at a stage, for programs that know the states of before", async () => {
  const { board, client } = await open();
  const entry = board.add(card, handlesOf(growing().trace));
  entry.moved({ at: "resolving" });
  const { jobs } = await client.get("status", statusSchema);
  expect(jobs).toMatchObject([{ state: "running", stage: "resolve_secrets" }]);
  expect(jobs.map(doingOf)).toEqual(["resolve_secrets"]);
});

test("whoever follows hears of the end also where the coordinator has the trace first", async () => {
  const { board, client } = await open();
  const live = growing();
  const entry = board.add(card, handlesOf(live.trace));
  live.add("all\n");
  const lines: TraceLine[] = [];
  for await (const line of client.lines("jobs/17/trace?follow=1&from=-2", traceLineSchema, never)) {
    lines.push(line);
    if ("text" in line) entry.end();
  }
  expect(lines).toMatchObject([
    { at: 2, text: "l\n" },
    { end: 4, job: { state: "ended" } },
  ]);
});

test("the last line is text, whatever a script printed", async () => {
  const { trace, add } = growing();
  add("first\n\x1b[32msecond \x1b]52;c;aGk=\x07\x1b[2Jline\x1b[0m\r\n");
  expect(await lastLine(trace)).toBe("second line");
  add("section_start:1:build_script\r\x1b[0K\n\n");
  expect(await lastLine(trace)).toBe("second line");
  add("10 %\r20 %\u202e\x00!\r");
  expect(await lastLine(trace)).toBe("20 % !");
  add(`${"x".repeat(100_000)}`);
  expect(await lastLine(trace)).toHaveLength(300);
});
