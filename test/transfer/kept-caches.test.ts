import { execFileSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { keepingAt } from "../../executors/shell/files/keep.ts";
import { filesThroughProcess } from "../../executors/shell/files/process.ts";
import type { Cache, Job } from "../../src/job/job.ts";
import type { RunJobRequest } from "../../src/job/life/request.ts";
import { never } from "../../src/time.ts";
import { createKeptCaches } from "../../src/transfer/cache/kept-caches.ts";
import type { TransferMeans } from "../../src/transfer/transfer.ts";
import { fileName, fileNameOf } from "../../src/workspace.ts";
import { createRepository, type TestRepository } from "../job/git-server.ts";
import { createStand, type Finished, jobWith, type Stand, step, variable } from "../job/stand.ts";
import { silentLog } from "../support/executor-deps.ts";
import { openBucketStore } from "./bucket-store.ts";
import { openS3 } from "./s3-server.ts";

const TELLING = [0xef53, 0x58465342, 0x9123683e];
const isTelling = process.platform === "linux" && TELLING.includes(statfsSync(tmpdir()).type);

/** Caches in a bucket instead of a directory. */
function bucketTransfers(endpoint: URL, scratchDir: string): TransferMeans {
  const { store } = openBucketStore(endpoint, { prefix: "" });
  const none = (): Promise<never> => Promise.reject(new Error("there is no coordinator"));
  return {
    coordinator: { uploadArtifacts: none, downloadArtifacts: none },
    openCaches: async () => store,
    keptCaches: createKeptCaches({ log: silentLog }),
    scratchDir,
    minFreeBytes: () => 0,
  };
}

const KEPT = "which are still as they were unpacked";
const CODE = "deps/vendor/lib/code";

describe.skipIf(!isTelling)(
  "caches that stay in the working copy (needs ext4, XFS or btrfs)",
  { timeout: 60_000 },
  () => {
    let stand: Stand;
    let repository: TestRepository;
    beforeEach(() => {
      stand = createStand({ shell: "sh" });
      repository = createRepository(join(stand.dir, "remote"));
      repository.commit({ "deps/list": "vendor" });
    });
    afterEach(() => stand.close());

    const root = (): string => join(stand.buildsDir, "7e3b05c2/0", repository.dir.slice(1));
    const inodeOf = (path: string): number => lstatSync(join(root(), path)).ino;

    async function run(
      script: string,
      cache: Partial<Cache> = {},
      more: Partial<Job> = {},
      request: Partial<RunJobRequest> = {},
    ): Promise<Finished> {
      const finished = await stand.run(
        jobWith({
          variables: [],
          git: { ...jobWith().git, repoUrl: repository.url, ref: "main", sha: repository.git("rev-parse", "HEAD") },
          steps: [step("script", [script])],
          cache: [
            {
              key: "deps",
              untracked: false,
              paths: ["deps/vendor/"],
              policy: "pull-push",
              when: "on_success",
              fallbackKeys: [],
              ...cache,
            },
          ],
          ...more,
        }),
        { request },
      );
      expect(finished.outcome, finished.trace).toEqual({ result: "success" });
      return finished;
    }

    const show = `echo BEGIN; cat ${CODE}; find deps/vendor -printf '%P %y %m %l %s %Ts\\n' | sort; echo END`;

    /** Saved by one job and unpacked in the next. @returns what the working copy shows then */
    async function unpacked(): Promise<string> {
      await run(
        `mkdir -p deps/vendor/lib/empty; echo good > ${CODE}; ln -s code deps/vendor/lib/link; chmod 750 ${CODE}`,
      );
      return shown(await run(show, { policy: "pull" }));
    }

    function shown({ trace }: Finished): string {
      return /\nBEGIN\n([\s\S]*)\nEND\n/.exec(trace)?.[1] ?? "nothing";
    }

    test("files that nobody has touched come back as they are, again and again, and are up to date", async () => {
      const first = await unpacked();
      expect(first).toMatch(/lib\/code f 750 {2}5 \d+\n/);
      const inode = inodeOf(CODE);
      for (let time = 0; time < 3; time++) {
        const next = await run(show);
        expect(next.trace).toContain(`Successfully restored cache deps: 5 entries, 5 bytes, ${KEPT}`);
        expect(next.trace).toContain("The cache deps is up to date");
        expect(shown(next)).toBe(first);
        expect(inodeOf(CODE)).toBe(inode);
      }
      expect(readdirSync(join(stand.buildsDir, "7e3b05c2")).sort()).toEqual(["0", "0.tmp"]);
      expect(existsSync(join(stand.buildsDir, "7e3b05c2/0.tmp", repository.dir.slice(1)))).toBe(false);
    });

    const same = (path: string, change: string): string =>
      `t=$(stat -c %y ${path}); ${change}; touch -h -d "$t" ${path}; stat -c %y ${path}`;
    const written = `import mmap,sys
with open(sys.argv[1],'r+b') as f:
  m=mmap.mmap(f.fileno(),4); x=m[0]; m[0:4]=b'evil'`;

    test.each([
      ["other content of the same size and time", same(CODE, `printf 'evil\\n' > ${CODE}`)],
      ["content that was written through memory", `python3 -c "${written}" ${CODE}; cat ${CODE}`],
      ["a file more, in a directory of the same time", same("deps/vendor/lib", "echo evil > deps/vendor/lib/more")],
      ["a file more in the first directory", same("deps/vendor", "echo evil > deps/vendor/more")],
      ["a file less", same("deps/vendor/lib", `rm ${CODE}`)],
      ["a link in a file's place", same("deps/vendor/lib", `mv ${CODE} held; ln -s ../../../held ${CODE}`)],
      ["a link that leads elsewhere", same("deps/vendor/lib", "ln -sfn /etc/hostname deps/vendor/lib/link")],
      ["a second name outside", `ln ${CODE} "$HELD/name"`],
      [
        "a second name that was removed again",
        `ln ${CODE} "$HELD/gone"; printf 'evil\\n' > "$HELD/gone"; rm "$HELD/gone"`,
      ],
      ["a directory that everybody may write to", "chmod 777 deps/vendor/lib"],
      ["a mode that was changed back", `chmod 777 ${CODE}; chmod 750 ${CODE}`],
      ["a copy in its place", `cp -a deps/vendor "$HELD/copy"; rm -rf deps/vendor; mv "$HELD/copy" deps/vendor`],
      ["a link to what it was", `mv deps/vendor "$HELD/moved"; ln -s "$HELD/moved" deps/vendor`],
      ["a pipe beside the files", same("deps/vendor/lib", "mkfifo deps/vendor/lib/pipe")],
    ])("of a pull-only job nothing stays: %s", async (_, attack) => {
      const first = await unpacked();
      const held = mkdtempSync(join(stand.dir, "held-"));
      const attacker = await run(`HELD=${held}; ${attack}`, { policy: "pull" });
      expect(attacker.trace).toContain(KEPT);
      const victim = await run(show, { policy: "pull" });
      expect(victim.trace).toContain("Successfully restored cache deps");
      expect(victim.trace).not.toContain(KEPT);
      expect(shown(victim)).toBe(first);
      const after = await run(show, { policy: "pull" });
      expect(after.trace).toContain(KEPT);
      expect(shown(after)).toBe(first);
    });

    test("what leads elsewhere on the way to it is not gone through", async () => {
      await unpacked();
      const held = mkdtempSync(join(stand.dir, "held-"));
      await run(`mv deps ${held}/deps; ln -s ${held}/deps deps`, { policy: "pull" });
      const victim = await run(show, { policy: "pull" });
      expect(victim.trace).not.toContain(KEPT);
      expect(shown(victim)).toMatch(/^good\n/);
      expect(existsSync(join(held, "deps/vendor/lib/code"))).toBe(true);
    });

    test.each([
      ["content", "printf 'evil\\n' > $c"],
      ["a file more", "echo evil > $(dirname $c)/more"],
      ["a mode", "chmod 777 $c"],
    ])("a hook that finds it where it waits changes nothing: %s", async (_, attack) => {
      const first = await unpacked();
      const aside = join(stand.buildsDir, "7e3b05c2/0.tmp", repository.dir.slice(1));
      const hook = `for c in ${aside}/kept-*/0/lib/code; do ${attack}; done`;
      const victim = await run(
        show,
        { policy: "pull" },
        { hooks: [{ name: "pre_get_sources_script", script: [hook] }] },
      );
      expect(victim.trace).not.toContain("No such file");
      expect(victim.trace).not.toContain(KEPT);
      expect(shown(victim)).toBe(first);
    });

    test("another archive, another key and another protection get what is theirs", async () => {
      await unpacked();
      await run(`echo else > ${CODE}`);
      const changed = await run(`cat ${CODE}`, { policy: "pull" });
      expect(changed.trace).toMatch(/\nelse\n/);
      expect(changed.trace).not.toContain(KEPT);
      const other = await run(`ls deps`, { key: "other", policy: "pull" });
      expect(other.trace).toContain("There is no cache for other yet");
      expect(other.trace).toMatch(/\nlist\n/);
      expect(other.trace).not.toMatch(/\nvendor\n/);
      const again = await run(`cat ${CODE}`, { policy: "pull" });
      expect(again.trace).not.toContain(KEPT);
      const git = { ...jobWith().git, repoUrl: repository.url, ref: "main", sha: repository.git("rev-parse", "HEAD") };
      const isProtected = await run("ls deps", { policy: "pull" }, { git: { ...git, protected: true } });
      expect(isProtected.trace).toContain("There is no cache for deps-protected yet");
      expect(isProtected.trace).not.toMatch(/\nvendor\n/);
      expect((await run(`cat ${CODE}`, { policy: "pull" })).trace).toContain(KEPT);
    });

    test("a cache in a bucket is looked at and not downloaded, and another archive there is", async () => {
      const s3 = await openS3();
      const transfers = bucketTransfers(s3.endpoint, stand.dir);
      const downloads = (): number =>
        s3.requests.filter(({ method, headers }) => method === "GET" && !headers.range).length;
      await run(`mkdir -p deps/vendor/lib; echo good > ${CODE}`, {}, {}, { transfers });
      await run(show, { policy: "pull" }, {}, { transfers });
      const before = downloads();
      const kept = await run(show, { policy: "pull" }, {}, { transfers });
      expect(kept.trace).toContain(KEPT);
      expect(downloads()).toBe(before);
      await run(`mkdir -p deps/vendor/lib; echo else > ${CODE}`, { policy: "push" }, {}, { transfers });
      const changed = await run(`cat ${CODE}`, { policy: "pull" }, {}, { transfers });
      expect(changed.trace).toMatch(/\nelse\n/);
      expect(changed.trace).not.toContain(KEPT);
      s3.fail(403);
      const unreachable = await run(`cat ${CODE}`, { policy: "pull" }, {}, { transfers });
      expect(unreachable.trace).not.toContain(KEPT);
      expect(unreachable.trace).toMatch(/\nelse\n/);
    });

    test("where the working copy is not cleaned, caches are unpacked over what is there", async () => {
      await unpacked();
      for (const [key, value] of [
        ["GIT_CLEAN_FLAGS", "none"],
        ["GIT_STRATEGY", "none"],
      ] as const) {
        const next = await run(
          "echo mine > deps/vendor/mine; ls deps/vendor",
          { policy: "pull" },
          { variables: [variable(key, value)] },
        );
        expect(next.trace).not.toContain(KEPT);
        const later = await run("ls deps/vendor", { policy: "pull" }, { variables: [variable(key, value)] });
        expect(later.trace).toMatch(/\nlib\nmine\n/);
      }
      const cleaned = await run("ls deps/vendor", { policy: "pull" });
      expect(cleaned.trace).not.toContain("mine");
    });

    test("a cache whose files meet files of the commit is unpacked each time", async () => {
      await run("echo more > deps/more", { key: "mixed", paths: ["deps/"] });
      for (let time = 0; time < 2; time++) {
        const next = await run("cat deps/more", { key: "mixed", paths: ["deps/"], policy: "pull" });
        expect(next.trace).toMatch(/\nmore\n/);
        expect(next.trace).not.toContain(KEPT);
      }
    });
  },
);

describe("files that are kept", { timeout: 60_000 }, () => {
  function places(base: string): { readonly root: string; readonly tmpDir: string } {
    const dir = mkdtempSync(join(base, "alloy-kept-"));
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
    const [root, tmpDir] = [join(dir, "é root"), join(dir, "tmp")];
    mkdirSync(join(root, "top/in"), { recursive: true });
    writeFileSync(join(root, "top/in/file"), "x");
    return { root, tmpDir };
  }
  const top = fileNameOf("top");

  test.skipIf(!existsSync("/dev/shm") || !TELLING.every((type) => statfsSync("/dev/shm").type !== type))(
    "there are none on a file system that does not tell of all changes",
    async () => {
      expect(await keepingAt(places("/dev/shm")).record({ placed: [top] }, never)).toBeNull();
    },
  );

  test.skipIf(!isTelling)("there are none of git's own, none with two names and no sockets or pipes", async () => {
    const { root, tmpDir } = places(tmpdir());
    const keeping = keepingAt({ root, tmpDir });
    expect(await keeping.record({ placed: [top] }, never)).toMatchObject({ entries: 3, aside: null });
    mkdirSync(join(root, ".git/hooks"), { recursive: true });
    for (const name of [".git", ".git/hooks", "top/.GIT"])
      expect(await keeping.record({ placed: [fileName(name)] }, never)).toBeNull();
    execFileSync("ln", [join(root, "top/in/file"), join(root, "second")]);
    expect(await keeping.record({ placed: [top] }, never)).toBeNull();
    rmSync(join(root, "second"));
    execFileSync("mkfifo", [join(root, "top/in/pipe")]);
    expect(await keeping.record({ placed: [top] }, never)).toBeNull();
  });

  test.skipIf(!isTelling)("the process that has the rights of jobs keeps them as well", async () => {
    const { root, tmpDir } = places(tmpdir());
    const { keeping } = filesThroughProcess(
      { root, tmpDir },
      {
        mark: "MARK=x",
        keepsFiles: true,
        ownProgram: [process.execPath, join(import.meta.dirname, "../../src/main.ts")],
        launch: {
          account: null,
          uid: 0,
          environment: { PATH: process.env.PATH ?? "" },
          command: (argv) => argv,
          check: async () => {},
        },
      },
    );
    const path = join(root, "top/in/file");
    const inode = lstatSync(path).ino;
    const kept = (await keeping?.record({ placed: [top] }, never)) ?? null;
    if (keeping === undefined || kept === null) throw new Error("nothing is kept");
    const aside = await keeping.setAside(kept, never);
    expect(readdirSync(root)).toEqual([]);
    if (aside === null) throw new Error("nothing was set aside");
    const back = await keeping.putBack(aside, never);
    expect(readFileSync(path, "utf8")).toBe("x");
    expect(lstatSync(path).ino).toBe(inode);
    expect(readdirSync(tmpDir)).toEqual([]);
    if (back === null) throw new Error("nothing was put back");
    const again = await keeping.setAside(back, never);
    if (again === null) throw new Error("nothing was set aside");
    await keeping.drop(again, never);
    expect(readdirSync(tmpDir)).toEqual([]);
    expect(await keeping.putBack(again, never)).toBeNull();
    expect(readdirSync(root)).toEqual([]);
  });
});
