import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { z } from "zod";
import type { Job } from "../../src/job/job.ts";
import { type KeptJob, keepJob } from "../../src/job/life/durable/keep.ts";
import { lookAtLife } from "../../src/job/life/durable/look.ts";
import type { knownJob } from "../../src/job/life/durable/stored-job.ts";
import type { knownOp, knownStage, knownTest, StoredPlan } from "../../src/job/life/durable/stored-plan.ts";
import type { Stage } from "../../src/job/plan/stage.ts";
import { secretsOf } from "../../src/job/variables/secrets.ts";
import { findKey } from "../../src/journal/live/key.ts";
import { createSeal, openPayload } from "../../src/journal/live/payload.ts";
import type { Op, Test } from "../../src/shell.ts";
import { jobWith, type LogLine, recordingLog, step, variable } from "./stand.ts";

let top = "";
let dir = "";
let places = 0;
beforeAll(() => {
  top = mkdtempSync(join(tmpdir(), "durable-"));
});
afterAll(() => rmSync(top, { recursive: true, force: true }));
beforeEach(() => {
  dir = join(top, `job-${places++}`);
  mkdirSync(dir, { mode: 0o700 });
});

const key = Buffer.alloc(32, 7);
const TOKEN = "runner-token-4711";
const job = jobWith({
  variables: [variable("PASSWORD", "v3ry-s3cret-word", { public: false })],
  steps: [step("script", ["echo $PASSWORD"])],
});
const plan: StoredPlan = {
  stages: [
    {
      kind: "script",
      name: "build_script",
      title: "the script",
      ops: [
        { op: "export", name: "PASSWORD", value: "v3ry-s3cret-word" },
        { op: "source", text: "echo $PASSWORD" },
      ],
      anew: null,
      runIn: "build",
      authored: true,
      policy: {
        when: "on_success",
        afterScriptBegan: false,
        attempts: 1,
        timeoutMs: null,
        decides: true,
        clock: "job",
      },
    },
  ],
  xtrace: false,
  concurrentId: 3,
  projectSlot: 0,
  root: "/builds/x",
  tmpDir: "/builds/x.tmp",
  buildsDir: "/builds",
};

function keep(logged: LogLine[] = [], at = dir, jobKey = "7e3b05c2-17-0123456789ab"): KeptJob {
  const secrets = secretsOf(job, [TOKEN]).values;
  return keepJob({
    dir: at,
    jobKey,
    key,
    version: "2.0.0",
    boot: "b",
    job,
    entry: `{"token":"${TOKEN}"}`,
    secrets,
    prefixes: ["tok-"],
    log: recordingLog(logged),
  });
}

/** A job that is in the middle of its script. */
function begin(): KeptJob {
  const kept = keep();
  kept.limit(60_000);
  kept.note({ kind: "preparing", attempt: 1, uptimeSeconds: 1 });
  kept.note({ kind: "prepared", handle: { place: "/builds/x" } });
  kept.plan(plan);
  kept.hide(["l3arnt-l4ter"]);
  kept.note({ kind: "begun", stage: 0, uptimeSeconds: 2 });
  kept.begin("proof", { from: 0, line: () => null, tailBytes: 0 }).begins({ dir: "/run/x/1" });
  return kept;
}

const look = (at = dir, jobKey = "7e3b05c2-17-0123456789ab", by = key) => lookAtLife(at, jobKey, by, TOKEN);

