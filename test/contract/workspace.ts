import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { Readable } from "node:stream";
import { describe, expect, onTestFinished, test } from "vitest";
import { ScriptFailure, SystemFailure } from "../../src/errors.ts";
import { type TarEntry, tarEnd, tarHeader, tarPadding } from "../../src/files/tar.ts";
import { never } from "../../src/time.ts";
import { type FileSelection, fileName, fileNameOf, type WorkspaceFiles } from "../../src/workspace.ts";

export interface WorkspaceContractOptions {
  /** Opens files below `root` on this machine in the way that is to be tested. */
  open(place: { readonly root: string; readonly tmpDir: string }): Promise<WorkspaceFiles>;
}

const limits = { bytes: 1e9, entries: 100_000, freeBytes: 0 };

function select(globs: readonly string[], more: Partial<FileSelection> = {}): FileSelection {
  return { globs, exclude: [], untracked: false, ...more };
}

async function bytesOf(tar: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function entry(name: string, more: Partial<TarEntry> & { text?: string } = {}): Buffer {
  const { text = "", ...rest } = more;
  const content = Buffer.from(text);
  const head = tarHeader({
    name: fileName(Buffer.from(name)),
    kind: "file",
    size: content.length,
    mode: 0o644,
    mtimeSeconds: 1_000_000_000,
    target: fileNameOf(""),
    ...rest,
  });
  return Buffer.concat([head, content, Buffer.alloc(tarPadding(content.length))]);
}

function tarOf(...entries: readonly Buffer[]): Readable {
  return Readable.from([Buffer.concat([...entries, tarEnd])], { objectMode: false });
}

/** A whole tree as text, with contents and attributes. */
function describeTree(top: string): string {
  return execFileSync("find", [top, "-mindepth", "1", "-printf", "%P|%y|%m|%s|%Ts|%l\\0"])
    .toString("latin1")
    .split("\0")
    .filter((line) => line !== "")
    .map((line) => line.replace(/\|d\|(\d+)\|\d+\|/, "|d|$1||").replace(/\|l\|\d+\|(\d+)\|\d+\|/, "|l||$1||"))
    .sort()
    .join("\n");
}

/** Names that break code that does not quote them, or that reads names by lines. */
const oddNames = [
  "blank in it",
  "-rf",
  "--checkpoint=1",
  "it's",
  'quo"te',
  "new\nline",
  "// double",
  "tab\tstop",
  "$(touch pwned)",
  "`id`",
  "back\\slash",
  "*",
  "[a]",
  "ends in \n",
  "é",
  "#x",
  "~",
  "!",
  "=",
  ".hidden",
  "..three",
  "a".repeat(255),
].filter((name) => !name.includes("/"));

/** What every way to a job's files does. */
export function workspaceContract(name: string, { open }: WorkspaceContractOptions): void {
  describe(`${name}: what every workspace does`, { timeout: 120_000 }, () => {
    const opened = async () => {
      const dir = mkdtempSync(join(tmpdir(), "alloy-files-"));
      onTestFinished(() => {
        execFileSync("chmod", ["-R", "u+rwX", dir]);
        rmSync(dir, { recursive: true, force: true });
      });
      const [root, tmpDir] = [join(dir, "check out"), join(dir, "check out.tmp")];
      mkdirSync(root);
      const write = (path: string, text = path): string => {
        mkdirSync(join(root, path, ".."), { recursive: true });
        writeFileSync(join(root, path), text);
        return join(root, path);
      };
      return { dir, root, tmpDir, write, files: await open({ root, tmpDir }) };
    };

    test("patterns find what they mean, a directory stands for all that is in it, and links are not gone through", async () => {
      const { files, root, write } = await opened();
      for (const path of ["a/x.o", "a/b/y.o", "a/b/c/z.o", "dist/1.zip", "dist/2.zip", "dist/no.txt", "top.o"])
        write(path);
      mkdirSync(join(root, "empty"));
      symlinkSync("a", join(root, "link"));
      symlinkSync("../dist", join(root, "a/to-dist"));
      const find = async (...globs: string[]) => (await files.list(select(globs), never)).paths;
      expect(await find("**/*.o")).toEqual(["a/b/c/z.o", "a/b/y.o", "a/x.o", "top.o"]);
      expect(await find("dist/*.zip", "empty/")).toEqual(["dist/1.zip", "dist/2.zip", "empty"]);
      expect(await find("*/1.zip", "*/2.zip", "*/{x.o,no.txt}")).toEqual([
        "a/x.o",
        "dist/1.zip",
        "dist/2.zip",
        "dist/no.txt",
      ]);
      expect(await find("a/b")).toEqual(["a/b", "a/b/c", "a/b/c/z.o", "a/b/y.o"]);
      expect(await find("a/**")).toEqual(["a", "a/b", "a/b/c", "a/b/c/z.o", "a/b/y.o", "a/to-dist", "a/x.o"]);
      expect(await find("a/**/c")).toEqual(["a/b/c", "a/b/c/z.o"]);
      expect(await find("*/b/*.o", "{top,none}.o")).toEqual(["a/b/y.o", "top.o"]);
      expect(await find("link/*", "link/x.o", "a/to-dist/**", "top.o/**", "top.o/x", "**/x.o/**")).toEqual([]);
      expect(await find("link", "l*k")).toEqual(["link"]);
      expect(await find(`${root}/dist/1.zip`, "./dist/../top.o")).toEqual(["dist/1.zip", "top.o"]);
      expect((await find("**")).length).toBe(14);
      expect((await find(".")).length).toBe(14);
    });

    test("notes and warnings say what was found, left out, excluded and refused", async () => {
      const { files, root, write } = await opened();
      for (const path of ["out/a", "out/b.log", ".git/config"]) write(path);
      execFileSync("mkfifo", [join(root, "out/pipe")]);
      const list = await files.list(
        select(["out", "none", "../up", "", ".git", "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}"], {
          exclude: ["**/*.log"],
        }),
        never,
      );
      expect(list.paths).toEqual([".git", ".git/config", "out", "out/a"]);
      expect(list.notes).toEqual([
        "out: found 3 matching files and directories.",
        ".git: found 2 matching files and directories.",
        "**/*.log: excluded 1 files.",
      ]);
      expect(list.warnings).toEqual([
        "out/pipe is a socket, a pipe or a device: it is left out.",
        "none: no matching files.",
        `../up is outside of the project (${root}): it is left out.`,
        "A path is empty: it is left out.",
        "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}: a pattern with so many alternatives is not used.",
        "The .git directory, or a part of it, is among the files; it may hold credentials.",
      ]);
    });

    test("patterns that stand for too much are the job's failure", async () => {
      const { files } = await opened();
      const many = `{${Array.from({ length: 600 }, (_, i) => i).join(",")}}`;
      const listed = files.list(select([many, `x${many}`]), never);
      await expect(listed).rejects.toBeInstanceOf(ScriptFailure);
      await expect(listed).rejects.toThrow("stand for more than 1000 alternatives");
    });

    test("of names that an archive has again and again a few are told, and how many more there are", async () => {
      const { files, root } = await opened();
      const again = Array.from({ length: 101 }, (_, i) => entry("same", { text: String(i) }));
      const { warnings } = await files.unpack(tarOf(...again), limits, never);
      expect(warnings.length).toBe(20);
      expect(warnings[0]).toBe("same is in the archive twice: the last one stays.");
      expect(warnings[19]).toBe("81 more sentences like these are not shown.");
      expect(readFileSync(join(root, "same"), "utf8")).toBe("100");
    });

    test("no spelling of a pattern leads out of the checkout", async () => {
      const { files, root, dir, write } = await opened();
      const top = basename(root);
      write("a/in");
      writeFileSync(join(dir, "outside"), "secret");
      const ways = ["\\.\\.", ".\\.", "\\..", "a/../\\.\\.", "a/\\.\\./..", "{\\.,x}\\.", `\\.\\./${top}/..`];
      const list = await files.list(
        select(
          ways.flatMap((way) => [`${way}/outside`, `${way}/*`, `${way}/**`, way]),
          { exclude: ["\\.\\./**"] },
        ),
        never,
      );
      expect(list.paths).toEqual([]);
      expect(list.warnings.filter((each) => each.includes(`is outside of the project (${root})`))).toHaveLength(28);
      expect((await files.list(select([`\\.\\./${top}/a/in`, "\\./a/\\.\\./a"]), never)).paths).toEqual(["a", "a/in"]);
      expect((await files.list(select(["\\a/i\\n"]), never)).paths).toEqual(["a/in"]);
    });

    test("a checkout that is not there, or is a link, has no files", async () => {
      const { files, root, dir } = await opened();
      rmSync(root, { recursive: true });
      expect((await files.list(select(["**", "a", "*"]), never)).paths).toEqual([]);
      symlinkSync("/etc", root);
      expect((await files.list(select(["**", "passwd", "*"]), never)).paths).toEqual([]);
      rmSync(root);
      expect(existsSync(dir)).toBe(true);
    });

    test("names of any bytes come through listing, packing and unpacking", async () => {
      const { files, root, write } = await opened();
      for (const odd of oddNames) write(`odd/${odd}`, odd);
      mkdirSync(join(root, "odd/dir\nwith"), { recursive: true });
      write("odd/dir\nwith/file");
      symlinkSync("to\nnowhere\n", join(root, "odd/li\nnk"));
      writeFileSync(Buffer.concat([Buffer.from(`${root}/odd/`), Buffer.from([0xff, 0xfe, 0x80])]), "bytes");
      const deep = Array.from({ length: 12 }, (_, index) => `${index}-${"d".repeat(60)}`).join("/");
      write(`odd/${deep}/file`);
      const list = await files.list(select(["odd"]), never);
      expect(list.paths).toHaveLength(oddNames.length + 2 + 1 + 1 + 13 + 1);
      expect(list.paths).toContain("odd/\xff\xfe\x80");
      const before = describeTree(root);
      const { tar, warnings } = await files.pack(list.paths, never);
      const bytes = await bytesOf(tar);
      expect(warnings).toEqual([]);
      rmSync(join(root, "odd"), { recursive: true });
      const report = await files.unpack(Readable.from([bytes], { objectMode: false }), limits, never);
      expect(report).toMatchObject({ entries: list.paths.length, bytes: list.bytes, warnings: [] });
      expect(describeTree(root)).toBe(before);
      expect(readdirSync(join(root, ".."))).not.toContain("pwned");
      const again = await files.list(select(["odd"]), never);
      expect(again.fingerprint).toBe(list.unpackedFingerprint);
      expect(again.unpackedFingerprint).toBe(list.unpackedFingerprint);
    });

    test("modes, times, links, hard links, empty files and large ones are kept", async () => {
      const { files, root, write } = await opened();
      chmodSync(write("t/run", "#!/bin/sh\n"), 0o4755);
      chmodSync(write("t/secret"), 0o600);
      write("t/empty", "");
      writeFileSync(join(root, "t/large"), Buffer.alloc(3_000_001, "large "));
      linkSync(join(root, "t/large"), join(root, "t/twin"));
      symlinkSync("../../outside", join(root, "t/out"));
      symlinkSync("/etc/passwd", join(root, "t/abs"));
      utimesSync(join(root, "t/run"), 981173106, 981173106);
      mkdirSync(join(root, "t/locked"));
      write("t/locked/in");
      chmodSync(join(root, "t/locked"), 0o555);
      utimesSync(join(root, "t/locked"), 981173107, 981173107);
      const list = await files.list(select(["t"]), never);
      const bytes = await bytesOf((await files.pack(list.paths, never)).tar);
      chmodSync(join(root, "t/locked"), 0o755);
      rmSync(join(root, "t"), { recursive: true });
      await files.unpack(Readable.from([bytes], { objectMode: false }), limits, never);
      expect(lstatSync(join(root, "t/run"))).toMatchObject({ mode: 0o100755, mtimeMs: 981173106000 });
      expect(lstatSync(join(root, "t/secret")).mode).toBe(0o100600);
      expect(lstatSync(join(root, "t/locked"))).toMatchObject({ mode: 0o040555, mtimeMs: 981173107000 });
      expect(readFileSync(join(root, "t/twin")).equals(Buffer.alloc(3_000_001, "large "))).toBe(true);
      expect([readlinkSync(join(root, "t/out")), readlinkSync(join(root, "t/abs"))]).toEqual([
        "../../outside",
        "/etc/passwd",
      ]);
      expect(lstatSync(join(root, "t/empty")).size).toBe(0);
      expect((await files.list(select(["t"]), never)).fingerprint).toBe(list.unpackedFingerprint);
    });

    test("untracked files are those that git does not know, ignored ones and nested repositories included", async () => {
      const { files, root, write } = await opened();
      const git = (...args: string[]) =>
        execFileSync("git", ["-C", root, "-c", "user.name=t", "-c", "user.email=t@e", ...args], { stdio: "ignore" });
      git("init", "-q");
      write(".gitignore", "*.o\n");
      write("known");
      git("add", "-A");
      git("commit", "-qm", "x");
      for (const path of ["new\nfile", "made.o", "nested/inner"]) write(path);
      execFileSync("git", ["-C", join(root, "nested"), "init", "-q"], { stdio: "ignore" });
      const { paths, notes } = await files.list(
        select([], { untracked: true, exclude: ["nested/.git/**", "nested/.git"] }),
        never,
      );
      expect(paths).toEqual(["made.o", "nested", "nested/inner", "new\nfile"]);
      expect(notes[0]).toMatch(/^untracked: found \d+ files\.$/);
      rmSync(join(root, ".git"), { recursive: true });
      const without = await files.list(select(["known"], { untracked: true }), never);
      expect(without.paths).toEqual(["known"]);
      expect(without.warnings.join()).toContain("Untracked files cannot be listed: ");
    });

    test("files that vanish or shrink between listing and packing are warnings, and the rest is whole", async () => {
      const { files, root, write } = await opened();
      for (let index = 0; index < 50; index++) write(`v/${String(index).padStart(2, "0")}`, "x".repeat(index * 100));
      const { paths } = await files.list(select(["v"]), never);
      rmSync(join(root, "v/00"));
      rmSync(join(root, "v/25"));
      rmSync(join(root, "v/49"));
      truncateSync(join(root, "v/30"), 10);
      appendFileSync(join(root, "v/31"), "more");
      rmSync(join(root, "v/32"));
      execFileSync("mkfifo", [join(root, "v/32")]);
      const { tar, warnings } = await files.pack(paths, never);
      const bytes = await bytesOf(tar);
      const gone = warnings.filter((warning) => / has vanished: it is left out\.$/.test(warning));
      expect(gone.map((warning) => warning.slice(0, 4)).sort()).toEqual(["v/00", "v/25", "v/49"]);
      expect(warnings.some((warning) => warning.startsWith("v/32 is"))).toBe(true);
      rmSync(join(root, "v"), { recursive: true });
      const report = await files.unpack(Readable.from([bytes], { objectMode: false }), limits, never);
      expect(report.entries).toBe(paths.length - 4);
      expect(readFileSync(join(root, "v/48"), "utf8")).toBe("x".repeat(4800));
      expect(lstatSync(join(root, "v/30")).size).toBe(10);
    });

    test("packing that nobody reads to the end leaves nothing running, and stopping ends it", async () => {
      const { files, root } = await opened();
      writeFileSync(join(root, "large"), Buffer.alloc(30_000_000));
      const { tar } = await files.pack([fileNameOf("large")], never);
      for await (const _ of tar) break;
      const stop = new AbortController();
      const { tar: second } = await files.pack([fileNameOf("large")], stop.signal);
      const reading = (async () => {
        for await (const _ of second) stop.abort(new Error("enough"));
      })();
      await expect(reading).rejects.toThrow("enough");
    });

    test("an archive that would leave, overwrite a directory, or go through a link is refused and leaves no trace", async () => {
      const { files, root, tmpDir, dir, write } = await opened();
      write("kept/file", "kept");
      mkdirSync(join(dir, "victim"));
      symlinkSync("../victim", join(root, "planted"));
      const before = describeTree(root);
      const link = (name: string, target: string) => entry(name, { kind: "symlink", target: fileNameOf(target) });
      const hostile: (readonly [Readable, RegExp])[] = [
        [tarOf(entry("good"), entry("../evil")), /\.\.\/evil leaves the project/],
        [tarOf(entry("a/../../evil")), /leaves the project/],
        [tarOf(entry("/etc/evil")), /\/etc\/evil is an absolute path/],
        [tarOf(entry("good"), entry("planted/evil")), /planted is a symbolic link in the working copy/],
        [tarOf(link("out", ".."), entry("out/evil")), /out is a link, and there are entries below it/],
        [tarOf(link("out", ".."), entry("out", { kind: "directory" })), /out is a link and a directory/],
        [tarOf(entry("kept")), /kept is a directory in the working copy/],
        [tarOf(entry("x"), entry("x/y")), /x is a file and a directory/],
        [tarOf(entry("x".repeat(5000))), /has too long a path/],
        [tarOf(entry("x/".repeat(300))), /lies too deep/],
        [tarOf(link("x", "")), /is a link to nothing/],
        [Readable.from([entry("good", { text: "text" }).subarray(0, 514)], { objectMode: false }), /damaged/],
        [Readable.from([Buffer.alloc(4096, "nonsense")], { objectMode: false }), /damaged/],
      ];
      for (const [tar, message] of hostile) {
        const failure = await files.unpack(tar, limits, never).catch((error: unknown) => error);
        expect(failure).toBeInstanceOf(ScriptFailure);
        expect(String(failure)).toMatch(message);
      }
      for (const type of ["1", "3", "6"]) {
        const head = entry("device");
        head.write(type, 156, "latin1");
        let sum = 8 * 32;
        for (let i = 0; i < 512; i++) if (i < 148 || i >= 156) sum += head[i] ?? 0;
        head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
        await expect(files.unpack(tarOf(entry("good"), head), limits, never)).rejects.toThrow(
          /device is a (device|hard link)/,
        );
      }
      for (const [tight, message] of [
        [{ ...limits, bytes: 10 }, /larger than 10 bytes/],
        [{ ...limits, entries: 1 }, /more than 1 entries/],
      ] as const) {
        const tar = tarOf(entry("one", { text: "123456" }), entry("two", { text: "123456" }));
        await expect(files.unpack(tar, tight, never)).rejects.toThrow(message);
      }
      const full = await files
        .unpack(tarOf(entry("one")), { ...limits, freeBytes: 1e18 }, never)
        .catch((error: unknown) => error);
      expect(full).toBeInstanceOf(SystemFailure);
      expect(String(full)).toContain("min_free_disk");
      expect(describeTree(root)).toBe(before);
      expect(readdirSync(join(dir, "victim"))).toEqual([]);
      expect(existsSync(tmpDir) ? readdirSync(tmpDir) : []).toEqual([]);
    });

    test("what is in the working copy is replaced, merged and kept, and its links are replaced, not followed", async () => {
      const { files, root, dir, write } = await opened();
      write("d/old", "old");
      write("d/kept", "kept");
      write("file", "was a file");
      mkdirSync(join(dir, "victim"));
      writeFileSync(join(dir, "victim/target"), "untouched");
      symlinkSync("../../victim/target", join(root, "d/link"));
      symlinkSync("../../victim", join(root, "d/to-dir"));
      symlinkSync("../victim", join(root, "linked"));
      const { entries, warnings } = await files.unpack(
        tarOf(
          entry("d", { kind: "directory", mode: 0o750 }),
          entry("d/old", { text: "new" }),
          entry("d/link", { text: "a file now" }),
          entry("d/to-dir", { text: "a file now, too" }),
          entry("linked", { kind: "directory", mode: 0o755 }),
          entry("linked/in", { text: "in" }),
          entry("file", { kind: "directory", mode: 0o755 }),
          entry("file/in", { text: "in" }),
          entry("twice", { text: "first" }),
          entry("./twice", { text: "second" }),
          entry("implicit/above/it", { text: "it" }),
        ),
        limits,
        never,
      );
      expect(entries).toBe(11);
      expect(warnings).toEqual(["twice is in the archive twice: the last one stays."]);
      const text = (path: string) => readFileSync(join(root, path), "utf8");
      expect([text("d/old"), text("d/kept"), text("d/link"), text("d/to-dir")]).toEqual([
        "new",
        "kept",
        "a file now",
        "a file now, too",
      ]);
      expect([text("linked/in"), text("file/in"), text("twice"), text("implicit/above/it")]).toEqual([
        "in",
        "in",
        "second",
        "it",
      ]);
      expect(lstatSync(join(root, "d")).mode & 0o777).toBe(0o750);
      expect(lstatSync(join(root, "linked")).isDirectory()).toBe(true);
      expect(readdirSync(join(dir, "victim"))).toEqual(["target"]);
      expect(readFileSync(join(dir, "victim/target"), "utf8")).toBe("untouched");
    });

    test("a temporary directory that was turned into a link is not used, and an empty archive is fine", async () => {
      const { files, root, tmpDir, dir } = await opened();
      mkdirSync(join(dir, "victim"));
      symlinkSync(join(dir, "victim"), tmpDir);
      expect(await files.unpack(tarOf(), limits, never)).toMatchObject({ entries: 0, bytes: 0, warnings: [] });
      await files.unpack(tarOf(entry("x")), limits, never);
      expect(readdirSync(root)).toEqual(["x"]);
      expect(readdirSync(join(dir, "victim"))).toEqual([]);
    });

    test("nothing is in its place before the archive has ended, and an archive that fails there leaves nothing", async () => {
      const { files, root, tmpDir } = await opened();
      const places: boolean[] = [];
      const tar = (failure?: Error): Readable =>
        Readable.from(
          (async function* () {
            yield Buffer.concat([entry("one", { text: "1" }), entry("two", { text: "2" }), tarEnd]);
            // The reader asked for another entry, so it has taken those that came.
            places.push(existsSync(join(root, "one")));
            if (failure !== undefined) throw failure;
          })(),
          { objectMode: false, highWaterMark: 1 },
        );
      await expect(files.unpack(tar(new ScriptFailure("not yet")), limits, never)).rejects.toThrow("not yet");
      expect(readdirSync(root)).toEqual([]);
      expect(existsSync(tmpDir) ? readdirSync(tmpDir) : []).toEqual([]);
      await files.unpack(tar(), limits, never);
      expect(readFileSync(join(root, "two"), "utf8")).toBe("2");
      expect(places).toEqual([false, false]);
    });

    test("stopping while an archive arrives leaves nothing behind", async () => {
      const { files, root, tmpDir } = await opened();
      const stop = new AbortController();
      const slow = Readable.from(
        (async function* () {
          yield entry("one", { text: "1" });
          stop.abort(new Error("enough"));
          yield entry("two", { text: "2" });
          yield tarEnd;
        })(),
        { objectMode: false },
      );
      await expect(files.unpack(slow, limits, stop.signal)).rejects.toThrow("enough");
      expect(readdirSync(root)).toEqual([]);
      expect(existsSync(tmpDir) ? readdirSync(tmpDir) : []).toEqual([]);
    });
  });
}
