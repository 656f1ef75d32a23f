import { describe, expect, test } from "vitest";
import { headerOf, stampedBoundary } from "../../src/trace/stamp/header.ts";
import { createStampReader, openStampReader } from "../../src/trace/stamp/reader.ts";
import { createStamper, type Stamper } from "../../src/trace/stamp/stamper.ts";

const T = "2026-01-02T03:04:05.123456Z";
const AT = Date.UTC(2026, 0, 2, 3, 4, 5, 123) * 1000 + 456;
const SECTION = "\r\u001b[0K";

type Write = readonly ["script" | "runner", string];

function stamped(writes: readonly Write[], stamper: Stamper = createStamper({ clock: () => AT })): string {
  const parts = writes.map(([stream, text]) => Buffer.from(stamper.push(stream, Buffer.from(text))).toString());
  return [...parts, stamper.flush().toString()].join("");
}

const script = (...texts: string[]): Write[] => texts.map((text) => ["script", text]);
const runner = (...texts: string[]): Write[] => texts.map((text) => ["runner", text]);
const dots = (count: number): string => ".".repeat(count);

describe("times of lines, byte for byte as GitLab's runner writes them", () => {
  test.each<[string, Write[], string[]]>([
    [
      "progress that returns to the start of its line",
      script("a\r\nb", "c\n", "10%\r", "20%\r", "done\n", "x\ry", "z\n", "tail"),
      ["01O a\r", "01O bc", "01O 10%\r", "01O+20%\r", "01O+done", "01O x\ry", "01O+z", "01O tail"],
    ],
    [
      "markers of sections",
      runner(
        `section_start:1:get_sources${SECTION}`,
        "\u001b[0K\u001b[36;1mGetting source\u001b[0;m\n",
        `section_end:1:get_sources${SECTION}`,
        "next\n",
      ),
      [
        `00O section_start:1:get_sources${SECTION}`,
        "00O+\u001b[0K\u001b[36;1mGetting source\u001b[0;m",
        `00O section_end:1:get_sources${SECTION}`,
        "00O+next",
      ],
    ],
    ["several lines at once", script("multiple\nnew\nlines\n"), ["01O multiple", "01O new", "01O lines"]],
    ["a break first", script("\nstart", "\nend\n"), ["01O ", "01O start", "01O end"]],
    [
      "a line that is longer than what waits",
      script(`x${dots(8192)}`, dots(8193), "ended\n"),
      [`01O x${dots(8192)}`, `01O+${dots(8193)}`, "01O+ended"],
    ],
    [
      "the runner between two parts of a script's line: it is no part of it",
      [
        ["script", "10%\r"],
        ["runner", "warning\n"],
        ["script", "20%\n"],
        ["script", "tail"],
        ["runner", "end\n"],
      ],
      ["01O 10%\r", "00O warning", "01O 20%", "01O tail", "00O end"],
    ],
    ["empty writes", script("", "a", "", "b\n"), ["01O ab"]],
  ])("%s", (_, writes, lines) => {
    expect(stamped(writes)).toBe(lines.map((line) => `${T} ${line}\n`).join(""));
  });

  test.each([0, 1, 7, 60, 5000])("of a lot of output at once, in lines of %i bytes", (bytes) => {
    const texts = Array.from({ length: 3 }, (_, index) => {
      const lines = Array.from({ length: Math.ceil(64_000 / (bytes + 1)) }, (_, line) => `${line % 10}`.repeat(bytes));
      return `${lines.join("\n")}\n${index}tail`;
    });
    const lines = texts.join("").split("\n");
    expect(stamped(script(...texts))).toBe(lines.map((line) => `${T} 01O ${line}\n`).join(""));
  });

  test("what has ended says nothing more, and goes on as a line that was open", () => {
    const stamper = createStamper({ clock: () => AT });
    expect(stamped(script("tail"), stamper)).toBe(`${T} 01O tail\n`);
    expect(stamper.flush()).toHaveLength(0);
    const resumed = createStamper({ clock: () => AT, resume: stamper.state });
    expect(stamped(script("s\n"), resumed)).toBe(`${T} 01O+s\n`);
    const other = createStamper({ clock: () => AT, resume: stamper.state });
    expect(stamped(runner("verdict\n"), other)).toBe(`${T} 00O verdict\n`);
  });

  test("a line has the time of its first byte, and no clock goes backwards", () => {
    const times = [AT + 3, AT + 5, AT + 9];
    const stamper = createStamper({ clock: () => times.shift() ?? 0 });
    const text = stamped(script("first", " more\n", "next\n"), stamper);
    expect(text).toBe("2026-01-02T03:04:05.123459Z 01O first more\n2026-01-02T03:04:05.123465Z 01O next\n");
    const later = createStamper({ resume: { open: null, lastMicros: AT + 10 * 365 * 86_400_000_000 } });
    expect(stamped(script("a\n"), later)).toContain("2035-12-31T03:04:05.123456Z 01O a");
  });

  test.each(["Africa/Cairo", "America/Anchorage"])("times are UTC in %s, with six digits that go on", (zone) => {
    const before = process.env.TZ;
    process.env.TZ = zone;
    try {
      const begun = new Date().toISOString().slice(0, 16);
      const times = [1, 2, 3, 4, 5].map(() => stamped(script("line\n"), createStamper()).slice(0, 27));
      expect(times.every((time) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(time))).toBe(true);
      expect(times[0]?.slice(0, 16) === begun || times[0]?.slice(0, 10) === begun.slice(0, 10)).toBe(true);
      expect(new Set(times.map((time) => time.slice(20, 26))).size).toBeGreaterThan(1);
    } finally {
      if (before === undefined) delete process.env.TZ;
      else process.env.TZ = before;
    }
  });

  test("a cut leaves no header without text", () => {
    const bytes = Buffer.from(stamped(script("one\ntwo\n")));
    expect(stampedBoundary(bytes, 40)).toBe(36);
    expect(stampedBoundary(bytes, 68)).toBe(36);
    expect(stampedBoundary(bytes, 69)).toBe(69);
    expect(stampedBoundary(bytes, 1000)).toBe(bytes.length);
    expect(headerOf(AT, "runner", true).toString()).toBe(`${T} 00O+`);
  });
});

