import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { createLog, type LogOptions, leadsToJournal, streamOutput } from "../src/log.ts";

function collecting(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const output = { write: (line: string) => void lines.push(line), flush: async () => {} };
  return { lines, log: createLog({ level: "info", format: "text", output, ...options }) };
}

test("a text line has local time, level, message and fields", () => {
  const { log, lines } = collecting();
  log.info("job received", { job: "42", project: "group/project", queued: 1.5 });
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(
    /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO {2}job received {2}job=42 project=group\/project queued=1\.5\n$/,
  );
});

test("values with spaces, quotes, line ends and control characters stay one line and cannot forge another", () => {
  const { log, lines } = collecting({ journal: true });
  log.warn("odd", {
    a: "two words",
    b: 'say "x"',
    c: "1\n2026 ERROR forged\r\x1b[31m",
    d: "",
    e: "x=y",
    f: "\u202egnp",
  });
  expect(lines).toEqual([
    `<4>odd  a="two words" b="say \\"x\\"" c="1\\n2026 ERROR forged\\r\\u001b[31m" d="" e="x=y" f="\\u202egnp"\n`,
  ]);
  log.info("first\nsecond");
  expect(lines[1]).toBe("<6>first\\nsecond\n");
});

test("where a value ends and the next field begins cannot be disguised", () => {
  const { log, lines } = collecting({ journal: true });
  log.warn("odd  job=7\tx", { a: 'x\\" job=8 b="', c: "\\", d: "two\\nwords\n", e: "\u200fabc", f: { g: '\\"' } });
  expect(lines).toEqual([
    '<4>odd job=7\\tx  a="x\\\\\\" job=8 b=\\"" c="\\\\" d="two\\\\nwords\\n" e="\\u200fabc" f="{\\"g\\":\\"\\\\\\\\\\\\\\"\\"}"\n',
  ]);
  // The fields as a reader of such lines would parse them.
  const fields = [...((lines[0] ?? "").split("  ")[1]?.matchAll(/(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S+))/g) ?? [])];
  expect(fields.map(([, name]) => name)).toEqual(["a", "c", "d", "e", "f"]);
});

test("a line for the journal has no time but a syslog level", () => {
  const { log, lines } = collecting({ journal: true });
  log.error("broken", { file: "/etc/x" });
  expect(lines).toEqual(["<3>broken  file=/etc/x\n"]);
});

test("colours appear only where asked for", () => {
  const plain = collecting();
  plain.log.error("x", { a: 1 });
  expect(plain.lines[0]).not.toContain("\x1b");
  const colored = collecting({ colors: true });
  colored.log.error("x", { a: 1 });
  expect(colored.lines[0]).toContain("\x1b[31;1mERROR\x1b[0m x");
});

test("JSON lines parse, with level, time, message and every field once", () => {
  const { log, lines } = collecting({ format: "json" });
  log
    .child({ runner: "7e3b05c2" })
    .warn("100%d of %s", { job: "9007199254740993", level: 3, msg: "mine", big: 2n ** 70n });
  const line: unknown = JSON.parse(lines[0] ?? "");
  expect(line).toMatchObject({
    level: "warn",
    msg: "100%d of %s",
    runner: "7e3b05c2",
    job: "9007199254740993",
    level_: 3,
    msg_: "mine",
    big: "1180591620717411303424",
  });
  expect(line).toHaveProperty("time", expect.stringMatching(/^\d{4}-.*Z$/));
});

test("level and format change for all children at once", () => {
  const { log, lines } = collecting();
  const child = log.child({ a: 1 }).child({ b: 2 });
  child.debug("hidden");
  log.setLevel("debug");
  log.setFormat("json");
  child.debug("seen");
  log.setLevel("error");
  child.warn("hidden again");
  log.setLevel("fatal");
  child.error("hidden, too");
  expect(lines.map((line): unknown => JSON.parse(line))).toMatchObject([{ msg: "seen", a: 1, b: 2 }]);
});