describe("what is kept of a job", () => {
  test("is all that another process needs, and none of its secrets can be read", async () => {
    const kept = begin();
    const found = await look();
    if (found.is !== "whole") throw new Error(JSON.stringify(found));
    expect(found.kept).toMatchObject({ job, plan, prefixes: ["tok-"], entry: `{"token":"${TOKEN}"}` });
    expect(found.kept.secrets).toEqual(expect.arrayContaining(["v3ry-s3cret-word", "l3arnt-l4ter", TOKEN, job.token]));
    expect(found.kept.entries.map(({ kind }) => kind)).toEqual([
      ...["masks", "limit", "preparing", "prepared", "masks", "begun", "script", "place"],
    ]);
    for (const name of readdirSync(dir)) {
      const text = readFileSync(join(dir, name), "latin1");
      for (const secret of found.kept.secrets) {
        expect(text).not.toContain(secret);
        expect(text).not.toContain(Buffer.from(secret).toString("base64").slice(0, 12));
      }
    }
    kept.end();
    expect(existsSync(join(dir, "payload"))).toBe(false);
    expect((await look()).is).toBe("unusable");
    kept.hide(["more"]);
    kept.note({ kind: "over" });
    expect(existsSync(join(dir, "payload"))).toBe(false);
  });

  test("is none for a job of which nothing was kept", async () => {
    expect(await look()).toEqual({ is: "none" });
  });

  test.each<[what: string, spoil: (path: (name: string) => string) => void, problem: string]>([
    ["another key", () => {}, "the key is another"],
    ["a payload that others may read", (path) => chmodSync(path("payload"), 0o644), "is open to others (mode 0644)"],
    ["a life that others may write", (path) => chmodSync(path("life"), 0o620), "is open to others (mode 0620)"],
    ["a directory that others may enter", (path) => chmodSync(path(""), 0o711), "is open to others (mode 0711)"],
    [
      "a payload that is a link",
      (path) => {
        renameSync(path("payload"), path("real"));
        symlinkSync(path("real"), path("payload"));
      },
      "is no file",
    ],
    ["a payload with another name", (path) => linkSync(path("payload"), path("other")), "has other names"],
    ["no payload", (path) => rmSync(path("payload")), "there is no payload"],
    ["no life", (path) => rmSync(path("life")), "there is no life"],
    ["a payload that was changed", (path) => change(path("payload"), 300), "not this job's, was changed"],
    ["a payload without its last line", (path) => cutLine(path("payload")), "secrets are missing"],
    ["a life with a damaged line in the middle", (path) => change(path("life"), 100), "damaged lines"],
  ])("counts for nothing with %s", async (what, spoil, problem) => {
    begin().keeper.reached({
      spool: 0,
      lineStart: true,
      limit: { beyond: 0, reached: false },
      chain: { at: 0, behind: 0, character: 0, mask: { behind: 0, covered: 0, word: "none", url: "none" } },
      stamps: null,
    });
    spoil((name) => join(dir, name));
    const found = await look(dir, "7e3b05c2-17-0123456789ab", what === "another key" ? Buffer.alloc(32, 8) : key);
    expect(found).toEqual({ is: "unusable", problem: expect.stringContaining(problem) });
  });

  test("counts for nothing as another job's", async () => {
    begin();
    const other = join(top, `job-${places++}`);
    mkdirSync(other, { mode: 0o700 });
    keep([], other, "7e3b05c2-18-0123456789ab");
    writeFileSync(join(other, "payload"), readFileSync(join(dir, "payload")), { mode: 0o600 });
    expect(await look(other, "7e3b05c2-18-0123456789ab")).toMatchObject({ is: "unusable" });
  });

  test("is what was whole before a line that was torn", async () => {
    begin();
    const life = readFileSync(join(dir, "life"));
    truncateSync(join(dir, "life"), life.length - 5);
    const torn = await look();
    if (torn.is !== "whole") throw new Error(JSON.stringify(torn));
    expect(torn.kept.entries.at(-1)).toEqual({ kind: "script", number: 1, proof: "proof" });
    expect(torn.kept.checkpoint).toMatchObject({ seq: 1, script: 0, trace: { spool: 0 } });
  });

  test("is not followed where it has a word of another version", async () => {
    begin();
    const seal = createSeal(key, "7e3b05c2-17-0123456789ab");
    const length = readFileSync(join(dir, "payload")).length;
    const op = { op: "invented", name: "x" };
    const [stage] = plan.stages;
    openPayload(join(dir, "payload"), seal, { lines: 3, length }).append("plan", {
      ...plan,
      stages: [{ ...stage, ops: [op] }],
    });
    expect(await look()).toEqual({ is: "foreign", version: "2.0.0" });
  });

  test("is given up where it cannot be written, and the job knows nothing of it", async () => {
    const logged: LogLine[] = [];
    const kept = keep(logged);
    rmSync(join(dir, "payload"));
    mkdirSync(join(dir, "payload"));
    kept.plan(plan);
    kept.note({ kind: "over" });
    kept.end();
    expect(logged).toMatchObject([
      { level: "warn", message: "what this job does cannot be kept: it will end with this process" },
    ]);
    expect((await look()).is).toBe("unusable");
  });
});

