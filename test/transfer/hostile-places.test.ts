import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, linkSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, symlinkSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { never } from "../../src/time.ts";
import { openLocalCaches } from "../../src/transfer/cache/cache-local.ts";
import type { CachePlace } from "../../src/transfer/cache/cache-store.ts";

/** The account of the jobs. */
const NOBODY = 65_534;
const isLinuxRoot = process.platform === "linux" && process.getuid?.() === 0;

const place: CachePlace = { projectPath: "group/project", projectId: "5", key: "k" };
const ignore = (): void => {};

/** As with the packages, the account's home is the working directory, and an older runner kept its caches there. */
let home: string;
/** A directory that belongs to root. */
let secrets: string;
let caches: string;

beforeEach(async () => {
  const dir = mkdtempSync(join(tmpdir(), "alloy-hostile-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  chmodSync(dir, 0o755);
  home = join(dir, "home");
  secrets = join(dir, "secrets");
  caches = join(dir, "caches");
  mkdirSync(home);
  mkdirSync(secrets, { mode: 0o700 });
  mkdirSync(caches, { mode: 0o700 });
  await writeFile(join(secrets, "cache.zip"), "secret");
});

const old = (): string => join(home, "cache/group/project/k/cache.zip");

/** Gives everything in the account's home to the account. */
function give(): void {
  const pass = (path: string): void => {
    chownLink(path);
    if (lstatSync(path).isDirectory()) for (const name of readdirSync(path)) pass(join(path, name));
  };
  pass(home);
}

function chownLink(path: string): void {
  execFileSync("chown", ["-h", `${NOBODY}:${NOBODY}`, path]);
}

async function contentOfOld(): Promise<string | null> {
  const store = openLocalCaches({
    dir: caches,
    oldDir: join(home, "cache"),
    coordinator: "ci.example.com",
    maxBytes: null,
    guarded: true,
    minFreeBytes: () => 0,
  });
  await using stored = await store.open(place, ignore, never);
  return stored === null ? null : await stored.file.readFile("utf8");
}

async function swapping(one: string, other: string): Promise<void> {
  const swapper = spawn("python3", [join(import.meta.dirname, "../support/swap.py"), String(NOBODY), one, other], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(async () => {
    swapper.kill("SIGKILL");
    if (swapper.exitCode === null && swapper.signalCode === null) await once(swapper, "exit");
  });
  await once(swapper.stdout, "data");
}

describe.skipIf(!isLinuxRoot)("caches that an older runner left where jobs can write", () => {
  test("are read", async () => {
    mkdirSync(dirname(old()), { recursive: true });
    await writeFile(old(), "mine");
    give();
    expect(await contentOfOld()).toBe("mine");
  });

  test("are never something else of root's, however fast names are exchanged", { timeout: 60_000 }, async () => {
    mkdirSync(dirname(old()), { recursive: true });
    await writeFile(old(), "mine");
    symlinkSync(join(secrets, "cache.zip"), join(dirname(old()), "link"));
    give();
    await swapping(old(), join(dirname(old()), "link"));
    const seen = new Set<string | null>();
    for (let round = 0; round < 1500; round++) seen.add(await contentOfOld());
    expect(seen).toContain("mine");
    expect(seen).not.toContain("secret");
  });

  test("nor when a directory above is exchanged with a link", { timeout: 60_000 }, async () => {
    mkdirSync(dirname(old()), { recursive: true });
    await writeFile(old(), "mine");
    const link = join(home, "cache/group/project/link");
    symlinkSync(secrets, link);
    give();
    await swapping(dirname(old()), link);
    const seen = new Set<string | null>();
    for (let round = 0; round < 1500; round++) seen.add(await contentOfOld());
    expect(seen).toContain("mine");
    expect(seen).not.toContain("secret");
  });

  test("are not followed through a link in the place of the cache directory itself", async () => {
    mkdirSync(join(secrets, "group/project/k"), { recursive: true });
    await writeFile(join(secrets, "group/project/k/cache.zip"), "secret");
    symlinkSync(secrets, join(home, "cache"));
    give();
    expect(await contentOfOld()).toBeNull();
  });

  test("are no second name of somebody else's file", async () => {
    mkdirSync(dirname(old()), { recursive: true });
    give();
    linkSync(join(secrets, "cache.zip"), old());
    expect(await contentOfOld()).toBeNull();
  });

  test("hold nothing up when they are pipes or devices", async () => {
    mkdirSync(dirname(old()), { recursive: true });
    execFileSync("mkfifo", [old()]);
    give();
    // There are fewer threads for file operations than this, so one that hangs would block the others.
    const opened = Promise.all(Array.from({ length: 8 }, contentOfOld));
    expect(new Set(await opened)).toEqual(new Set([null]));
    await rm(old());
    execFileSync("mknod", [old(), "c", "5", "0"]);
    expect(await contentOfOld()).toBeNull();
  });
});

describe("caches of jobs that have the runner's own account", () => {
  test.skipIf(process.platform === "win32")("are not waited for when they have become pipes", async () => {
    const store = openLocalCaches({
      dir: caches,
      oldDir: caches,
      coordinator: "c",
      maxBytes: null,
      guarded: false,
      minFreeBytes: () => 0,
    });
    const write = async (path: string): Promise<string> => {
      await writeFile(path, "content");
      return "f";
    };
    await store.put(place, { extension: ".zip", write }, ignore, never);
    const project = join(caches, "group/project");
    const directory = join(project, readdirSync(project)[0] ?? "");
    for (const name of readdirSync(directory)) {
      await rm(join(directory, name));
      execFileSync("mkfifo", [join(directory, name)]);
    }
    expect(await Promise.all(Array.from({ length: 8 }, () => store.open(place, ignore, never)))).toEqual(
      Array.from({ length: 8 }, () => null),
    );
    mkdirSync(join(caches, "group/project/old"), { recursive: true });
    execFileSync("mkfifo", [join(caches, "group/project/old/cache.zip")]);
    expect(await store.open({ ...place, key: "old" }, ignore, never)).toBeNull();
  });
});

describe.skipIf(!isLinuxRoot)("root's own caches beside directories of the jobs' account", () => {
  const store = () =>
    openLocalCaches({
      dir: caches,
      oldDir: caches,
      coordinator: "ci.example.com",
      maxBytes: 100,
      guarded: true,
      minFreeBytes: () => 0,
    });
  const write = async (path: string): Promise<string> => {
    await writeFile(path, "content");
    return "f";
  };

  test("are not written below them, nor through their links", async () => {
    mkdirSync(join(caches, "group"));
    chownSync(join(caches, "group"), NOBODY, NOBODY);
    symlinkSync(secrets, join(caches, "group/project"));
    const refused = store().put(place, { extension: ".zip", write }, ignore, never);
    await expect(refused).rejects.toThrow(/no caches in .*group, which another user can change/);
    expect(readdirSync(secrets)).toEqual(["cache.zip"]);
    expect(await store().open(place, ignore, never)).toBeNull();
  });

  test("are evicted without a look into them", async () => {
    mkdirSync(join(caches, "other"));
    const foreign = join(caches, "other/key=x~0123456789abcdef");
    mkdirSync(foreign);
    const archive = "cache-0123456789abcdef.zip";
    await writeFile(join(foreign, archive), "x");
    await writeFile(join(foreign, "current.json"), JSON.stringify({ archive, bytes: 1e6, fingerprint: "" }));
    chownSync(foreign, NOBODY, NOBODY);
    await store().put(place, { extension: ".zip", write }, ignore, never);
    expect(readdirSync(foreign).sort()).toEqual([archive, "current.json"]);
  });
});
