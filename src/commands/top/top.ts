import { setTimeout as wait } from "node:timers/promises";
import type { ReadStream, WriteStream } from "node:tty";
import type { ControlClient } from "../../control/client.ts";
import { canceledSchema, drainedSchema, runnersSchema, statusSchema, traceLineSchema } from "../../control/protocol.ts";
import { CommandError, describeError } from "../../errors.ts";
import { createLineCleaner } from "../../local/report/live-output.ts";
import type { LocalContext } from "../context.ts";
import { written } from "../control/logs.ts";
import { reachRunner } from "../control/reach.ts";
import type { FlagValues } from "../register/runner-flags.ts";
import { drawScreen, keyOf, type Row, rowsOf, type Screen } from "./screen.ts";
import { openTerminal } from "./terminal.ts";

export interface TopStreams {
  readonly input: ReadStream;
  readonly output: WriteStream;
}

const REFRESH_MS = 1000;
/** How many lines of a followed trace are kept. */
const KEPT_LINES = 500;
const TAIL_BYTES = 64 * 1024;

/** A view of the running runner that refreshes itself, until q; with `--json`, a line of JSON a second. */
export async function topCommand(values: FlagValues, context: LocalContext, streams: TopStreams): Promise<void> {
  const client = await reachRunner(values, context);
  const { input, output } = streams;
  if (values.json === true) return await printEach(client, context);
  if (!input.isTTY || !output.isTTY) {
    throw new CommandError("top needs a terminal. jobs shows the same once, and top --json is for programs");
  }
  // A runner that cannot be reached at all is reported in the shell, not on a screen that disappears.
  await client.get("status", statusSchema);
  await show(client, context, streams);
}

async function printEach(client: ControlClient, { output, signal }: LocalContext): Promise<void> {
  while (!signal.aborted) {
    const status = await client.get("status?lines=1&usage=1", statusSchema);
    if (!(await written(output, `${JSON.stringify(status)}\n`))) return;
    await wait(REFRESH_MS, undefined, { signal }).catch(() => {});
  }
}

