import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { packFiles } from "../../executors/shell/files/pack.ts";
import { unpackFiles } from "../../executors/shell/files/unpack.ts";
import { type TarEntry, type TarKind, tarEnd, tarHeader, tarPadding } from "../../src/files/tar.ts";
import { never } from "../../src/time.ts";
import { openArchive, tarToZip, tarToZstd, unpackLimits } from "../../src/transfer/archive.ts";
import { FRAME_BYTES } from "../../src/transfer/zstd.ts";
import { fileName, fileNameOf } from "../../src/workspace.ts";

const limits = { ...unpackLimits(0, 0), freeBytes: 0 };
const options = { level: "default", minFreeBytes: 0 } as const;

const MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);

let dir: string;
let places: { root: string; tmpDir: string };

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "alloy-archive-"));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  places = { root: join(dir, "root"), tmpDir: join(dir, "tmp") };
  mkdirSync(places.root);
});

function tar(
  ...entries: (Partial<TarEntry> & { kind: TarKind; name: TarEntry["name"]; content?: string | Buffer })[]
): Readable {
  const blocks = entries.flatMap(({ content = "", ...entry }) => {
    const bytes = Buffer.from(content);
    const full = { mode: 0o644, mtimeSeconds: 1, target: fileName(""), ...entry, size: bytes.length };
    return [tarHeader(full), bytes, Buffer.alloc(tarPadding(bytes.length))];
  });
  return Readable.from([...blocks, tarEnd], { objectMode: false });
}

async function unpack(archive: Readable) {
  return await unpackFiles(places, archive, limits, never);
}

/** Opens an archive as a tar; its file is closed with the stream. */
async function openAt(path: string): Promise<Readable> {
  const file = await open(path);
  const archive = await openArchive(file, path, limits, never);
  archive.once("close", () => void file.close());
  return archive;
}

function nothingIsLeft(): void {
  expect(readdirSync(places.root)).toEqual([]);
  expect(readdirSync(places.tmpDir)).toEqual([]);
}

describe("unpacking stays inside", () => {
  test.each([
    ["../evil", "leaves the project"],
    ["a/../../evil", "leaves the project"],
    ["/etc/evil", "absolute path"],
    [`${"d/".repeat(300)}deep`, "too deep"],
  ])("%s is refused by name, and nothing is unpacked", async (name, why) => {
    const archive = tar(
      { kind: "file", name: fileNameOf("good"), content: "x" },
      { kind: "file", name: fileNameOf(name), content: "x" },
    );
    await expect(unpack(archive)).rejects.toThrow(why);
    nothingIsLeft();
  });

  test("an entry below a link of the same archive is refused, in any order", async () => {
    const outside = join(dir, "outside");
    mkdirSync(outside);
    const link = { kind: "symlink", name: fileNameOf("link"), target: fileNameOf(outside) } as const;
    const file = { kind: "file", name: fileNameOf("link/evil"), content: "x" } as const;
    await expect(unpack(tar(link, file))).rejects.toThrow(/link/);
    await expect(unpack(tar(file, link))).rejects.toThrow(/link/);
    nothingIsLeft();
    expect(readdirSync(outside)).toEqual([]);
  });

  test("nothing is unpacked through a link in the working copy, and a file's place is taken, not followed", async () => {
    const outside = join(dir, "outside");
    mkdirSync(outside);
    writeFileSync(join(outside, "canary"), "alive");
    symlinkSync(outside, join(places.root, "dir"));
    await expect(unpack(tar({ kind: "file", name: fileNameOf("dir/canary"), content: "x" }))).rejects.toThrow(
      "symbolic link in the working copy",
    );
    symlinkSync(join(outside, "canary"), join(places.root, "file"));
    await unpack(tar({ kind: "file", name: fileNameOf("file"), content: "new" }));
    expect(readFileSync(join(outside, "canary"), "utf8")).toBe("alive");
    expect(readFileSync(join(places.root, "file"), "utf8")).toBe("new");
  });

  test.each(["hard link", "device", "other"] as const)("a %s is refused", async (kind) => {
    const types = { "hard link": "1", device: "3", other: "Z" } as const;
    const head = tarHeader({
      kind: "file",
      name: fileNameOf("odd"),
      size: 0,
      mode: 0o644,
      mtimeSeconds: 1,
      target: fileName(""),
    });
    head.write(types[kind], 156, "latin1");
    head.fill(" ", 148, 156);
    let sum = 0;
    for (const byte of head) sum += byte;
    head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    await expect(unpack(Readable.from([head, tarEnd], { objectMode: false }))).rejects.toThrow(/odd/);
    nothingIsLeft();
  });

  test("setuid bits are not restored, and limits hold", async () => {
    await unpack(tar({ kind: "file", name: fileNameOf("tool"), mode: 0o4755, content: "x" }));
    expect(statSync(join(places.root, "tool")).mode & 0o7777).toBe(0o755);
    const many = tar(
      ...["a", "b", "c"].map((name) => ({ kind: "file", name: fileNameOf(name), content: "xx" }) as const),
    );
    await expect(unpackFiles(places, many, { ...limits, entries: 2 }, never)).rejects.toThrow("more than 2 entries");
    const large = tar({ kind: "file", name: fileNameOf("large"), content: "x".repeat(1000) });
    await expect(unpackFiles(places, large, { ...limits, bytes: 999 }, never)).rejects.toThrow("larger than 999 bytes");
    const full = tar({ kind: "file", name: fileNameOf("large"), content: "x" });
    await expect(unpackFiles(places, full, { ...limits, freeBytes: 2 ** 52 }, never)).rejects.toThrow("min_free_disk");
    expect(readdirSync(places.root)).toEqual(["tool"]);
  });
});

