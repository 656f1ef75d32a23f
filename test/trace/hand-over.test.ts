import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { OwnLine, TraceKeeper, TraceOptions, TracePosition } from "../../src/trace/contract.ts";
import { openTrace } from "../../src/trace/trace.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "trace-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const RAW = "one s3cr3t-value two s3cr3t-value three\n";

function keeping() {
  const kept = { lines: [] as OwnLine[], positions: [] as TracePosition[] };
  const keeper: TraceKeeper = {
    line: (at, bytes) => void kept.lines.push({ at, bytes: Buffer.from(bytes) }),
    reached: (position) => void kept.positions.push(position),
  };
  return { ...kept, keeper };
}

const options = (more: Partial<TraceOptions>): TraceOptions => ({
  ...{ path: join(dir, "trace"), secrets: ["s3cr3t-value"], secretPrefixes: [], limitBytes: 1e6, sections: true },
  ...more,
});

test("a trace that was let go in the middle of a secret is gone on with as if nothing had happened", async () => {
  const kept = keeping();
  const first = await openTrace(options({ keeper: kept.keeper }));
  const cut = RAW.lastIndexOf("-value three");
  const left = first.section("build_script", async () => {
    await new Promise((resolve) => first.output.write(RAW.slice(0, cut), resolve));
    first.print("said in time");
    await first.letGo();
    first.print("said too late");
    await new Promise((resolve) => first.output.write("printed too late\n", resolve));
    await first.flush();
  });
  await left;
  await first.close();
  const before = readFileSync(join(dir, "trace"), "utf8");
  expect(before).toMatch(/one \[MASKED\] two .*said in time/s);
  // What may be the beginning of a secret is held back, and the section is open.
  expect(before).not.toMatch(/s3cr3t|too late|section_end/);

  const position = kept.positions.at(-1);
  if (position === undefined) throw new Error("no position was kept");
  const second = await openTrace(options({ resume: { position, lines: kept.lines } }));
  second.output.write(RAW.slice(position.chain.at - position.chain.behind));
  await second.close();
  const after = readFileSync(join(dir, "trace"), "utf8");
  expect(after.startsWith(before)).toBe(true);
  expect(after.slice(before.length)).toBe("[MASKED] three\n");
});

test("where output has come to is kept soon, also when nothing follows it", async () => {
  const kept = keeping();
  const trace = await openTrace(options({ keeper: kept.keeper }));
  trace.output.write("a few words\n");
  await expect.poll(() => kept.positions.at(-1)?.chain.at, { timeout: 5000 }).toBe(12);
  await trace.close();
});

test.each([true, false])(
  "who goes on and gets nothing leaves the next one where it was (with times: %s)",
  async (stamped) => {
    const kept = keeping();
    const more = stamped ? { stamps: true as const } : {};
    const lines = (from: number, to: number): string =>
      Array.from({ length: to - from }, (_, index) => `line ${from + index}\n`).join("");
    const first = await openTrace(options({ ...more, keeper: kept.keeper }));
    await new Promise((resolve) => first.output.write(lines(0, 10), resolve));
    await first.flush();
    const position = kept.positions.at(-1);
    if (position === undefined) throw new Error("no position was kept");
    await new Promise((resolve) => first.output.write(lines(10, 30), resolve));
    await first.flush();
    // It is killed before it notes where it is.
    await first.close();
    const next = keeping();
    const second = await openTrace(options({ ...more, keeper: next.keeper, resume: { position, lines: kept.lines } }));
    second.aside("nobody looked for a while", "notice");
    // What is to be noted is noted within 250 ms.
    await wait(600);
    await second.letGo();
    await second.close();
    const last = next.positions.at(-1) ?? position;
    const whole = { position: last, lines: [...kept.lines, ...next.lines] };
    const third = await openTrace(options({ ...more, resume: whole }));
    third.output.write(lines(0, 40).slice(last.chain.at - last.chain.behind));
    await third.close();
    // A header with a plus goes on with the line before.
    const text = readFileSync(join(dir, "trace"), "utf8")
      .replace(/\n\S+Z \S+\+/g, "")
      .replace(/^\S+Z \S+ /gm, "");
    expect(text).toBe(lines(0, 40));
  },
);