async function show(client: ControlClient, context: LocalContext, { input, output }: TopStreams): Promise<void> {
  const quit = new AbortController();
  const end = AbortSignal.any([quit.signal, context.signal]);
  const colors = !context.env.NO_COLOR && context.env.TERM !== "dumb";
  let screen: Screen = { status: null, problem: null, chosen: null, followed: null, question: null, note: "" };
  let confirmed: (() => Promise<string>) | undefined;
  let following: AbortController | undefined;
  using terminal = openTerminal(input, output, {
    onKey: (name) => onKey(name),
    onResize: () => draw(),
    onGone: () => quit.abort(),
  });
  const draw = (): void => {
    if (end.aborted) return;
    const { columns, rows } = terminal;
    terminal.draw(drawScreen(screen, { columns, rows, colors }));
  };
  const change = (more: Partial<Screen>): void => {
    screen = { ...screen, ...more };
    draw();
  };
  const refresh = async (): Promise<void> => {
    try {
      const status = await client.get("status?lines=1&usage=1", statusSchema);
      const rows = rowsOf(status);
      const known = rows.some((row) => keyOf(row) === screen.chosen);
      const [first] = rows;
      change({ status, problem: null, ...(known ? {} : { chosen: first === undefined ? null : keyOf(first) }) });
    } catch (error) {
      change({ problem: describeError(error) });
    }
  };
  const act = async (wish: () => Promise<string>): Promise<void> => {
    change({ note: await wish().catch(describeError) });
    await refresh();
  };
  const chosen = (): Row | undefined => rowsOf(screen.status).find((row) => keyOf(row) === screen.chosen);
  const move = (by: number): void => {
    const keys = rowsOf(screen.status).map(keyOf);
    const at = Math.max(0, Math.min(keys.length - 1, keys.indexOf(screen.chosen ?? "") + by));
    change({ chosen: keys[at] ?? null, note: "" });
  };
  const confirm = (question: string, wish: () => Promise<string>): void => {
    confirmed = wish;
    change({ question });
  };
  const cancel = (): void => {
    const row = chosen();
    if (row === undefined || !("job" in row)) change({ note: "choose a job to cancel it" });
    else {
      const { id, runnerId } = row.job;
      confirm(`Cancel job ${id}?`, async () => {
        await client.post(`${pathOf(id)}/cancel?runner=${runnerId}`, canceledSchema);
        return `job ${id} is being stopped`;
      });
    }
  };
  const drain = (): void =>
    confirm("Ask for no more jobs, and end the runner after the last?", async () => {
      const { jobs } = await client.post("drain", drainedSchema);
      return `the runner ends after ${jobs} more`;
    });
  const pause = (): void => {
    const row = chosen();
    const id = row === undefined ? undefined : "job" in row ? row.job.runnerId : row.runner.id;
    const runner = screen.status?.runners.find((one) => one.id === id);
    if (runner === undefined) change({ note: "choose an entry to pause it" });
    else {
      const wish = runner.state === "paused" ? "resume" : "pause";
      void act(async () => {
        await client.post(`${wish}?runner=${encodeURIComponent(runner.id)}`, runnersSchema);
        return wish === "pause" ? `${runner.name} asks for no more jobs` : `${runner.name} asks for jobs again`;
      });
    }
  };
  const follow = (): void => {
    const row = chosen();
    if (row === undefined || !("job" in row)) change({ note: "choose a job to follow it" });
    else {
      const { id, runnerId, title } = row.job;
      following = new AbortController();
      const signal = AbortSignal.any([following.signal, end]);
      change({ followed: { title: `job ${id}  ${title}`, lines: [] }, note: "" });
      const path = `${pathOf(id)}/trace?follow=1&from=-${TAIL_BYTES}&runner=${runnerId}`;
      void followTrace(client, path, signal, (lines) => {
        if (screen.followed !== null && !signal.aborted) change({ followed: { ...screen.followed, lines } });
      }).then((note) => signal.aborted || change({ note }));
    }
  };
  const back = (): void => {
    following?.abort();
    change({ followed: null, note: "" });
  };
  const answer = (yes: boolean): void => {
    const wish = yes ? confirmed : undefined;
    confirmed = undefined;
    change({ question: null, note: "" });
    if (wish !== undefined) void act(wish);
  };
  const keys: Readonly<Record<string, () => void>> = {
    q: () => quit.abort(),
    up: () => move(-1),
    k: () => move(-1),
    down: () => move(1),
    j: () => move(1),
    f: follow,
    return: follow,
    c: cancel,
    p: pause,
    d: drain,
  };
  const followKeys: Readonly<Record<string, () => void>> = { q: back, escape: back, left: back, c: cancel };
  const onKey = (name: string): void => {
    if (name === "ctrl+c") quit.abort();
    else if (screen.question !== null) answer(name === "y");
    else {
      const known = screen.followed === null ? keys : followKeys;
      if (Object.hasOwn(known, name)) known[name]?.();
    }
  };

  while (!end.aborted) {
    await refresh();
    await wait(REFRESH_MS, undefined, { signal: end }).catch(() => {});
  }
}

function pathOf(id: string): string {
  return `jobs/${encodeURIComponent(id)}`;
}

/** @returns how it ended */
async function followTrace(
  client: ControlClient,
  path: string,
  signal: AbortSignal,
  show: (lines: readonly string[]) => void,
): Promise<string> {
  const clean = createLineCleaner(false);
  let kept: string[] = [];
  let pending = "";
  try {
    for await (const piece of client.lines(path, traceLineSchema, signal)) {
      if ("end" in piece) break;
      const lines = `${pending}${piece.text}`.split("\n");
      pending = (lines.pop() ?? "").slice(-KEPT_LINES);
      kept = [...kept, ...lines.flatMap((line) => clean(line) ?? [])].slice(-KEPT_LINES);
      const last = pending === "" ? undefined : createLineCleaner(false)(pending);
      show(last === undefined ? kept : [...kept, last]);
    }
    return "the trace has ended";
  } catch (error) {
    return describeError(error);
  }
}