/** Every bit of a small zip file matters, or the content is still right without it. */
test("a damaged zip file never comes out as something else", async () => {
  const file = join(dir, "good.zip");
  const content = "some text, some text\n".repeat(20);
  await tarToZip(
    tar({ kind: "file", name: fileNameOf("a"), content }, { kind: "file", name: fileNameOf("b"), content: "b" }),
    file,
    options,
    never,
  );
  const good = readFileSync(file);
  const bad = join(dir, "bad.zip");
  const attempt = async (bytes: Buffer): Promise<void> => {
    writeFileSync(bad, bytes);
    rmSync(places.root, { recursive: true, force: true });
    try {
      await unpack(await openAt(bad));
    } catch (error) {
      expect(String(error)).toMatch(/ScriptFailure/);
      return;
    }
    const names = readdirSync(places.root);
    const contents = names.map((name) => {
      const path = join(places.root, name);
      return statSync(path).isDirectory() ? "" : readFileSync(path, "utf8");
    });
    for (const text of contents) expect([content, "b", ""]).toContain(text);
  };
  for (let at = 0; at < good.length; at++) {
    const flipped = Buffer.from(good);
    flipped[at] = (flipped[at] ?? 0) ^ 0x41;
    await attempt(flipped);
  }
  for (let length = 0; length < good.length; length += 3) {
    writeFileSync(bad, good.subarray(0, length));
    await expect(unpack(await openAt(bad))).rejects.toThrow(/archive/);
  }
});

test("names of any bytes, long ones and odd kinds come back as they were, by zip and by Zstandard", async () => {
  const zoo = join(dir, "zoo");
  mkdirSync(zoo);
  const script = String.raw`set -e
    printf x > "$(printf '\377\376')"; printf x > "$(printf 'new\nline')"; printf x > ./-dash; printf x > 'back\slash'
    n=$(printf '%0200d' 0); mkdir -p $n/$n; printf deep > $n/$n/$n; ln -s /nowhere link; ln -s $n/$n long; mkdir -m 0500 empty
    seq 1 400000 > large; head -c 3000000 /dev/urandom > random; : > nothing; chmod 0400 nothing; touch -d 1999-12-31T12:00:00Z large`;
  execFileSync("bash", ["-c", script], { cwd: zoo });
  const found = execFileSync("find", [".", "-mindepth", "1", "-printf", "%P\\0"], { cwd: zoo, encoding: "latin1" });
  const paths = found
    .split("\0")
    .slice(0, -1)
    .sort()
    .map((path) => fileName(path));
  const facts = (at: string): string =>
    execFileSync(
      "bash",
      [
        "-c",
        `find . -mindepth 1 -printf '%P %y %m %l %Ts\\0' | sort -z; find . -type f -print0 | sort -z | xargs -0 sha256sum`,
      ],
      { cwd: at, encoding: "latin1" },
    );
  const archives = [
    ["a.zip", tarToZip],
    ["a.zst", tarToZstd],
  ] as const;
  for (const [name, write] of archives) {
    const file = join(dir, name);
    const packed = packFiles(zoo, paths, never);
    await write(packed.tar, file, options, never);
    expect(packed.warnings).toEqual([]);
    rmSync(places.root, { recursive: true, force: true });
    await unpack(await openAt(file));
    expect(facts(places.root)).toBe(facts(zoo));
  }
  execFileSync("unzip", ["-tq", join(dir, "a.zip")]);
});

