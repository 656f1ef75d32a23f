import { Readable } from "node:stream";
import { describe, expect, test } from "vitest";
import type { Environment } from "../../src/executor/environment.ts";
import { type TarEntry, tarEnd, tarHeader, tarPadding } from "../../src/files/tar.ts";
import { never } from "../../src/time.ts";
import { type FileKeeping, fileNameOf, type KeptFiles, type WorkspaceFiles } from "../../src/workspace.ts";
import { runOps, source } from "../support/executor-kit.ts";

export interface KeptPlace {
  /** With a checkout that is empty. */
  readonly files: WorkspaceFiles;
  /** Runs the text by a POSIX shell in the checkout, as a job does. @returns what it printed; rejects where it fails */
  sh(text: string): Promise<string>;
  /** A directory on the same disk where jobs may write, outside the checkout. */
  readonly outside: string;
}

/** Where an environment is prepared. */
export function placeOf(environment: Environment, outside: string): KeptPlace {
  const { workspace } = environment;
  return {
    files: workspace,
    sh: async (text) => {
      const { code, text: said } = await runOps(environment, [
        { op: "mkdir", path: workspace.root },
        { op: "cd", path: workspace.root },
        ...source(text),
      ]);
      if (code !== 0) throw new Error(`status ${code}: ${said}`);
      return said;
    },
    outside,
  };
}

const CODE = "deps/vendor/lib/code";

/** Leaves a time as it was. */
function same(path: string, change: string): string {
  return `touch -r ${path} "$HELD/time"; ${change}; touch -r "$HELD/time" ${path}`;
}

const throughMemory = `import mmap,sys
with open(sys.argv[1],'r+b') as f:
  m=mmap.mmap(f.fileno(),4); m[0:4]=b'evil'`;

/** What a job may do to files of a cache that it has only restored. `$HELD` is a directory of its own outside. */
export const attacks: readonly (readonly [name: string, text: string])[] = [
  ["other content of the same size and time", same(CODE, `printf 'evil\\n' > ${CODE}`)],
  [
    "content that was written through memory",
    same(
      CODE,
      `if command -v python3 >"$HELD/out"; then python3 -c "${throughMemory}" ${CODE}; else echo evil > ${CODE}; fi`,
    ),
  ],
  ["a file more, in a directory of the same time", same("deps/vendor/lib", "echo evil > deps/vendor/lib/more")],
  ["a file more in the first directory", same("deps/vendor", "echo evil > deps/vendor/more")],
  ["a file less", same("deps/vendor/lib", `rm ${CODE}`)],
  ["a link in a file's place", same("deps/vendor/lib", `mv ${CODE} "$HELD/code"; ln -s "$HELD/code" ${CODE}`)],
  [
    "a link that leads elsewhere",
    same("deps/vendor/lib", "rm deps/vendor/lib/link; ln -s /etc/hostname deps/vendor/lib/link"),
  ],
  ["a second name outside", `ln ${CODE} "$HELD/name"`],
  ["a second name that is gone again", `ln ${CODE} "$HELD/gone"; echo evil > "$HELD/gone"; rm "$HELD/gone"`],
  ["a directory that everybody may write to", "chmod 777 deps/vendor/lib"],
  ["a mode that others have", `chmod 755 ${CODE}`],
  ["a program that runs as its owner", `chmod u+s ${CODE}`],
  ["a directory in which nobody sees anything", "echo evil > deps/vendor/lib/more; chmod 300 deps/vendor/lib"],
  ["a link to where it went", `mv deps/vendor "$HELD/moved"; ln -s "$HELD/moved" deps/vendor`],
  ["a link on the way to it", `mv deps "$HELD/deps"; ln -s "$HELD/deps" deps`],
  ["a pipe beside the files", same("deps/vendor/lib", "mkfifo deps/vendor/lib/pipe")],
];

export function entry(name: string, more: Partial<TarEntry> & { readonly text?: string } = {}): Buffer {
  const { text = "", ...rest } = more;
  const head = { kind: "file", mode: 0o644, mtimeSeconds: 1_000_000_000, target: fileNameOf("") } as const;
  const content = Buffer.from(text);
  const size = content.length;
  return Buffer.concat([
    tarHeader({ ...head, name: fileNameOf(name), size, ...rest }),
    content,
    Buffer.alloc(tarPadding(size)),
  ]);
}

export function tarOf(...entries: readonly Buffer[]): Buffer {
  return Buffer.concat([...entries, tarEnd]);
}

function archive(): Readable {
  const directory = { kind: "directory", mode: 0o755 } as const;
  const entries = [
    entry("deps/vendor", directory),
    entry("deps/vendor/lib", directory),
    entry("deps/vendor/lib/empty", directory),
    entry("deps/vendor/lib/code", { text: "good\n", mode: 0o750 }),
    entry("deps/vendor/lib/link", { kind: "symlink", target: fileNameOf("code") }),
    entry("deps/vendor/it's a [file]", { text: "odd\n" }),
  ];
  return Readable.from([tarOf(...entries)], { objectMode: false });
}

/**
 * What holds wherever files stay untouched from one job to the next.
 * @param every one of so many attacks, where each takes long and all are tried in the same way elsewhere
 */
