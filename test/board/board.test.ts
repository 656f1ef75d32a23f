import { expect, test } from "vitest";
import { createBoard } from "../../src/board/board.ts";
import type { JobCard, JobHandles, JobView, RunnerCard, ShownTrace } from "../../src/board/contract.ts";
import type { Outcome } from "../../src/job/job.ts";
import { sampleJob } from "../support/job.ts";

const card: JobCard = {
  id: "17",
  title: "acme/widget: unit",
  page: "",
  runner: "7e3b05c2",
  runnerName: "one",
  receivedAt: 1000,
};
const shown = (text: string): ShownTrace => ({
  size: text.length,
  ended: false,
  read: async (from, maxBytes) => Buffer.from(text).subarray(from, from + maxBytes),
});
const handles: JobHandles = { trace: shown("last line\n"), cancel: () => {}, usage: async () => ({}) };

test("a job is shown from its arrival to its delivery, and then among the last", async () => {
  const board = createBoard();
  const seen: JobView[] = [];
  const stop = board.watch((job) => seen.push(job));
  const entry = board.add(card, handles);
  entry.moved({ at: "running", stage: "build_script" });
  entry.traced(5);
  entry.traced(7);
  expect(board.jobs()).toMatchObject([{ ...card, traceBytes: 12, progress: { stage: "build_script" } }]);
  entry.moved({ at: "finished", outcome: { result: "success" } });
  entry.moved({ at: "delivering", outcome: { result: "success" } });
  entry.end();
  entry.end();
  expect(board.jobs()).toEqual([]);
  expect(board.finished()).toMatchObject([{ id: "17", progress: { at: "delivering" } }]);
  expect(seen.map(({ progress }) => progress.at)).toEqual([
    ...["received", "running", "running", "running", "finished", "delivering", "delivering"],
  ]);
  stop();
  board.add(card, handles);
  expect(seen).toHaveLength(7);
});

test("a cancel that comes before the job has begun stops it as soon as it can be stopped", () => {
  const board = createBoard();
  const entry = board.add(card, handles);
  expect(board.cancel(board.jobs()[0]?.number ?? 0)).toBe(true);
  let canceled = 0;
  entry.offer({ trace: shown("") });
  entry.offer({ cancel: () => canceled++ });
  expect(canceled).toBe(1);
});

test("its trace can be read and it can be canceled, as long as it is in progress", async () => {
  const board = createBoard();
  const entry = board.add(card, handles);
  let canceled = 0;
  entry.offer({ trace: shown("0123456789") });
  entry.offer({ cancel: () => canceled++ });
  const { number } = board.jobs()[0] ?? { number: 0 };
  expect(String(await board.trace(number)?.read(6, 4))).toBe("6789");
  expect(board.cancel(number)).toBe(true);
  expect(board.cancel(number + 1)).toBe(false);
  entry.end();
  expect(board.trace(number)).toBeNull();
  expect(board.cancel(number)).toBe(false);
  expect(canceled).toBe(1);
});

test("the time of each stage is kept, a further try to prepare with the first, and not without bound", async () => {
  const board = createBoard();
  const entry = board.add(card, handles);
  entry.moved({ at: "resolving" });
  for (const attempt of [1, 2]) entry.moved({ at: "preparing", attempt });
  entry.moved({ at: "running", stage: "get_sources" });
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(board.jobs()[0]?.stages.map(({ name }) => name)).toEqual(["resolve_secrets", "prepare_executor"]);
  for (let n = 0; n < 200; n++) entry.moved({ at: "running", stage: `step_${n}` });
  entry.moved({ at: "finished", outcome: { result: "success" } });
  entry.moved({ at: "delivering", outcome: { result: "success" } });
  entry.end();
  const stages = board.finished()[0]?.stages ?? [];
  expect(stages.slice(0, 4).map(({ name }) => name)).toEqual([
    "resolve_secrets",
    "prepare_executor",
    "get_sources",
    "step_0",
  ]);
  expect(stages[2]?.ms).toBeGreaterThanOrEqual(19);
  expect(stages).toHaveLength(60);
});

test("the last ones that ended are kept, and no more of them", () => {
  const board = createBoard();
  for (let id = 0; id < 500; id++) board.add({ ...card, id: String(id) }, handles).end();
  expect(board.finished()).toHaveLength(200);
  expect(board.finished()[0]?.id).toBe("499");
});

test("a job or an entry as a whole is refused by the compiler, and would not show its secrets", () => {
  const board = createBoard();
  const job = sampleJob();
  // @ts-expect-error a job has a token and variables
  board.add({ ...card, ...job }, handles);
  const entry = { ...card, token: "secret-runner-token", environment: [] };
  // @ts-expect-error an entry has a token and an environment
  board.add(entry, handles);
  const named = { ...card, variables: [{ key: "A", value: "secret-value" }] };
  // @ts-expect-error variables under any type
  const shown = board.add(named, handles);
  const outcome: Outcome = { result: "canceled", message: "it may quote what the job said" };
  // @ts-expect-error the words of an outcome
  expect(() => shown.moved({ at: "finished", outcome })).not.toThrow();
  const text = JSON.stringify(board.jobs().slice(0, 3));
  for (const secret of [job.token, "secret-runner-token", "secret-value"]) expect(text).not.toContain(secret);
});

test("two coordinators' jobs of one id are told apart", async () => {
  const board = createBoard();
  board.add(card, { ...handles, trace: shown("first") });
  board.add({ ...card, runnerName: "two" }, { ...handles, trace: shown("second") });
  const [first, second] = board.jobs().map(({ number }) => board.trace(number));
  expect(String(await first?.read(0, 9))).toBe("first");
  expect(String(await second?.read(0, 9))).toBe("second");
});

test("an entry is there until it is disposed of, and its activity is looked up when somebody asks", () => {
  const board = createBoard();
  const runner: RunnerCard = { id: "7e3b05c2", name: "one", executor: "shell", origin: "http://ci", limit: 4 };
  let asked = 0;
  const wide = { ...runner, password: "hunter2-hunter2" };
  const there = board.addRunner(wide, () => ({ at: "idle", answeredAt: ++asked }));
  expect(asked).toBe(0);
  expect(board.runners()).toEqual([{ ...runner, activity: { at: "idle", answeredAt: 1 } }]);
  // @ts-expect-error an entry as a whole has a token
  board.addRunner({ ...runner, token: "secret-runner-token" }, () => ({ at: "paused" }))[Symbol.dispose]();
  there[Symbol.dispose]();
  expect(board.runners()).toEqual([]);
});

test("what else a card carries is not kept", () => {
  const board = createBoard();
  const wide = { ...card, password: "hunter2-hunter2" };
  board.add(wide, handles);
  expect(JSON.stringify(board.jobs())).not.toContain("hunter2");
});
