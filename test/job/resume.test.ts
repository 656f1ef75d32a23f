import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkpointOf, resumeFrom } from "../../src/job/life/stages/position.ts";
import { createProofFilter } from "../../src/job/life/stages/proof.ts";
import { type Checkpoint, openCheckpoints, readCheckpoint } from "../../src/journal/live/checkpoint.ts";
import type { OwnLine, Trace, TraceKeeper, TraceOptions, TraceResume } from "../../src/trace/contract.ts";
import { stampedTail } from "../../src/trace/stamp/tail.ts";
import { openTrace } from "../../src/trace/trace.ts";

let dir = "";
let files = 0;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "resume-"));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const PROOF = "proof-of-reading";
const SECRETS = ["s3cr3t-value", "first line\nsecond line\nthird", "s3cr3t-value-longer", "ünicöde-sécret"];

async function open(path: string, options: Partial<TraceOptions>): Promise<Trace> {
  const fixed = { path, secrets: SECRETS, secretPrefixes: ["tok-"], sections: false };
  return await openTrace({ ...fixed, limitBytes: 1e6, ...options });
}

function write(to: { write(bytes: Buffer, done: () => void): unknown }, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => to.write(bytes, () => resolve()));
}

/** What one process does while a script runs: output comes, and now and then the runner has something to say. */
interface Scene {
  readonly raw: Buffer;
  /** Sentences, each with what of the output has come by then. */
  readonly said: readonly { readonly after: number; readonly text: string }[];
  readonly limitBytes: number;
  readonly stamped?: true;
}

interface Told {
  readonly text: Buffer;
  readonly lines: readonly OwnLine[];
  readonly moments: readonly Checkpoint[];
}

const last = { text: "Job succeeded" };

/** From `start` to the end, cut at `cuts`; sentences before `silent` were said already. */
async function feed(
  trace: Trace,
  scene: Scene,
  { raw: start, line }: ReturnType<typeof resumeFrom>,
  { cuts, silent, from }: { readonly cuts: readonly number[]; readonly silent: number; readonly from: number },
): Promise<Checkpoint[]> {
  const filter = createProofFilter(PROOF, trace.output, { from: { raw: start, line } });
  const running = { number: 3, from, line: () => filter.line };
  const moments: Checkpoint[] = [];
  const stops = new Set([...cuts, ...scene.said.map(({ after }) => after), scene.raw.length]);
  let at = start;
  for (const stop of [...stops].sort((a, b) => a - b)) {
    if (stop > at) await write(filter.input, scene.raw.subarray(at, stop));
    at = Math.max(at, stop);
    for (const [index, { after, text }] of scene.said.entries()) {
      if (after === stop && index >= silent) trace.print(text, "warning");
    }
    moments.push(checkpointOf(running, trace.locate()));
  }
  await filter.close();
  await trace.flush();
  moments.push(checkpointOf(running, trace.locate()));
  if (silent <= scene.said.length) trace.print(last.text, "notice");
  await trace.flush();
  return moments;
}

function optionsOf({ limitBytes, stamped }: Scene): Partial<TraceOptions> {
  return { limitBytes, ...(stamped ? { stamps: true as const } : {}) };
}

async function undisturbed(scene: Scene, cuts: readonly number[]): Promise<Told> {
  const lines: OwnLine[] = [];
  const keeper: TraceKeeper = { line: (at, bytes) => lines.push({ at, bytes: Buffer.from(bytes) }), reached() {} };
  const path = join(dir, `trace-${files++}`);
  const trace = await open(path, { ...optionsOf(scene), keeper });
  trace.print("Running");
  await write(trace.output, Buffer.from("what was there before, and a s3cr3t-"));
  await trace.flush();
  lines.length = 0;
  const from = trace.locate().chain.at;
  const moments = await feed(trace, scene, { raw: 0, line: null }, { cuts, silent: 0, from });
  await trace.close();
  return { text: readFileSync(path), lines, moments };
}

