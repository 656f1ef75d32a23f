import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as textOf } from "node:stream/consumers";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { attended } from "../../executors/common/durable/attend.ts";
import { hangBell } from "../../executors/common/durable/bell.ts";
import { BLANK_FILES, pieceName, pieceOffset, readsPerPiece } from "../../executors/common/durable/files.ts";
import { openPieces } from "../../executors/common/durable/pieces.ts";
import { readScript, type Trouble } from "../../executors/common/durable/reader.ts";

const dir = mkdtempSync(join(tmpdir(), "alloy-attend-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const where = (name: string): string =>
  execFileSync("sh", ["-c", `command -v ${name} || :`], { encoding: "utf8" }).trim();
const busybox = where("busybox");

let number = 0;

function newRoom(): string {
  const room = join(dir, String(number++));
  mkdirSync(room, { mode: 0o700 });
  return room;
}

/** What runs `text` below an attendant whose shell and tools these are, and who reads it; the reader may come and go. */
function start(text: string, sh: string, tool: (name: string) => string, windowBytes = 4 * 1024 * 1024) {
  const room = newRoom();
  for (const [name, bytes] of Object.entries(BLANK_FILES)) writeFileSync(join(room, name), " ".repeat(bytes));
  execFileSync("mkfifo", [join(room, "life"), join(room, "pipe")]);
  const open = (name: string, flags: number): number => openSync(join(room, name), flags);
  const openLife = (): number => open("life", constants.O_RDONLY | constants.O_NONBLOCK);
  const first = openLife();
  const ends = [
    open("pipe", constants.O_RDONLY | constants.O_NONBLOCK),
    open("pipe", constants.O_WRONLY),
    open("pipe", constants.O_RDONLY),
    open("life", constants.O_WRONLY),
  ] as const;
  const tools = { sh, dd: tool("dd"), setsid: tool("setsid"), sleep: tool("sleep"), wc: tool("wc") };
  const doors = { scriptDoor: "/dev/null", attendantDoor: "/dev/null" };
  const [program, ...args] = attended(["/bin/bash", "-c", text], { tools, directory: room, windowBytes, ...doors });
  const child = spawn(program, args, {
    detached: true,
    stdio: ["ignore", "ignore", "ignore", ends[2], ends[1], ends[3]],
  });
  for (const fd of ends) closeSync(fd);
  const troubles: Trouble[] = [];
  const read = (lifeFd = first, from = 0, settled?: () => number) => {
    const onTrouble = (one: Trouble): void => void troubles.push(one);
    return readScript({ directory: room, lifeFd, from, onTrouble, ...(settled === undefined ? {} : { settled }) });
  };
  return { room, child, troubles, read, openLife, closeFirst: () => closeSync(first) };
}

const shells = {
  dash: where("dash"),
  bash: where("bash"),
  busybox,
};

describe.runIf(process.platform === "linux")("an attendant", () => {
  for (const [name, program] of Object.entries(shells)) {
    test.skipIf(program === "")(`in ${name} keeps all of the output and the status`, async () => {
      const bin = join(dir, name);
      mkdirSync(bin);
      symlinkSync(program, join(bin, "sh"));
      // A Busybox has a dd of its own, which counts in its own words.
      const own = (tool: string): string => {
        if (name !== "busybox") return where(tool);
        symlinkSync(program, join(bin, tool));
        return join(bin, tool);
      };
      const script = `exec >/dev/stderr; seq 1 700000; for i in 1 2 3; do echo $i; sleep 0.02; done; printf '\\0no end'; exit 7`;
      const { room, child, read, troubles } = start(script, join(bin, "sh"), own);
      const reader = read();
      const output = await textOf(reader.output);
      const numbers = Array.from({ length: 700_000 }, (_, index) => `${index + 1}\n`).join("");
      expect(output === `${numbers}1\n2\n3\n\0no end`).toBe(true);
      expect(await reader.code).toBe(7);
      const root = await reader.root;
      expect([root?.pid === child.pid, Number(root?.startedAt) > 0]).toEqual([false, true]);
      expect([reader.complete, troubles]).toEqual([true, []]);
      expect(existsSync(join(room, pieceName(0)))).toBe(false);
      reader.close();
    });
  }

  test.skipIf(where("ksh") === "")("in a shell whose subshells are no processes starts nothing", async () => {
    const { read } = start("echo no", where("ksh"), where);
    const reader = read();
    expect([await textOf(reader.output), await reader.code]).toEqual(["", 126]);
    reader.close();
  });

  test("waits where nobody reads, and readers that come and go get every byte once", async () => {
    const { child, read, openLife, closeFirst, troubles } = start("seq 1 2000000", "/bin/sh", where);
    const parts: Buffer[] = [];
    let at = 0;
    for (let reading = true; reading; ) {
      // What is in a buffer is not settled: the next reader wants it again.
      const reader = read(openLife(), at, () => at);
      let taken = 0;
      for await (const bytes of reader.output) {
        parts.push(bytes);
        at += bytes.length;
        taken += bytes.length;
        if (taken > 3_000_000) break;
      }
      reading = !reader.complete;
      reader.close();
    }
    closeFirst();
    const output = Buffer.concat(parts).toString();
    expect([at, output.startsWith("1\n2\n"), output.endsWith("\n2000000\n")]).toEqual([14_888_896, true, true]);
    expect([output.split("\n").length, troubles]).toEqual([2_000_001, []]);
    if (child.exitCode === null) await once(child, "exit");
  });
});

describe("pieces", () => {
  test("have names that sort as they follow, and others have none", () => {
    expect(pieceOffset(pieceName(1234))).toBe(1234);
    for (const name of ["o.1", "o.10000000000000", "o.1000000000000x", "code", "o.0000000000001"]) {
      expect(pieceOffset(name)).toBeNull();
    }
    expect([64, 16, 4, 1].map((mib) => readsPerPiece(mib * 1024 * 1024))).toEqual([256, 64, 16, 16]);
  });

  test("that are missing are a gap of a known size, and what is no file is missing", () => {
    const room = newRoom();
    const put = (offset: number, content: string): void => writeFileSync(join(room, pieceName(offset)), content);
    put(0, "0123");
    put(10, "abc");
    mkdirSync(join(room, pieceName(4)));
    const begun: number[] = [];
    const pieces = openPieces({ directory: room, from: 2, onPiece: (at) => void begun.push(at) });
    onTestFinished(() => pieces.close());
    expect(pieces.read()?.toString()).toBe("23");
    expect([pieces.read(), pieces.skip(null), pieces.at]).toEqual([null, 6, 10]);
    expect([pieces.read()?.toString(), pieces.read(), pieces.skip(null)]).toEqual(["abc", null, null]);
    expect([pieces.skip(20), pieces.at, begun]).toEqual([7, 20, [0, 10]]);
    pieces.forget(13);
    expect(existsSync(join(room, pieceName(0)))).toBe(false);
  });
});

describe("a bell", () => {
  test("rings for what it is told of, and where nobody tells, for itself", async () => {
    const room = newRoom();
    const heard: (string | null)[] = [];
    const bell = hangBell(room, (name) => void heard.push(name));
    writeFileSync(join(room, "code"), "1");
    await bell.after(0);
    expect(heard[0]).toBe("code");
    bell.close();
    const deaf = hangBell(
      room,
      () => {},
      () => {
        throw new Error("no watches are left");
      },
    );
    await deaf.after(0);
    await deaf.after(deaf.rings);
    expect(deaf.rings).toBeGreaterThan(1);
    deaf.close();
  });
});