test("identical files make identical zips; what does not shrink is stored, and small files keep their order", async () => {
  const noise = randomBytes(400_000);
  const letters = Buffer.from(randomBytes(2_500_000).toString("base64"));
  const entries = [
    ...Array.from({ length: 3000 }, (_, index) => ({
      kind: "file" as const,
      name: fileNameOf(`text-${index}`),
      content: `line ${index}\n`.repeat(index % 300),
    })),
    { kind: "file", name: fileNameOf("letters"), content: letters },
    { kind: "file", name: fileNameOf("noise"), content: noise },
    { kind: "symlink", name: fileNameOf("to"), target: fileNameOf("t/".repeat(200)) },
    { kind: "directory", name: fileNameOf("zz") },
  ] as const;
  const files = ["one.zip", "two.zip"].map((name) => join(dir, name));
  for (const file of files) await tarToZip(tar(...entries), file, options, never);
  const [one, two] = files.map((file) => readFileSync(file));
  expect(one?.equals(two ?? Buffer.alloc(0))).toBe(true);
  const listing = execFileSync("unzip", ["-v", files[0] ?? ""], { maxBuffer: 1e8 }).toString();
  expect(listing).toMatch(/ 400000 +Stored +400000 .* noise\n/);
  // Random letters have six bits each, so no way to compress them can do better than that.
  expect(Number(/ +Defl:\S+ +(\d+) .* letters\n/.exec(listing)?.[1])).toBeLessThan(letters.length * 0.77);
  execFileSync("unzip", ["-tq", files[0] ?? ""]);
  expect(listing.match(/text-\d+$/gm)).toEqual(Array.from({ length: 3000 }, (_, index) => `text-${index}`));
  await unpack(await openAt(files[1] ?? ""));
  expect(readFileSync(join(places.root, "letters")).equals(letters)).toBe(true);
  expect(readFileSync(join(places.root, "text-2999"), "utf8")).toBe("line 2999\n".repeat(299));
  expect(readlinkSync(join(places.root, "to"))).toBe("t/".repeat(200));
});

test("an entry that says it is a directory of many bytes takes no memory, and one whose checksum is wrong is named", async () => {
  const file = join(dir, "a.zip");
  await tarToZip(
    tar(
      { kind: "directory", name: fileNameOf("d") },
      { kind: "file", name: fileNameOf("f"), content: "x".repeat(9000) },
    ),
    file,
    options,
    never,
  );
  const good = readFileSync(file);
  const central = good.indexOf(Buffer.from([0x50, 0x4b, 1, 2]));
  const large = Buffer.from(good);
  large.writeUInt32LE(0xfffffff0, central + 24);
  writeFileSync(file, large);
  const before = process.memoryUsage().rss;
  await unpack(await openAt(file));
  expect(process.memoryUsage().rss - before).toBeLessThan(400e6);
  const second = good.indexOf(Buffer.from([0x50, 0x4b, 1, 2]), central + 4);
  const wrong = Buffer.from(good);
  wrong.writeUInt32LE(12345, second + 16);
  writeFileSync(file, wrong);
  await expect(unpack(await openAt(file))).rejects.toThrow("the checksum of f is wrong");
});

test("a cache of several frames is one stream for zstd and for us, frames of others are read, and a cut between frames shows", async () => {
  const file = join(dir, "a.zst");
  const content = Buffer.concat([randomBytes(FRAME_BYTES), Buffer.alloc(FRAME_BYTES, "text\n")]);
  await tarToZstd(tar({ kind: "file", name: fileNameOf("f"), content }), file, options, never);
  await tarToZstd(tar({ kind: "file", name: fileNameOf("f"), content }), join(dir, "b.zst"), options, never);
  expect(readFileSync(file).equals(readFileSync(join(dir, "b.zst")))).toBe(true);
  const plain = execFileSync("zstd", ["-dcq", file], { maxBuffer: 1e8 });
  expect(plain.subarray(512, 512 + content.length).equals(content)).toBe(true);
  await unpack(await openAt(file));
  expect(readFileSync(join(places.root, "f")).equals(content)).toBe(true);
  rmSync(join(places.root, "f"));
  writeFileSync(join(dir, "tar"), plain);
  for (const flags of ["", "--no-content-size", "--long=27 -B100000 -T2"]) {
    execFileSync(
      "bash",
      [
        "-c",
        `{ head -c 600 tar | zstd -q ${flags}; printf '\\x52\\x2a\\x4d\\x18\\x03\\0\\0\\0abc'; tail -c +601 tar | zstd -q ${flags}; } > c.zst`,
      ],
      { cwd: dir },
    );
    await unpack(await openAt(join(dir, "c.zst")));
    expect(readFileSync(join(places.root, "f")).equals(content)).toBe(true);
  }
  const whole = readFileSync(file);
  const starts: number[] = [];
  for (let at = whole.indexOf(MAGIC); at >= 0; at = whole.indexOf(MAGIC, at + 1)) starts.push(at);
  expect(starts.length).toBeGreaterThanOrEqual(3);
  rmSync(join(places.root, "f"));
  for (const cut of [...starts.slice(1), (starts.at(-1) ?? 0) + 2, whole.length - 1]) {
    writeFileSync(join(dir, "cut.zst"), whole.subarray(0, cut));
    await expect(unpack(await openAt(join(dir, "cut.zst")))).rejects.toThrow("the archive is damaged");
    nothingIsLeft();
  }
});