/** What a process makes of it that finds `size` bytes of the trace, `known` lines of the runner's own and a checkpoint. */
async function adopted(
  scene: Scene,
  { text, lines }: Told,
  { checkpoint, size, known, cuts }: { checkpoint: Checkpoint; size: number; known: number; cuts: readonly number[] },
): Promise<Buffer> {
  const path = join(dir, `trace-${files++}`);
  writeFileSync(path, text.subarray(0, size));
  const resume: TraceResume = { position: checkpoint.trace, lines: lines.slice(0, known) };
  const trace = await open(path, { ...optionsOf(scene), resume });
  await feed(trace, scene, resumeFrom(checkpoint), { cuts, silent: known, from: 0 });
  await trace.close();
  return readFileSync(path);
}

const bytes = (...values: number[]): Buffer => Buffer.from(values);
const piece = fc.oneof(
  fc
    .constantFrom(
      ...SECRETS,
      "s3cr3t-",
      "value",
      "first line\n",
      "second",
      "tok-",
      "glpat-",
      "?private_token=",
      "&",
      "/:",
      "\n",
    )
    .map((text) => Buffer.from(text)),
  fc.constantFrom(
    bytes(0),
    bytes(0xff),
    bytes(0xe2),
    bytes(0x82, 0xac),
    bytes(0xf0, 0x9f),
    bytes(0x98, 0x80),
    Buffer.from("€"),
  ),
  fc.stringMatching(/^[a-z.=-]{1,12}$/).map((text) => Buffer.from(text)),
);
const scenes = fc
  .record({
    before: fc.array(piece, { maxLength: 4 }),
    after: fc.array(piece, { maxLength: 25 }),
    end: fc.constantFrom("\n", "\r\n", ""),
    said: fc.array(fc.tuple(fc.nat(), fc.constantFrom("a word", "a s3cr3t-value", "two\nlines")), { maxLength: 4 }),
    limitBytes: fc.constantFrom(1e6, 1e6, 60, 150),
    cuts: fc.array(fc.nat(), { maxLength: 30 }),
  })
  .map(({ before, after, end, said, limitBytes, cuts }) => {
    const raw = Buffer.concat([...before, Buffer.from(PROOF + end), ...after]);
    const within = (value: number): number => value % (raw.length + 1);
    const sentences = said.map(([after, text]) => ({ after: within(after), text })).sort((a, b) => a.after - b.after);
    return { scene: { raw, said: sentences, limitBytes }, cuts: cuts.map(within) };
  });

/** What of a trace with times scripts printed, but for line breaks, which one that was cut may have more of. */
function scriptText(text: Buffer): string {
  return stampedTail(text, { open: null, lastMicros: 0 }).text.toString().replaceAll("\n", "");
}

