import { afterEach, describe, expect, test, vi } from "vitest";
import type { RunnerView } from "../../src/board/contract.ts";
import { reasonOf } from "../../src/board/reason.ts";
import { Stop } from "../../src/errors.ts";
import { configOf, entryOf, executorOf, quickTiming, type Reply, startServer, supervise } from "./setting.ts";

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function server(reply: () => Reply | Promise<Reply>) {
  const started = await startServer(reply);
  closers.push(() => started.close());
  return started;
}

function supervised(more: Parameters<typeof supervise>[1] = {}) {
  const ends = new AbortController();
  const started = supervise(
    ({ signal }) =>
      new Promise((resolve) => {
        for (const one of [signal, ends.signal]) {
          if (one.aborted) resolve(undefined);
          else one.addEventListener("abort", resolve, { once: true });
        }
      }),
    more,
  );
  closers.push(async () => {
    started.stopping.abort(new Stop("shutting_down", "test ends"));
    await started.supervisor.drain();
  });
  const reasons = (): string[] =>
    started.board.runners().map(({ name, activity }: RunnerView) => `${name}: ${reasonOf(activity, Date.now())}`);
  return {
    ...started,
    ends,
    reasons,
    see: (text: RegExp) => vi.waitFor(() => expect(reasons().join("\n")).toMatch(text)),
  };
}

const farMs = 600_000;
const far = { checkIntervalMs: farMs };
/** A queue that never ends: each request brings a job. */
const endless = (): (() => Reply) => {
  let id = 0;
  return () => ({ job: String(++id) });
};

describe("why an entry takes no job", () => {
  test("the coordinator had nothing", async () => {
    const { url } = await server(() => 204);
    const { supervisor, see } = supervised();
    supervisor.apply(configOf([entryOf(url, "a")], far));
    await see(/^runner a: the coordinator had nothing (?:just now|\d+ s ago)$/);
  });

  test("the coordinator has not answered yet", async () => {
    const { url } = await server(() => () => {});
    const { supervisor, see } = supervised();
    supervisor.apply(configOf([entryOf(url, "a")], far));
    await see(/^runner a: asking the coordinator/);
  });

  test("limit, or concurrent, is reached", async () => {
    const { url } = await server(endless());
    const { supervisor, see } = supervised();
    supervisor.apply(configOf([entryOf(url, "a", { limit: 2 })], { ...far, concurrent: 3 }));
    await see(/^runner a: limit of 2 reached$/);
    supervisor.apply(configOf([entryOf(url, "a", { limit: 2 }), entryOf(url, "b")], { ...far, concurrent: 3 }));
    await see(/^runner a: limit of 2 reached\nrunner b: concurrent of 3 reached$/);
  });

  test("the disk is full, or cannot be looked at", async () => {
    const { url } = await server(() => 204);
    const { supervisor, see } = supervised({ hasRoom: async () => false });
    supervisor.apply(configOf([entryOf(url, "a")], far));
    await see(/^runner a: disk: 1\.2 GB free, min_free_disk 2\.0 GB$/);
  });

  test("the executor has no room", async () => {
    const { url } = await server(() => 204);
    const { supervisor, see } = supervised({ openExecutor: () => executorOf({ reserve: async () => null }) });
    supervisor.apply(configOf([entryOf(url, "a")], far));
    await see(/^runner a: its executor has no room for one more job$/);
  });

  test("the coordinator is in trouble, or does not accept the token", async () => {
    const answers: { a: Reply } = { a: 502 };
    const { url } = await server(() => answers.a);
    const { supervisor, see } = supervised({ timing: { ...quickTiming, troubleFirstMs: farMs, troubleMaxMs: farMs } });
    supervisor.apply(configOf([entryOf(url, "a")], far));
    await see(/^runner a: backing off until \d\d:\d\d:\d\d: status 502$/);
    answers.a = 403;
    supervisor.apply(configOf([entryOf(url, "a")], far));
    await see(/^runner a: its token is not accepted \(403\); asking again at \d\d:\d\d:\d\d$/);
  });

  test("its lines cannot be used, until the configuration is mended", async () => {
    const { url } = await server(() => 204);
    const { supervisor, see, reasons } = supervised();
    const broken = {
      name: "b",
      id: "",
      executor: "shell",
      line: 7,
      problems: [{ place: "config.toml:7", text: "limit must be a number" }],
      reach: null,
    };
    supervisor.apply(configOf([entryOf(url, "a")], { ...far, broken: [broken] }));
    await see(/\nb: cannot be used: config\.toml:7: limit must be a number$/);
    supervisor.apply(configOf([entryOf(url, "a")], far));
    expect(reasons()).toHaveLength(1);
  });

  test("it asks no more, and its last job runs", async () => {
    const { url } = await server(endless());
    const { supervisor, board, see, ends } = supervised();
    supervisor.apply(configOf([entryOf(url, "a", { limit: 1 })], far));
    await see(/limit of 1/);
    supervisor.apply(configOf([], far));
    await see(/^runner a: asks no more; its last jobs run$/);
    ends.abort();
    await vi.waitFor(() => expect(board.runners()).toEqual([]));
  });
});

