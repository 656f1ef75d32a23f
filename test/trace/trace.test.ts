import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { crc32 } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { describeError, SystemFailure } from "../../src/errors.ts";
import { handOn } from "../../src/files/tidy.ts";
import { never } from "../../src/time.ts";
import type { Trace, TraceOptions } from "../../src/trace/contract.ts";
import { storedTrace } from "../../src/trace/stored.ts";
import { openTrace } from "../../src/trace/trace.ts";

let dir = "";
let path = "";
const opened: Trace[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "trace-"));
  path = join(dir, "trace");
});

afterEach(async () => {
  for (const trace of opened.splice(0)) await trace.close();
  rmSync(dir, { recursive: true, force: true });
});

async function open(options: Partial<TraceOptions> = {}): Promise<Trace> {
  const trace = await openTrace({
    ...{ path, secrets: [], secretPrefixes: [], limitBytes: 4096 * 1024, sections: false },
    ...options,
  });
  opened.push(trace);
  return trace;
}

function write(trace: Trace, bytes: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => trace.output.write(bytes, (error) => (error ? reject(error) : resolve())));
}

async function text(trace: Trace): Promise<string> {
  await trace.flush();
  expect(readFileSync(path)).toEqual(await trace.read(0, trace.size));
  expect(trace.crc32).toBe(crc32(readFileSync(path)));
  return readFileSync(path, "utf8");
}

function notice(limitBytes: number): string {
  return `\x1b[33;1mJob's output exceeded the limit of ${limitBytes} bytes. The job continues, but nothing more of its output is kept.\x1b[0;m\n`;
}