test("what zip, Python and Windows write is read", async () => {
  const source = join(dir, "source");
  mkdirSync(join(source, "sub"), { recursive: true });
  writeFileSync(join(source, "sub", "a.txt"), "text\n".repeat(1000));
  symlinkSync("a.txt", join(source, "sub", "link"));
  execFileSync("zip", ["-qry", join(dir, "zip.zip"), "."], { cwd: source });
  await unpack(await openAt(join(dir, "zip.zip")));
  expect(readFileSync(join(places.root, "sub", "link"), "utf8")).toBe("text\n".repeat(1000));
  const program = `
import zipfile
with zipfile.ZipFile('${join(dir, "win.zip")}', 'w', zipfile.ZIP_DEFLATED) as z:
    i = zipfile.ZipInfo('dir/win.txt'); i.create_system = 0; z.writestr(i, 'hello')
    j = zipfile.ZipInfo('x'); j.create_system = 0; j.filename = 'back\\\\slash.txt'; z.writestr(j, 'hello')
with zipfile.ZipFile('${join(dir, "zip64.zip")}', 'w') as z:
    with z.open(zipfile.ZipInfo('forced'), 'w', force_zip64=True) as f: f.write(b'forced')
`;
  execFileSync("python3", ["-c", program]);
  await unpack(await openAt(join(dir, "win.zip")));
  expect(readFileSync(join(places.root, "dir", "win.txt"), "utf8")).toBe("hello");
  expect(readFileSync(join(places.root, "back", "slash.txt"), "utf8")).toBe("hello");
  await unpack(await openAt(join(dir, "zip64.zip")));
  expect(readFileSync(join(places.root, "forced"), "utf8")).toBe("forced");
  execFileSync("zip", ["-qP", "password", join(dir, "locked.zip"), "sub/a.txt"], { cwd: source });
  await expect(unpack(await openAt(join(dir, "locked.zip")))).rejects.toThrow("sub/a.txt is encrypted");
  execFileSync("tar", ["-czf", join(dir, "a.tar.gz"), "."], { cwd: source });
  rmSync(places.root, { recursive: true });
  await unpack(await openAt(join(dir, "a.tar.gz")));
  expect(readFileSync(join(places.root, "sub", "a.txt"), "utf8")).toBe("text\n".repeat(1000));
});

test("70,000 files and a file of more than 4 GiB are zip64, which unzip reads", { timeout: 120_000 }, async () => {
  const entries = Array.from(
    { length: 70_000 },
    (_, index) => ({ kind: "file", name: fileNameOf(`f${index}`), content: "" }) as const,
  );
  const file = join(dir, "many.zip");
  expect((await tarToZip(tar(...entries), file, options, never)).entries).toBe(70_000);
  expect(execFileSync("unzip", ["-Z1", file], { maxBuffer: 1e8 }).toString().trim().split("\n")).toHaveLength(70_000);
  const source = join(dir, "sparse");
  mkdirSync(source);
  const fd = openSync(join(source, "huge"), "w");
  ftruncateSync(fd, 4_600_000_000);
  closeSync(fd);
  const huge = join(dir, "huge.zip");
  const before = process.memoryUsage().rss;
  await tarToZip(packFiles(source, [fileNameOf("huge")], never).tar, huge, { ...options, level: "fastest" }, never);
  expect(process.memoryUsage().rss - before).toBeLessThan(400e6);
  expect(execFileSync("unzip", ["-Zt", huge]).toString()).toContain("4600000000");
  let size = 0;
  for await (const chunk of await openAt(huge)) size += chunk.length;
  expect(size).toBeGreaterThan(4_600_000_000);
});