export function keepingContract(name: string, open: () => Promise<KeptPlace>, every = 1): void {
  describe(`${name}: files that are kept`, { timeout: 60_000 }, () => {
    async function unpacked(place: KeptPlace): Promise<{ readonly keeping: FileKeeping; readonly kept: KeptFiles }> {
      const { files, sh, outside } = place;
      await sh(`rm -rf deps; mkdir -p deps; rm -rf ${outside}/held; mkdir ${outside}/held`);
      const report = await files.unpack(archive(), { bytes: 1e6, entries: 100, freeBytes: 0 }, never);
      const { keeping } = files;
      if (keeping === undefined) throw new Error("nothing can be kept here");
      const kept = await keeping.record(report, never);
      if (kept === null) throw new Error("nothing is kept");
      expect(kept.tops.map(({ name }) => name)).toEqual(["deps/vendor"]);
      return { keeping, kept };
    }
    const all = "ls -liRn deps; cat deps/vendor/*file* deps/vendor/lib/code";

    test("what nobody has touched comes back as it is, again and again", async () => {
      const place = await open();
      const { keeping, kept } = await unpacked(place);
      const before = await place.sh(all);
      let its = kept;
      for (let time = 0; time < 2; time++) {
        const aside = await keeping.setAside(its, never);
        if (aside === null) throw new Error("nothing was set aside");
        expect(await place.sh("ls deps")).toBe("");
        const back = await keeping.putBack(aside, never);
        if (back === null) throw new Error("nothing was put back");
        expect(await place.sh(all)).toBe(before);
        expect(await place.sh(`ls -d ${aside.aside}* 2>&1 || :`)).toMatch(/No such file/);
        its = back;
      }
    });

    test("nothing comes back of what a job has changed", async () => {
      const place = await open();
      const wrong: string[] = [];
      for (const [attack, text] of attacks.filter((_, index) => index % every === 0)) {
        const { keeping, kept } = await unpacked(place);
        await place.sh(`HELD=${place.outside}/held; ${text}`);
        const aside = await keeping.setAside(kept, never);
        if (aside !== null && (await keeping.putBack(aside, never)) !== null) wrong.push(attack);
        if (aside !== null) expect(await place.sh("ls deps"), attack).toBe("");
      }
      expect(wrong).toEqual([]);
    });

    test("of many megabytes the last byte counts, too", async () => {
      const { files, sh } = await open();
      const { keeping } = files;
      if (keeping === undefined) throw new Error("nothing can be kept here");
      const text = "0123456789abcdef".repeat(512 * 1024);
      const names = Array.from({ length: 6 }, (_, index) => `deps/large/${index}`);
      for (const change of [null, names[0], names[5]]) {
        await sh("rm -rf deps; mkdir deps");
        const entries = [
          entry("deps/large", { kind: "directory", mode: 0o755 }),
          ...names.map((name) => entry(name, { text })),
        ];
        const tar = Readable.from([tarOf(...entries)], { objectMode: false });
        const report = await files.unpack(tar, { bytes: 1e9, entries: 100, freeBytes: 0 }, never);
        const kept = await keeping.record(report, never);
        if (kept === null) throw new Error("nothing is kept");
        if (typeof change === "string")
          await sh(`printf x | dd of=${change} bs=1 seek=8388607 conv=notrunc 2>&1; touch -d @1000000000 ${change}`);
        const aside = await keeping.setAside(kept, never);
        const back = aside === null ? null : await keeping.putBack(aside, never);
        expect(back !== null, String(change)).toBe(change === null);
      }
      await sh("rm -rf deps");
    });

    test("nothing comes back of what was changed where it waits, or what something else is in the place of", async () => {
      const place = await open();
      const changes = (at: string): string[] => [
        `echo evil > ${at}/0/lib/code`,
        `echo evil > ${at}/0/lib/more`,
        `chmod 777 ${at}/0/lib/code`,
        `mkdir ${at}/more; mv ${at}/0 ${at}/more/0; ln -s more/0 ${at}/0`,
        "mkdir deps/vendor; echo mine > deps/vendor/mine",
        "rmdir deps; ln -s /tmp deps",
      ];
      for (const which of changes("").keys()) {
        if (which % every !== 0) continue;
        const { keeping, kept } = await unpacked(place);
        const aside = await keeping.setAside(kept, never);
        if (aside === null) throw new Error("nothing was set aside");
        const change = changes(aside.aside ?? "")[which] ?? "";
        await place.sh(change);
        expect(await keeping.putBack(aside, never), change).toBeNull();
        expect(await place.sh(`ls -d ${aside.aside} 2>&1 || :`), change).toMatch(/No such file/);
      }
      await place.sh("rm -rf deps");
    });

    test("what is dropped is gone, and nothing of git's own is kept", async () => {
      const place = await open();
      const { keeping, kept } = await unpacked(place);
      const aside = await keeping.setAside(kept, never);
      if (aside === null) throw new Error("nothing was set aside");
      await keeping.drop(aside, never);
      expect(await keeping.putBack(aside, never)).toBeNull();
      expect(await place.sh("ls deps")).toBe("");
      await place.sh("mkdir -p .git/hooks deps/.GIT");
      for (const own of [".git", ".git/hooks", "deps/.GIT"])
        expect(await keeping.record({ placed: [fileNameOf(own)] }, never)).toBeNull();
    });
  });
}
