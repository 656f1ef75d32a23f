import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { admitted, DEEPEST, MOST_NAME_BYTES } from "../../executors/common/files/unpack-rules.ts";
import { LONGEST_PATH_BYTES, readTar, type TarEntry, tarHeader, tarPadding } from "../../src/files/tar.ts";
import { LONGEST_META_BYTES, MOST_META_HEADERS, MOST_PAX_RECORDS } from "../../src/files/tar-fields.ts";
import { LEAST_BYTES, unpackLimits } from "../../src/transfer/archive.ts";
import { LARGEST_DIRECTORY_BYTES, readDirectory } from "../../src/transfer/zip/directory.ts";
import { fileName, MOST_ENTRIES } from "../../src/workspace.ts";
import { bytes, type Case, count, refusal } from "./support.ts";

function header(name: string, more: Partial<TarEntry> = {}): Buffer {
  const common = { kind: "file", size: 0, mode: 0o644, mtimeSeconds: 0, target: fileName("") } as const;
  return tarHeader({ name: fileName(name), ...common, ...more });
}

async function* times(total: number, block: Buffer): AsyncGenerator<Buffer> {
  const piece = Buffer.concat(Array.from({ length: 64 }, () => block));
  for (let left = total; left > 0; left -= 64) yield left < 64 ? piece.subarray(0, left * block.length) : piece;
}

/** The error that somebody who unpacks this tar gets. */
function unpacked(tar: AsyncIterable<Buffer>): Promise<string> {
  return refusal(async () => {
    const tally = { entries: 0, bytes: 0 };
    for await (const { item } of admitted(tar, unpackLimits(0, 0), tally, async () => null)) void item;
  });
}

function readThrough(tar: AsyncIterable<Buffer>): Promise<string> {
  return refusal(async () => {
    for await (const item of readTar(tar)) void item;
  });
}

/** A header that describes the next entry. */
function meta(type: "x" | "g" | "L", content: Buffer): Buffer {
  const head = header("PaxHeader", { size: content.length });
  head.write(type, 156, "latin1");
  head.fill(" ", 148, 156);
  head.write(
    head
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, "0"),
    148,
    "latin1",
  );
  head[154] = 0;
  return Buffer.concat([head, content, Buffer.alloc(tarPadding(content.length))]);
}

export const cases: Readonly<Record<string, Case>> = {
  "archive.entries": {
    bound: count(MOST_ENTRIES),
    beyond: () => unpacked(times(MOST_ENTRIES + 1, header("same"))),
  },
  "archive.bytes": {
    bound: bytes(LEAST_BYTES),
    beyond: () => unpacked(times(1, header("large", { size: LEAST_BYTES + 1 }))),
  },
  "archive.names": {
    bound: bytes(MOST_NAME_BYTES),
    beyond: () => {
      const name = "x/".repeat(128) + "y".repeat(1792);
      return unpacked(times(MOST_NAME_BYTES / name.length + 1, header(name)));
    },
  },
  "archive.path": {
    bound: count(LONGEST_PATH_BYTES, "bytes"),
    beyond: () => unpacked(times(1, header("x".repeat(LONGEST_PATH_BYTES + 1)))),
  },
  "archive.depth": { bound: count(DEEPEST), beyond: () => unpacked(times(1, header(`${"d/".repeat(DEEPEST)}file`))) },
  "archive.target": {
    bound: count(LONGEST_PATH_BYTES, "bytes"),
    beyond: () =>
      unpacked(times(1, header("link", { kind: "symlink", target: fileName("x".repeat(LONGEST_PATH_BYTES + 1)) }))),
  },
  "archive.zip.list": {
    bound: bytes(LARGEST_DIRECTORY_BYTES),
    async beyond() {
      const dir = await mkdtemp(join(tmpdir(), "alloy-limits-"));
      const end = Buffer.alloc(22);
      end.writeUInt32LE(0x06054b50, 0);
      end.writeUInt16LE(1, 10);
      end.writeUInt32LE(LARGEST_DIRECTORY_BYTES + 1, 12);
      const file = await open(join(dir, "zip"), "wx+");
      try {
        await file.write(end, 0, end.length, LARGEST_DIRECTORY_BYTES + 1);
        return await refusal(() => readDirectory(file, MOST_ENTRIES));
      } finally {
        await file.close();
        await rm(dir, { recursive: true });
      }
    },
  },
  "archive.tar.header": {
    bound: bytes(LONGEST_META_BYTES),
    beyond: () => readThrough(times(1, meta("L", Buffer.alloc(LONGEST_META_BYTES + 1)))),
  },
  "archive.tar.headers": {
    bound: count(MOST_META_HEADERS),
    beyond: () => readThrough(times(MOST_META_HEADERS + 1, meta("g", Buffer.from("8 k=vv\n".padStart(8, "0"))))),
  },
  "archive.tar.records": {
    bound: count(MOST_PAX_RECORDS),
    beyond: () => readThrough(times(1, meta("x", Buffer.from("6 k=v\n".repeat(MOST_PAX_RECORDS + 1))))),
  },
};