test("warnings and errors are counted also where the level hides them", () => {
  const counted: string[] = [];
  const { log } = collecting({ level: "fatal", onEntry: (level) => counted.push(level) });
  log.info("a");
  log.warn("b");
  log.error("c");
  expect(counted).toEqual(["warn", "error"]);
});

test("no field can make a call throw", () => {
  for (const format of ["text", "json"] as const) {
    const { log, lines } = collecting({ format });
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    log.info("circle", circle);
    log.info("thrower", {
      get field(): string {
        throw new Error("no");
      },
    });
    log.info("symbol", { a: Symbol("s"), f: () => 1, n: null, e: new Error("outer", { cause: new Error("inner") }) });
    expect(lines).toHaveLength(3);
    expect(lines[2]).toContain("outer: inner");
  }
});

test("URLs lose user info and query", () => {
  const { log, lines } = collecting();
  log.info("x", { url: new URL("https://user:secret@host:8/path?private_token=abc") });
  expect(lines[0]).toContain("url=https://host:8/path\n");
});

test("a slow reader costs lines, not memory, and is told how many", async () => {
  const received: string[] = [];
  const held: (() => void)[] = [];
  const stream = new Writable({
    highWaterMark: 1,
    write(chunk, _encoding, callback) {
      received.push(String(chunk));
      if (held.length < 1) held.push(callback);
      else callback();
    },
  });
  const output = streamOutput(stream, (count) => `${count} dropped\n`, 1000);
  for (let line = 0; line < 100; line++) output.write(`${"x".repeat(99)}\n`);
  expect(stream.writableLength).toBeLessThan(1200);
  held[0]?.();
  await output.flush(10_000);
  output.write("after\n");
  await output.flush(10_000);
  expect(received.at(-1)).toBe("after\n");
  expect(received.at(-2)).toMatch(/^\d+ dropped\n$/);
  expect(received.length - 2 + Number.parseInt(received.at(-2) ?? "", 10)).toBe(100);
});

test("a stream that throws or errors is survived", async () => {
  const stream = new Writable({ write: (_chunk, _encoding, callback) => callback(new Error("EPIPE")) });
  const output = streamOutput(stream, String);
  for (let line = 0; line < 5; line++) output.write("x\n");
  await output.flush(10_000);
});

for (const [title, redirect] of [
  ["closed", "2>&-"],
  ["full", "2>/dev/full"],
  ["a pipe without a reader", "2> >(exit 0)"],
  ["a pipe that nobody reads", "2> >(exec sleep 600)"],
] as const) {
  test(`a process lives on when its stderr is ${title}`, async () => {
    const dir = await mkdtemp(join(tmpdir(), "log-"));
    const program = `
      import { createLog, streamOutput } from ${JSON.stringify(join(import.meta.dirname, "../src/log.ts"))};
      import { writeFileSync } from "node:fs";
      const log = createLog({ level: "info", format: "text", output: streamOutput(process.stderr, String) });
      let turns = 0;
      const timer = setInterval(() => {
        for (let line = 0; line < 200; line++) log.info("x".repeat(1000));
        if (++turns < 20) return;
        clearInterval(timer);
        writeFileSync(process.argv[1] + "/alive", String(process.memoryUsage().rss));
        process.exit(0);
      }, 5);`;
    const child = spawn(
      "bash",
      [
        "-c",
        `"$0" --input-type=module -e "$1" "$2" ${redirect}; status=$?; kill $! 2>/dev/null; exit $status`,
        process.execPath,
        program,
        dir,
      ],
      { stdio: "ignore" },
    );
    const [code] = await once(child, "exit");
    expect(code).toBe(0);
    expect(Number(await readFile(join(dir, "alive"), "utf8"))).toBeLessThan(250e6);
    await rm(dir, { recursive: true });
  });
}

test("the journal is recognised by device and inode", () => {
  expect(leadsToJournal({}, 2)).toBe(false);
  expect(leadsToJournal({ JOURNAL_STREAM: "1:2" }, 2)).toBe(false);
});