describe("pausing", () => {
  test("one entry asks for no job until it is resumed; the other goes on, and reloads change nothing", async () => {
    const { url, of, until } = await server(() => 204);
    const { supervisor, see, reasons } = supervised();
    const entries = [entryOf(url, "a"), entryOf(url, "b")];
    supervisor.apply(configOf(entries, { checkIntervalMs: 20 }));
    await until(() => of("a").length > 0 && of("b").length > 0);
    supervisor.pause(["id-a"]);
    expect(reasons()[0]).toBe("runner a: paused");
    const before = of("a").length;
    await until(() => of("b").length > 5);
    supervisor.apply(configOf(entries, { checkIntervalMs: 20 }));
    const seen = of("b").length;
    await until(() => of("b").length > seen + 5);
    // One request may have been on its way.
    expect(of("a").length).toBeLessThanOrEqual(before + 1);
    expect(reasons()[0]).toBe("runner a: paused");
    supervisor.resume(["id-a"]);
    // What answers `resume` is read at once.
    expect(reasons()[0]).not.toBe("runner a: paused");
    await until(() => of("a").length > before + 1);
    await see(/^runner a: (?!paused)/);
  });

  test("pausing all holds for entries that a reload brings, and what runs goes on", async () => {
    const { url, of, until } = await server(endless());
    const { supervisor, board, see, reasons } = supervised();
    supervisor.apply(configOf([entryOf(url, "a", { limit: 1 })], { ...far, concurrent: 4 }));
    await see(/limit of 1/);
    supervisor.pause("all");
    supervisor.apply(configOf([entryOf(url, "a", { limit: 1 }), entryOf(url, "b")], { ...far, concurrent: 4 }));
    await see(/^runner a: paused\nrunner b: paused$/);
    expect(board.jobs()).toHaveLength(1);
    expect(of("b")).toEqual([]);
    supervisor.resume("all");
    await until(() => of("b").length > 0);
    expect(reasons()[0]).toBe("runner a: limit of 1 reached");
  });

  test("an entry that was resumed by itself is not paused again by a reload", async () => {
    const { url, of, until } = await server(() => 204);
    const { supervisor, see } = supervised();
    const entries = [entryOf(url, "a"), entryOf(url, "b")];
    supervisor.apply(configOf(entries, { checkIntervalMs: 20 }));
    supervisor.pause("all");
    supervisor.resume(["id-b"]);
    supervisor.apply(configOf([...entries, entryOf(url, "c")], { checkIntervalMs: 20 }));
    await see(/^runner a: paused\nrunner b: (?!paused).*\nrunner c: paused$/);
    const seen = of("b").length;
    await until(() => of("b").length > seen + 2);
  });
});