function change(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

function cutLine(path: string): void {
  const bytes = readFileSync(path);
  truncateSync(path, bytes.lastIndexOf(0x0a, bytes.length - 2) + 1);
}

/** A type with all that is optional in it. */
type Whole<T> = T extends readonly (infer E)[]
  ? Whole<E>[]
  : T extends object
    ? { [K in keyof T]-?: Whole<Exclude<T[K], undefined>> }
    : T;
type Alike<A, B> = [Whole<A>] extends [Whole<B>] ? ([Whole<B>] extends [Whole<A>] ? true : false) : false;

test("what is new in a job or a plan is known to those who read it", () => {
  // The compiler looks: one of these is no `true` where a schema lacks a part of its type.
  const alike: readonly true[] = [
    ...[isTrue<Alike<Job, z.output<typeof knownJob>>>(true), isTrue<Alike<Stage, z.output<typeof knownStage>>>(true)],
    ...[isTrue<Alike<Op, z.output<typeof knownOp>>>(true), isTrue<Alike<Test, z.output<typeof knownTest>>>(true)],
  ];
  expect(alike).toHaveLength(4);
});

function isTrue<T extends true>(is: T): T {
  return is;
}

describe("the key", () => {
  const none = { credentials: undefined, file: undefined, runtime: undefined };
  /** In memory on every Linux. */
  const memory = (): string => mkdtempSync("/dev/shm/alloy-key-");

  test("is systemd's credential before the operator's file before one of this boot", async () => {
    const runtime = memory();
    try {
      writeFileSync(join(dir, "alloy-runner.key"), `${"ab".repeat(32)}\n`, { mode: 0o440 });
      writeFileSync(join(dir, "file"), Buffer.alloc(32, 1), { mode: 0o600 });
      const all = { credentials: dir, file: join(dir, "file"), runtime };
      expect(await findKey(all)).toEqual({ bytes: Buffer.alloc(32, 0xab) });
      expect(await findKey({ ...all, credentials: join(dir, "absent") })).toEqual({ bytes: Buffer.alloc(32, 1) });
      expect(readdirSync(runtime)).toEqual([]);
      const made = await findKey({ ...none, runtime });
      expect(made).toEqual({ bytes: expect.any(Buffer) });
      expect(await findKey({ ...none, runtime })).toEqual(made);
      expect(readdirSync(runtime)).toEqual(["key"]);
      const many = memory();
      const found = await Promise.all(Array.from({ length: 8 }, () => findKey({ ...none, runtime: many })));
      expect(new Set(found.map((one) => JSON.stringify(one))).size).toBe(1);
      rmSync(many, { recursive: true });
    } finally {
      rmSync(runtime, { recursive: true });
    }
  });

  test("is none where others could have it, or where it would outlast the boot", async () => {
    const problem = (text: string) => ({ problem: expect.stringContaining(text) });
    const file = join(dir, "file");
    expect(await findKey(none)).toEqual(problem("set live_key_file"));
    expect(await findKey({ ...none, file })).toEqual(problem("is not there"));
    writeFileSync(file, Buffer.alloc(32, 1), { mode: 0o644 });
    expect(await findKey({ ...none, file })).toEqual(problem("chmod 600"));
    chmodSync(file, 0o600);
    writeFileSync(file, "too short");
    expect(await findKey({ ...none, file })).toEqual(problem("openssl rand -hex 32"));
    expect(await findKey({ ...none, file: dir })).toEqual(problem("it is no file"));
    const runtime = memory();
    chmodSync(runtime, 0o777);
    expect(await findKey({ ...none, runtime })).toEqual(problem("could be changed by others"));
    rmSync(runtime, { recursive: true });
  });
});
