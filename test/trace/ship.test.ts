import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Coordinator, TraceAnswer, TracePiece } from "../../src/coordinator/contract.ts";
import { TroubleCause } from "../../src/coordinator/contract.ts";
import { SystemFailure } from "../../src/errors.ts";
import type { Dialect, JobCredentials } from "../../src/job/job.ts";
import type { Log } from "../../src/log.ts";
import { deadline, never } from "../../src/time.ts";
import type { Trace } from "../../src/trace/contract.ts";
import { type Shipper, type ShipTiming, shipTrace } from "../../src/trace/ship.ts";
import { openTrace } from "../../src/trace/trace.ts";

type Request =
  | { kind: "piece"; from: number; text: string; at: number }
  | { kind: "update"; body: unknown; at: number };
type Line = Pick<Coordinator, "appendTrace" | "updateJob">;

const FAST: ShipTiming = {
  firstMs: 20,
  batchMs: 2,
  quietMs: 10,
  steadyMs: 20,
  holdLineMs: 40,
  probeMs: 30_000,
  retryMs: 5,
};

let dir = "";
let trace: Trace;
let requests: Request[] = [];
let stored = "";
let answer: (piece: TracePiece, signal: AbortSignal) => Promise<Partial<TraceAnswer>>;
let waiting: { until: () => boolean; resolve: () => void }[] = [];
let inFlight = 0;
const shippers: Shipper[] = [];
const statuses: string[] = [];
const logged: string[] = [];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "ship-"));
  trace = await open();
  [requests, stored, waiting, inFlight] = [[], "", [], 0];
  answer = async () => ({});
  statuses.length = 0;
  logged.length = 0;
});

afterEach(async () => {
  for (const shipper of shippers.splice(0)) await shipper.finish(AbortSignal.abort(new Error("over")));
  await trace.close();
  rmSync(dir, { recursive: true, force: true });
});

function open(): Promise<Trace> {
  const path = join(dir, "trace");
  return openTrace({ path, secrets: [], secretPrefixes: [], limitBytes: 1e9, sections: false });
}

const log: Log = {
  debug: () => {},
  info: (message) => logged.push(message),
  warn: (message, fields) => logged.push(`${message} ${JSON.stringify(fields)}`),
  error: (message) => logged.push(message),
  child: () => log,
};

/** Keeps what it is sent, as a coordinator does; `answer` may refuse, delay or add to the answer. */
const coordinator: Line = {
  async appendTrace(_job, piece, signal) {
    expect(++inFlight).toBe(1);
    try {
      const text = Buffer.from(piece.bytes).toString();
      requests.push({ kind: "piece", from: piece.from, text, at: performance.now() });
      setImmediate(look);
      const given = await answer(piece, signal);
      if (given.next === undefined && piece.bytes.length > 0) stored += text;
      return { status: "running", next: piece.from + piece.bytes.length, intervalMs: undefined, ...given };
    } finally {
      inFlight--;
      setImmediate(look); // the shipper reads the answer first
    }
  },
  async updateJob(_job, update) {
    requests.push({ kind: "update", body: update, at: performance.now() });
    look();
    return { kind: "done", status: "running" };
  },
};

function look(): void {
  for (const entry of waiting) if (entry.until()) entry.resolve();
  waiting = waiting.filter((entry) => !entry.until());
}

/** Resolves when the coordinator's side has come this far. */
function when(until: () => boolean): Promise<void> {
  return until() ? Promise.resolve() : new Promise((resolve) => waiting.push({ until, resolve }));
}

function pieces(): { from: number; text: string; at: number }[] {
  return requests.filter((request) => request.kind === "piece");
}

function ship(
  dialect: Dialect = "alloy",
  timing: ShipTiming = FAST,
  onAcknowledged?: (offset: number) => void,
): Shipper {
  const job: JobCredentials = { id: "1", token: "t", dialect };
  const onStatus = (status: string): void => {
    statuses.push(status);
    look();
  };
  const shipper = shipTrace({
    trace,
    coordinator,
    job,
    onStatus,
    log,
    timing,
    ...(onAcknowledged && { onAcknowledged }),
  });
  shippers.push(shipper);
  return shipper;
}

function trouble(retryAfterMs?: number): SystemFailure {
  return new SystemFailure("PATCH trace", { retry: true, cause: new TroubleCause("503", 503, retryAfterMs) });
}