describe("output", () => {
  it.each([
    ["little", 3],
    ["more than is worked on at a time", 300_000],
  ])("gives back the memory that was handed on, whole, to it and to nobody else: %s", async (_, bytes) => {
    const trace = await open();
    const piece = (letter: string): Buffer => Buffer.allocUnsafeSlow(bytes).fill(letter);
    const [own, kept, part] = [piece("a"), piece("b"), piece("c")];
    handOn(own);
    handOn(part);
    for (const chunk of [own, kept, part.subarray(1)]) trace.output.write(chunk);
    expect(await text(trace)).toBe("a".repeat(bytes) + "b".repeat(bytes) + "c".repeat(bytes - 1));
    expect([own.length, kept.length, part.length]).toEqual([0, bytes, bytes]);
  });

  it("gives it back behind the limit and after its end, too", async () => {
    const trace = await open({ limitBytes: 10 });
    const late = Array.from({ length: 2 }, () => Buffer.allocUnsafeSlow(100).fill("x"));
    for (const chunk of late) handOn(chunk);
    await write(trace, "x".repeat(20));
    await write(trace, late[0] ?? "");
    await trace.end();
    await write(trace, late[1] ?? "");
    expect(late.map(({ length }) => length)).toEqual([0, 0]);
  });

  it("arrives whole, masked and in order, in a private file", async () => {
    const trace = await open({ secrets: ["s3cr3t-value"] });
    trace.output.write("one s3cr3t-");
    trace.print("between, s3cr3t-value too");
    trace.output.write("value two\n");
    expect(await text(trace)).toBe("one \n\x1b[0Kbetween, [MASKED] too\x1b[0;m\n[MASKED] two\n");
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it("hides what becomes known to be secret later, in what follows, also in the runner's own lines", async () => {
    const trace = await open({ secrets: ["s3cr3t-value"] });
    trace.output.write("before regist");
    trace.hide(["registry-password"]);
    trace.hide([]);
    trace.output.write(" registry-pass");
    trace.print("said registry-password");
    trace.output.write("word s3cr3t-value dTpyZWdpc3RyeS1wYXNzd29yZA==\n");
    expect(await text(trace)).toBe("before regist \n\x1b[0Ksaid [MASKED]\x1b[0;m\n[MASKED] [MASKED] dT[MASKED]\n");
  });

  it("keeps what the mask held back when a stage ends", async () => {
    const trace = await open({ secrets: ["s3cr3t-value"] });
    trace.output.write("half s3cr3t");
    expect(await text(trace)).toBe("half s3cr3t");
    trace.output.write("-value\n");
    expect(await text(trace)).toBe("half s3cr3t-value\n");
  });

  it("is valid text whatever is written: NUL, Latin-1, half characters", async () => {
    const trace = await open();
    await write(trace, Buffer.from("a\0b\xfc", "latin1"));
    await write(trace, Buffer.from([0xe2, 0x82]));
    await write(trace, Buffer.from([0xac, 0xf0, 0x9f]));
    expect(await text(trace)).toBe("a\ufffdb\ufffd€\ufffd");
  });

  it("of services stands on lines of its own, masked, with its own mark where lines have times, within the limit", async () => {
    const trace = await open({ secrets: ["s3cr3t-value"], stamps: true, limitBytes: 500 });
    trace.output.write("half a l");
    trace.services.write("[service:db] 1 with s3cr3t-value\n");
    trace.output.write("ine\n");
    const lines = (await text(trace)).split("\n");
    expect(lines.map((line) => line.slice(28))).toEqual([
      "01O half a l",
      "0fO [service:db] 1 with [MASKED]",
      "01O ine",
      "",
    ]);
    trace.services.write(`${"x".repeat(600)}\n`);
    trace.services.write("not kept\n");
    trace.print("verdict", "error");
    const kept = (await text(trace)).split("\n");
    expect(kept.every((line) => line === "" || /^\S{27} [01][01f]O[ +]./.test(line))).toBe(true);
    expect(kept.join("\n")).not.toContain("not kept");
    expect(kept.at(-2)).toContain("ERROR: verdict");
    await trace.end();
    const { size } = trace;
    trace.services.write("too late\n");
    await trace.flush();
    expect(trace.size).toBe(size);
  });

  it("never shows a part of a character to whoever reads along", async () => {
    const trace = await open({ secrets: ["geheim-geheim"] });
    const sizes = new Set<number>();
    trace.watch(() => sizes.add(trace.size));
    const sample = Buffer.from("ä€😀geheim-geheimé".repeat(40));
    for (const byte of sample) await write(trace, Uint8Array.of(byte));
    await pipeline(Readable.from([Buffer.from("€".repeat(200_000)), sample]), trace.output, { end: false });
    const all = Buffer.from(await text(trace));
    for (const size of sizes) expect(all.subarray(0, size).toString()).not.toContain("\ufffd");
    expect(sizes.size).toBeGreaterThan(1);
  });

  it("of a million small writes from two writers is complete", async () => {
    const trace = await open({ limitBytes: 1e9 });
    const lines = (name: string) => Readable.from(Array.from({ length: 20_000 }, (_, index) => `${name} ${index}\n`));
    await Promise.all(["a", "b"].map((name) => pipeline(lines(name), trace.output, { end: false })));
    const all = (await text(trace)).split("\n");
    for (const name of ["a", "b"]) {
      const own = all.filter((line) => line.startsWith(name));
      expect(own).toEqual(Array.from({ length: 20_000 }, (_, index) => `${name} ${index}`));
    }
  });

  it("can be destroyed by mistake without taking the runner's own lines along", async () => {
    const trace = await open();
    trace.output.write("x\n");
    trace.output.destroy(new Error("mistake"));
    trace.print("verdict", "error");
    expect(await text(trace)).toContain("ERROR: verdict");
  });
});

describe("limit", () => {
  it.each([
    ["ab", "abcdef", 4, "abcd"],
    ["2-byte characters", "ééé", 3, "é"],
    ["3-byte characters", "€€", 5, "€"],
    ["4-byte characters", "😀😀", 7, "😀"],
    ["a first character that is too long", "€", 1, ""],
    ["no room at all", "x", 0, ""],
  ])("cuts at a character: %s", async (_name, input, limitBytes, kept) => {
    for (const pieces of [[input], Array.from(Buffer.from(input), (byte) => Uint8Array.of(byte))]) {
      rmSync(path, { force: true });
      const trace = await open({ limitBytes });
      for (const piece of pieces) await write(trace, piece);
      expect(await text(trace)).toBe(`${kept}${kept === "" ? "" : "\n"}${notice(limitBytes)}`);
    }
  });

  it("says nothing when the output just fits", async () => {
    const trace = await open({ limitBytes: 6 });
    await write(trace, "abc");
    await write(trace, "def");
    expect(await text(trace)).toBe("abcdef");
    await write(trace, "g");
    expect(await text(trace)).toBe(`abcdef\n${notice(6)}`);
  });

  it("is counted after masking, is said once, and leaves room for the verdict, whatever else the runner says", async () => {
    const trace = await open({ limitBytes: 20, secrets: ["a-very-very-long-secret"] });
    await write(trace, "a-very-very-long-secret\n".repeat(5));
    await write(trace, "more\n");
    for (let index = 0; index < 2000; index++) trace.print(`line ${index} ${"x".repeat(100)}`);
    trace.print("Job failed: exit status 3", "error");
    const all = await text(trace);
    expect(all).toMatch(/^\[MASKED\]\n\[MASKED\]\n\[M?\n?/);
    expect(all.split("exceeded the limit").length).toBe(2);
    expect(all.endsWith("\x1b[31;1mERROR: Job failed: exit status 3\x1b[0;m\n")).toBe(true);
    expect(trace.size).toBeLessThan(20 + 65 * 1024);
  });

  it("drops a flood at no cost, with and without line breaks", async () => {
    const trace = await open({ limitBytes: 1024 * 1024, secrets: ["s3cr3t-value"] });
    const before = process.memoryUsage().rss;
    const chunk = Buffer.alloc(64 * 1024, "x".repeat(99));
    async function* flood(): AsyncGenerator<Buffer> {
      for (let sent = 0; sent < 2e9; sent += chunk.length) yield chunk;
    }
    const start = performance.now();
    await pipeline(Readable.from(flood()), trace.output, { end: false });
    expect(performance.now() - start).toBeLessThan(20_000);
    await trace.flush();
    expect(process.memoryUsage().rss - before).toBeLessThan(150e6);
    expect(trace.size).toBe(1024 * 1024 + 1 + notice(1024 * 1024).length);
  });

  it("keeps memory flat when 500 MB are kept", async () => {
    const trace = await open({ limitBytes: 1e12, secrets: ["s3cr3t-value"] });
    const before = process.memoryUsage().rss;
    const chunk = Buffer.alloc(64 * 1024, "some line of text that is kept\n");
    async function* flood(): AsyncGenerator<Buffer> {
      for (let sent = 0; sent < 500e6; sent += chunk.length) yield chunk;
    }
    await pipeline(Readable.from(flood()), trace.output, { end: false });
    await trace.flush();
    expect(trace.size).toBe(Math.ceil(500e6 / chunk.length) * chunk.length);
    expect(process.memoryUsage().rss - before).toBeLessThan(150e6);
  });
});

describe("the runner's own lines", () => {
  it("are colored, labelled, on lines of their own, and end their color before the line", async () => {
    const trace = await open();
    trace.output.write("no line break");
    trace.print("plain");
    trace.print("good", "notice");
    trace.print("careful", "warning");
    trace.print("bad\nin two lines\n", "error");
    trace.print("ERROR: labelled", "error");
    expect(await text(trace)).toBe(
      "no line break\n\x1b[0Kplain\x1b[0;m\n\x1b[32;1mgood\x1b[0;m\n\x1b[0;33mWARNING: careful\x1b[0;m\n" +
        "\x1b[31;1mERROR: bad\x1b[0;m\n\x1b[31;1min two lines\x1b[0;m\n\x1b[31;1mERROR: labelled\x1b[0;m\n",
    );
  });

  it("neutralise control characters that a name may bring along", async () => {
    const trace = await open();
    trace.print("on \x1b[2Jhost\x07\x9b1m\r\nnext\tcolumn\0");
    expect(await text(trace)).toBe(
      "\x1b[0Kon \ufffd[2Jhost\ufffd\ufffd1m\x1b[0;m\n\x1b[0Knext\tcolumn\ufffd\x1b[0;m\n",
    );
  });
});

describe("sections", () => {
  it("fold around their body, also when it fails, and keep its output inside", async () => {
    const trace = await open({ sections: true, secrets: ["s3cr3t-value"] });
    const failing = trace.section("Build Script!", async () => {
      trace.print("inside");
      trace.output.write("held s3cr3t");
      throw new Error("no");
    });
    await expect(failing).rejects.toThrow("no");
    trace.print("after");
    const all = (await text(trace)).replace(/:\d{10}:/g, ":T:");
    expect(all).toBe(
      "section_start:T:build_script_\r\x1b[0K\x1b[0Kinside\x1b[0;m\nheld s3cr3t\nsection_end:T:build_script_\r\x1b[0K\x1b[0Kafter\x1b[0;m\n",
    );
  });

  it("are left out where the coordinator does not know them", async () => {
    const trace = await open();
    expect(await trace.section("x", async () => 7)).toBe(7);
    expect(await text(trace)).toBe("");
  });
});

describe("spool", () => {
  it("is continued where the sound text of an existing file ends", async () => {
    writeFileSync(path, Buffer.concat([Buffer.from("before €"), Buffer.from([0xe2, 0x82]), Buffer.alloc(4096)]));
    const trace = await open({ limitBytes: 20 });
    trace.print("died", "error");
    await write(trace, "0123456789");
    expect(await text(trace)).toBe(`before €\n\x1b[31;1mERROR: died\x1b[0;m\n${notice(20)}`);
  });

  it("never follows a link and names the path it cannot use", async () => {
    writeFileSync(join(dir, "victim"), "precious");
    symlinkSync(join(dir, "victim"), path);
    await expect(open()).rejects.toThrow(SystemFailure);
    await expect(open()).rejects.toThrow(path);
    await expect(open({ path: join(dir, "missing", "trace") })).rejects.toThrow("ENOENT");
    await expect(open({ path: dir })).rejects.toThrow(SystemFailure);
    expect(readFileSync(join(dir, "victim"), "utf8")).toBe("precious");
  });

  it("that was deleted breaks the trace", async () => {
    const trace = await open();
    await write(trace, "x\n");
    await trace.flush();
    unlinkSync(path);
    const broken = new Promise((resolve) => trace.broken.addEventListener("abort", resolve, { once: true }));
    const timer = setInterval(() => trace.output.write("more\n"), 50);
    await broken;
    clearInterval(timer);
    expect(trace.broken.reason).toBeInstanceOf(SystemFailure);
    expect(trace.broken.reason.message).toContain(path);
    await trace.end();
    expect(trace.ended).toBe(true);
  });

  const canMount = process.getuid?.() === 0 && process.platform === "linux" && mountable();
  it.skipIf(!canMount)(
    "on a full disk breaks the trace, keeps valid text and the last words (needs root to mount a tmpfs)",
    async () => {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", dir]);
      try {
        const trace = await open({ limitBytes: 1e9 });
        const other = join(dir, "..", `${process.pid}-other-trace`);
        const neighbor = await open({ path: other });
        const chunk = Buffer.from("€".repeat(10_000));
        async function* flood(): AsyncGenerator<Buffer> {
          for (let sent = 0; sent < 50e6; sent += chunk.length) yield chunk;
        }
        await pipeline(Readable.from(flood()), trace.output, { end: false });
        await trace.flush();
        expect(trace.broken.aborted).toBe(true);
        expect(trace.broken.reason.message).toContain("ENOSPC");
        trace.print("Job failed (system failure): disk full", "error");
        await trace.end();
        const bytes = readFileSync(path);
        expect(bytes.length).toBe(trace.size);
        expect(bytes.toString()).toMatch(/^€+\n\x1b\[31;1mERROR: Job failed \(system failure\): disk full\x1b\[0;m\n$/);
        expect(trace.crc32).toBe(crc32(bytes));
        neighbor.print("fine");
        await neighbor.end();
        expect(neighbor.broken.aborted).toBe(false);
        rmSync(other);
        await trace.close();
      } finally {
        execFileSync("umount", ["-l", dir]);
      }
    },
  );

  it("tells watchers of growth and of the end, until they stop listening", async () => {
    const trace = await open();
    const sizes: number[] = [];
    const stop = trace.watch(() => sizes.push(trace.size));
    for (let index = 0; index < 1000; index++) trace.output.write("x\n");
    await trace.flush();
    expect(sizes.at(-1)).toBe(2000);
    expect(sizes.length).toBeLessThan(20);
    await trace.end();
    const told = sizes.length;
    stop();
    trace.print("nobody hears this");
    trace.output.write("nor this");
    await trace.end();
    expect(sizes.length).toBe(told);
    expect(trace.size).toBe(2000);
  });
});

describe("a stored trace", () => {
  it("is read again from disk as often as asked", async () => {
    const body = "line of text\n".repeat(100_000);
    writeFileSync(path, `${body}beyond`);
    const stored = storedTrace(path, body.length);
    for (let round = 0; round < 2; round++) {
      const parts: Buffer[] = [];
      for await (const part of stored.open(never)) parts.push(Buffer.from(part));
      expect(Buffer.concat(parts).toString() === body).toBe(true);
    }
    expect(await Readable.from(storedTrace(path, 0).open(never)).toArray()).toEqual([]);
  });

  it("fails rather than being cut in silence", async () => {
    writeFileSync(path, "short");
    await expect(Readable.from(storedTrace(path, 10).open(never)).toArray()).rejects.toSatisfy(tells("5 of 10 bytes"));
    await expect(Readable.from(storedTrace(join(dir, "none"), 10).open(never)).toArray()).rejects.toSatisfy(
      tells("ENOENT"),
    );
    const stop = AbortSignal.abort(new Error("stop"));
    await expect(Readable.from(storedTrace(path, 5).open(stop)).toArray()).rejects.toThrow();
  });
});

function tells(what: string): (error: unknown) => boolean {
  return (error) => error instanceof SystemFailure && describeError(error).includes(what);
}

function mountable(): boolean {
  const probe = mkdtempSync(join(tmpdir(), "trace-mount-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", probe], { stdio: "ignore" });
    execFileSync("umount", [probe], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  } finally {
    rmSync(probe, { recursive: true, force: true });
  }
}