describe("a trace with times is read as if it had none", () => {
  const plain = "a\r\nbc\n10%\r20%\rdone\nx\ryz\ntail ä\n";
  const file = Buffer.from(stamped([...script("a\r\nb", "c\n", "10%\r", "20%\r", "done\n", "x\ry", "z\n", "tail ä")]));

  test("in pieces of any size, and from wherever reading was given up", () => {
    for (let size = 1; size < 70; size++) {
      let reader = createStampReader({ from: 0, inLine: false });
      const shown: Buffer[] = [];
      for (let at = 0; at < file.length; at += size) shown.push(reader.read(file.subarray(at, at + size)));
      shown.push(reader.settle(false));
      expect(Buffer.concat(shown).toString(), `pieces of ${size}`).toBe(plain);
      reader = createStampReader({ from: 0, inLine: false });
      const first = reader.read(file.subarray(0, size));
      const at = reader.position;
      expect(file.length - at).toBeGreaterThan(0);
      expect(at).toBeLessThanOrEqual(size);
      expect(first.length).toBeLessThanOrEqual(size);
    }
  });

  test("resumed at each byte, nothing is missing and nothing comes twice", async () => {
    const trace = {
      size: file.length,
      read: async (from: number, most: number) => file.subarray(from, Math.min(file.length, from + most)),
    };
    for (let stop = 1; stop < file.length; stop++) {
      const reader = createStampReader({ from: 0, inLine: false });
      const first = reader.read(file.subarray(0, stop));
      const again = await openStampReader(trace, reader.position);
      const rest = [again?.read(file.subarray(again.position)), again?.settle(false)];
      expect(Buffer.concat([first, ...rest.flatMap((part) => part ?? [])]).toString(), `stopped at ${stop}`).toBe(
        plain,
      );
    }
    expect(await openStampReader({ ...trace, read: async () => Buffer.from("plain\n") }, 0)).toBeNull();
  });

  test("a line without a header loses nothing", () => {
    const reader = createStampReader({ from: 0, inLine: false });
    const text = `${T} 01O one\nshort\n${"long ".repeat(10)}\n${T} 01O two\n`;
    expect(Buffer.concat([reader.read(Buffer.from(text)), reader.settle(false)]).toString()).toBe(
      `one\nshort\n${"long ".repeat(10)}\ntwo\n`,
    );
  });

  test("the break of a line that goes on is held back", () => {
    const reader = createStampReader({ from: 0, inLine: false });
    expect(reader.read(Buffer.from(`${T} 01O ask: \n`)).toString()).toBe("ask: ");
    expect(reader.settle(true)).toHaveLength(0);
    expect(reader.read(Buffer.from(`${T} 01O+yes\n`)).toString()).toBe("yes");
    expect(reader.settle(false).toString()).toBe("\n");
  });
});