describe("shipping", () => {
  it("sends the first complete line at once and the rest in order, whole lines at a time", async () => {
    const acknowledged: number[] = [];
    const shipper = ship("alloy", FAST, (offset) => acknowledged.push(offset));
    trace.output.write("first line\nsec");
    await when(() => stored === "first line\n");
    trace.output.write("ond line\n");
    await when(() => stored === "first line\nsecond line\n");
    expect(pieces().map((piece) => piece.from)).toEqual([0, 11]);
    expect(acknowledged).toEqual([11, 23]);
    expect(await shipper.finish(never)).toEqual({ sent: 23, offered: 23, gone: false });
  });

  it("sends the beginning of a line only after a while, never half an escape sequence", async () => {
    ship();
    trace.output.write("Continue? \x1b[3");
    await when(() => stored === "Continue? ");
    trace.output.write("1m[y/n]");
    await when(() => stored === "Continue? \x1b[31m[y/n]");
  });

  it("sends what was spooled before, and a flood, in pieces of at most 1 MiB", async () => {
    const line = `${"x".repeat(98)}€\n`;
    trace.output.write(line.repeat(50_000));
    await trace.flush();
    const shipper = ship("gitlab");
    trace.output.write(line.repeat(50_000));
    await when(() => stored.length === line.length * 100_000);
    expect(stored === line.repeat(100_000)).toBe(true);
    for (const { text } of pieces()) {
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(1024 * 1024);
      expect(text.endsWith("\n")).toBe(true);
    }
    expect(pieces().length).toBeLessThan(30);
    expect((await shipper.finish(never)).sent).toBe(trace.size);
  });

  it("sends one line of any length", async () => {
    ship();
    trace.output.write("€".repeat(1_000_000));
    await when(() => stored.length === 1_000_000);
    expect(stored === "€".repeat(1_000_000)).toBe(true);
  });

  it("tries again after trouble, waits as long as it is asked to, and says so once", async () => {
    let failures = 0;
    answer = async () => {
      if (failures++ < 3) throw trouble(failures === 1 ? 100 : undefined);
      return {};
    };
    ship();
    trace.output.write("line\n");
    await when(() => stored === "line\n");
    expect(pieces().map((piece) => piece.from)).toEqual([0, 0, 0, 0]);
    expect((pieces()[1]?.at ?? 0) - (pieces()[0]?.at ?? 0)).toBeGreaterThanOrEqual(99);
    expect(logged).toHaveLength(2);
    expect(logged[0]).toContain("503");
    trace.output.write("next\n");
    await when(() => stored === "line\nnext\n");
  });

  it("goes where the coordinator says its copy ends, and nowhere beyond what it was ever sent", async () => {
    const wanted = [0, 5, 11];
    answer = async (piece) => {
      const next = piece.bytes.length > 0 ? wanted.shift() : undefined;
      return next === undefined ? {} : { next };
    };
    const shipper = ship();
    trace.output.write("0123\n5678\n");
    await when(() => pieces().length === 3);
    expect(pieces().map((piece) => piece.from)).toEqual([0, 0, 5]);
    trace.output.write("more\n");
    await when(() => stored === "5678\nmore\n");
    expect(shipper.sent).toBe(15);
  });

  it("asks whether the job is still wanted while the coordinator never agrees", async () => {
    answer = async (piece) => (piece.bytes.length === 0 ? { status: "canceling" } : { next: 0 });
    ship("alloy", { ...FAST, retryMs: 20_000, probeMs: 20 });
    trace.output.write("line\n");
    await when(() => statuses.length === 1);
    expect(pieces().map((piece) => piece.text)).toEqual(["line\n", "line\n", ""]);
  });

  it("does not spin on a coordinator that never agrees", async () => {
    answer = async () => ({ next: 0 });
    ship("gitlab", { ...FAST, retryMs: 20_000 });
    trace.output.write("line\n");
    await when(() => pieces().length === 2);
    using limit = deadline(never, 200, new Error("waited"));
    await new Promise((resolve) => limit.signal.addEventListener("abort", resolve));
    expect(pieces().length).toBe(2);
  });
});

describe("status", () => {
  it("reports canceling once and gone once, and sends nothing after that", async () => {
    const answers = ["canceling", "canceling", "gone"] as const;
    answer = async () => ({ status: answers[pieces().length - 1] ?? "running" });
    const shipper = ship("alloy", { ...FAST, probeMs: 10 });
    trace.output.write("a\n");
    await when(() => statuses.includes("gone"));
    expect(statuses).toEqual(["canceling", "gone"]);
    trace.output.write("b\n");
    await trace.flush();
    expect(await shipper.finish(never)).toMatchObject({ gone: true });
    expect(requests).toHaveLength(3);
  });

  it("is asked for with empty pieces on AlloyCI while there is nothing to send", async () => {
    ship("alloy", { ...FAST, probeMs: 10 });
    await when(() => requests.length === 3);
    expect(pieces().map(({ from, text }) => [from, text])).toEqual([
      [0, ""],
      [0, ""],
      [0, ""],
    ]);
  });

  it("is asked for with running updates on GitLab", async () => {
    trace.output.write("line\n");
    await trace.flush();
    ship("gitlab", { ...FAST, probeMs: 50 });
    await when(() => requests.length === 3);
    const checksum = `crc32:${crc32("line\n").toString(16).padStart(8, "0")}`;
    expect(requests.map((request) => request.kind)).toEqual(["piece", "update", "update"]);
    expect(requests[1]).toMatchObject({ body: { state: "running", checksum, bytes: 5 } });
  });
});

describe("finish", () => {
  it("waits for the piece under way and sends no other", async () => {
    const gate = Promise.withResolvers<void>();
    answer = async () => {
      await gate.promise;
      return {};
    };
    const shipper = ship();
    trace.output.write("one\n");
    await when(() => requests.length === 1);
    trace.output.write("two\n");
    await trace.end();
    const finished = shipper.finish(never);
    gate.resolve();
    expect(await finished).toEqual({ sent: 4, offered: 4, gone: false });
    expect(requests).toHaveLength(1);
  });

  it("is bounded by its signal, also when the coordinator never answers", async () => {
    const calls: AbortSignal[] = [];
    answer = (_piece, signal) => {
      calls.push(signal);
      return new Promise(() => {});
    };
    const shipper = ship();
    trace.output.write("one\n");
    await when(() => requests.length === 1);
    using limit = deadline(never, 30, new Error("no time left"));
    expect(await shipper.finish(limit.signal)).toEqual({ sent: 0, offered: 4, gone: false });
    expect(calls[0]?.aborted).toBe(true);
  });

  it("does not wait for the end of a back-off", async () => {
    answer = async () => {
      throw trouble(300_000);
    };
    const shipper = ship();
    trace.output.write("one\n");
    await when(() => requests.length === 1);
    expect(await shipper.finish(never)).toEqual({ sent: 0, offered: 4, gone: false });
  });
});