describe("a trace that another process goes on with", () => {
  test("is what it would have been, wherever the first one was killed and however output comes", async () => {
    const kills = fc.array(
      fc.record({ moment: fc.nat(), size: fc.nat(), more: fc.nat(2), cuts: fc.array(fc.nat(), { maxLength: 20 }) }),
      { minLength: 4, maxLength: 4 },
    );
    await fc.assert(
      fc.asyncProperty(scenes, kills, async ({ scene, cuts }, ends) => {
        const told = await undisturbed(scene, cuts);
        for (const end of ends) {
          const checkpoint = told.moments[end.moment % told.moments.length];
          if (checkpoint === undefined) throw new Error("there is always a moment");
          const { spool } = checkpoint.trace;
          const size = spool + (end.size % (told.text.length - spool + 1));
          const written = told.lines.filter(({ at }) => at < size).length;
          const known = Math.min(told.lines.length, written + end.more);
          const cutsThen = end.cuts.map((cut) => cut % (scene.raw.length + 1));
          const text = await adopted(scene, told, { checkpoint, size, known, cuts: cutsThen });
          expect(text.toString()).toBe(told.text.toString());
        }
      }),
      { numRuns: 200 },
    );
  });

  test("is so with times, which those lines keep that have them", async () => {
    await fc.assert(
      fc.asyncProperty(scenes, fc.nat(), fc.nat(), fc.nat(2), async ({ scene: plain, cuts }, moment, far, more) => {
        const scene: Scene = { ...plain, limitBytes: 1e6, stamped: true };
        const told = await undisturbed(scene, cuts);
        const checkpoint = told.moments[moment % told.moments.length];
        if (checkpoint === undefined) throw new Error("there is always a moment");
        const { spool } = checkpoint.trace;
        const size = spool + (far % (told.text.length - spool + 1));
        const known = Math.min(told.lines.length, told.lines.filter(({ at }) => at < size).length + more);
        const text = await adopted(scene, told, { checkpoint, size, known, cuts: [] });
        const sound = size - (size - told.text.subarray(0, size).lastIndexOf(0x0a) - 1);
        expect(text.subarray(0, sound).toString()).toBe(told.text.subarray(0, sound).toString());
        expect(scriptText(text)).toBe(scriptText(told.text));
        expect(text.toString()).not.toContain("some lines may appear twice");
      }),
      { numRuns: 150, seed: 4711 },
    );
  });

  test("goes on through kill -9, over lines of megabytes and words without an end", async () => {
    const place = join(dir, "killed");
    mkdirSync(place);
    const mib = 1024 * 1024;
    const raw = Buffer.concat([
      Buffer.from(`${PROOF}\n`),
      Buffer.alloc(5 * mib, "one line "),
      Buffer.from(`\nglpat-${"x".repeat(mib)}\n`),
      Buffer.from(`s3cr3t-value ${"first line\nsecond line\nthird ".repeat(3000)}`.repeat(4)),
      Buffer.alloc(mib, Buffer.from([0xe2, 0x82, 0xac, 0, 0xff, 0x0a])),
      Buffer.from("no final newline, half a character \xe2\x82", "latin1"),
    ]);
    writeFileSync(join(place, "raw"), raw);
    const program = [join(import.meta.dirname, "follow-and-die.ts"), place, PROOF, ...SECRETS];
    let kills = 0;
    const starts = new Set<string>();
    for (let over = false; !over; ) {
      const child = spawn(process.execPath, program, { stdio: ["ignore", "pipe", "inherit"] });
      const ended = once(child, "exit");
      let said = "";
      for await (const chunk of child.stdout) {
        said += String(chunk);
        if (said.split("came").length > 6 + ((kills * 5) % 7)) child.kill("SIGKILL");
      }
      await ended;
      starts.add(said.split("\n")[0] ?? "");
      over = said.includes("done");
      if (!over) kills++;
    }
    const fresh = await open(join(dir, "fresh"), { secretPrefixes: [], limitBytes: 1e9 });
    const filter = createProofFilter(PROOF, fresh.output);
    for (let at = 0; at < raw.length; at += mib) {
      const piece = raw.subarray(at, at + mib);
      await write(filter.input, piece);
      if (piece.length === mib) fresh.print(`${at / mib + 1} MiB`);
    }
    await filter.close();
    await fresh.close();
    expect(readFileSync(join(place, "trace")).equals(readFileSync(join(dir, "fresh")))).toBe(true);
    // Of those that were killed some had come further than the one before.
    expect(kills).toBeGreaterThan(2);
    expect(starts.size).toBeGreaterThan(2);
  });

  test("keeps to what lines of the runner's own may have beyond the limit", async () => {
    const position = (trace: Trace): TraceResume => ({ position: trace.locate(), lines: [] });
    const path = join(dir, "beyond");
    const first = await open(path, { limitBytes: 10 });
    for (let count = 0; count < 40; count++) first.print("x".repeat(1000));
    await first.flush();
    const resume = position(first);
    const second = await open(path, { limitBytes: 10, resume });
    for (let count = 0; count < 40; count++) second.print("y".repeat(1000));
    await second.close();
    await first.close();
    expect(second.size).toBe(48 * 1024);
  });

  test("says so where what comes is not what was there, and loses nothing of it", async () => {
    const path = join(dir, "differs");
    const start = await open(path, {});
    const resume: TraceResume = { position: start.locate(), lines: [] };
    await write(start.output, Buffer.from("€ one\ntwo\n"));
    await start.close();
    const lines = [{ at: 500, bytes: Buffer.from("a line that the spool lacks\n") }];
    const keeper: TraceKeeper = { line: (at, bytes) => lines.push({ at, bytes: Buffer.from(bytes) }), reached() {} };
    const trace = await open(path, { resume: { ...resume, lines: [...lines] }, keeper });
    trace.print("after it");
    await write(trace.output, Buffer.from("€ one\nten\nmore\n"));
    await trace.close();
    const text = readFileSync(path, "utf8");
    expect(text).toBe(
      "€ one\ntwo\n\x1b[0;33mWARNING: The trace could not be continued exactly; some lines may appear twice\x1b[0;m\n" +
        "a line that the spool lacks\n\x1b[0Kafter it\x1b[0;m\nen\nmore\n",
    );
    // The line that was put elsewhere in the end counts there only.
    writeFileSync(path, text.slice(0, text.indexOf("after it")));
    const at = { ...resume.position, spool: Buffer.byteLength("€ one\ntwo\n") };
    const next = await open(path, { resume: { position: at, lines } });
    await write(next.output, Buffer.from("en\nmore\n"));
    await next.close();
    expect(readFileSync(path, "utf8")).toBe(text);
  });

  test("is refused where it is shorter than it was", async () => {
    const path = join(dir, "short");
    const whole = await open(path, {});
    await write(whole.output, Buffer.from("some output\n"));
    await whole.flush();
    const position = whole.locate();
    await whole.close();
    writeFileSync(path, "some");
    await expect(open(path, { resume: { position, lines: [] } })).rejects.toThrow(
      "it has 4 bytes, and its position is at 12",
    );
  });
});

describe("a checkpoint", () => {
  const position = (spool: number): Checkpoint => ({
    script: 1,
    proof: { at: 3, bytes: 40 },
    trace: {
      spool,
      lineStart: true,
      limit: { beyond: 0, reached: false },
      chain: { at: 9, behind: 7, character: 2, mask: { behind: 7, covered: 0, word: "open", url: "none" } },
      stamps: null,
    },
  });

  test("is the last one that is whole", () => {
    const path = join(dir, "at");
    const file = openCheckpoints(path);
    expect(readCheckpoint(readFileSync(path))).toBeNull();
    for (const spool of [10, 20, 30]) file.write(position(spool));
    file.close();
    const bytes = readFileSync(path);
    expect(bytes.length).toBe(1024);
    expect(readCheckpoint(bytes)).toMatchObject({ seq: 3, ...position(30) });
    for (let torn = 20; torn < 200; torn++) {
      const broken = Buffer.from(bytes).fill("#", torn, torn + 1);
      expect(readCheckpoint(broken)).toMatchObject({ seq: 2, ...position(20) });
    }
    expect(readCheckpoint(Buffer.from(bytes).fill(0, 0, 512))).toMatchObject({ seq: 2, ...position(20) });
    expect(readCheckpoint(Buffer.alloc(1024))).toBeNull();
    const again = openCheckpoints(path, 3);
    again.write(position(40));
    again.close();
    expect(readCheckpoint(readFileSync(path))).toMatchObject({ seq: 4, ...position(40) });
  });

  test("has room for the largest numbers", () => {
    const path = join(dir, "large");
    const file = openCheckpoints(path, Number.MAX_SAFE_INTEGER - 1);
    const most = Number.MAX_SAFE_INTEGER;
    const largest: Checkpoint = {
      script: most,
      proof: { at: most, bytes: most },
      trace: {
        spool: most,
        lineStart: false,
        limit: { beyond: most, reached: false },
        chain: {
          at: most,
          behind: most,
          character: 3,
          mask: { behind: most, covered: most, word: "armed", url: "armed" },
        },
        stamps: null,
      },
    };
    file.write(largest);
    file.close();
    expect(readCheckpoint(Buffer.concat([readFileSync(path), Buffer.alloc(1024)]))).toMatchObject({
      seq: most,
      ...largest,
    });
  });
});
