import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, statfsSync } from "node:fs";
import { readdir, readFile, rm, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { never } from "../../src/time.ts";
import { openLocalCaches } from "../../src/transfer/cache/cache-local.ts";
import type { CachePlace, CacheStore, NewCache } from "../../src/transfer/cache/cache-store.ts";

function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), "alloy-cache-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

function openStore(dir: string, maxBytes: number | null = null, coordinator = "ci.example.com"): CacheStore {
  return openLocalCaches({ dir, oldDir: dir, coordinator, maxBytes, guarded: false, minFreeBytes: () => 0 });
}

function place(key: string, more: Partial<CachePlace> = {}): CachePlace {
  return { projectPath: "group/project", projectId: "5", key, ...more };
}

function cacheOf(content: string | Buffer): NewCache {
  return {
    extension: ".zip",
    write: async (path) => {
      await writeFile(path, content, { flag: "wx" });
      return typeof content === "string" ? content : "bytes";
    },
  };
}

const ignore = (): void => {};

async function put(store: CacheStore, where: CachePlace, content: string | Buffer): Promise<void> {
  await store.put(where, cacheOf(content), ignore, never);
}

async function contentOf(store: CacheStore, where: CachePlace): Promise<string | null> {
  await using stored = await store.open(where, ignore, never);
  return stored === null ? null : await stored.file.readFile("utf8");
}

async function filesBelow(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

test("what was put is there, and nothing else is left", async () => {
  const dir = scratch();
  const store = openStore(dir);
  expect(await contentOf(store, place("k"))).toBeNull();
  expect(await store.fingerprint(place("k"), never)).toBeNull();
  await put(store, place("k"), "one");
  await put(store, place("k"), "two");
  expect(await contentOf(store, place("k"))).toBe("two");
  expect(await store.fingerprint(place("k"), never)).toBe("two");
  expect(await filesBelow(dir)).toHaveLength(2);
});

test("a cache that could not be made leaves the old one and its fingerprint", async () => {
  const dir = scratch();
  const store = openStore(dir);
  await put(store, place("k"), "good");
  const failing: NewCache = {
    extension: ".zip",
    write: async (path) => {
      await writeFile(path, "half");
      throw new Error("the disk is full");
    },
  };
  await expect(store.put(place("k"), failing, ignore, never)).rejects.toThrow(/the disk is full/);
  expect(await contentOf(store, place("k"))).toBe("good");
  expect(await store.fingerprint(place("k"), never)).toBe("good");
  expect(await filesBelow(dir)).toHaveLength(2);
});

test("an archive that was cut is not said to be up to date", async () => {
  const dir = scratch();
  const store = openStore(dir);
  await put(store, place("k"), "content");
  const archive = (await filesBelow(dir)).find((file) => file.endsWith(".zip"));
  await truncate(archive ?? "", 3);
  expect(await store.fingerprint(place("k"), never)).toBeNull();
});

test("many writers and readers of one key at once: each reads one whole cache", async () => {
  const dir = scratch();
  const store = openStore(dir, 10_000_000);
  await put(store, place("k"), "0".repeat(50_000));
  const seen: (string | null)[] = [];
  await Promise.all([
    ...Array.from({ length: 20 }, (_, index) => put(store, place("k"), String(index % 10).repeat(50_000))),
    ...Array.from({ length: 40 }, async () => void seen.push(await contentOf(store, place("k")))),
  ]);
  for (const content of seen) expect(content).toMatch(/^(\d)\1{49999}$/);
  expect(await contentOf(store, place("k"))).toMatch(/^(\d)\1{49999}$/);
});

test("projects, keys and coordinators never meet", async () => {
  const dir = scratch();
  const places: [CacheStore, CachePlace][] = [
    [openStore(dir), place("x/y")],
    [openStore(dir), place("y", { projectPath: "group/project/x" })],
    [openStore(dir), place("x_y")],
    [openStore(dir), place("X/Y")],
    [openStore(dir), place("x/y", { projectId: "6" })],
    [openStore(dir, null, "other.example.com"), place("x/y")],
    [openStore(dir), place("x/y/cache.zip")],
    [openStore(dir), place("x".repeat(499))],
  ];
  for (const [index, [store, where]] of places.entries()) await put(store, where, `cache ${index}`);
  for (const [index, [store, where]] of places.entries()) expect(await contentOf(store, where)).toBe(`cache ${index}`);
});

describe("what the Go runner left", () => {
  const old = (dir: string): string => join(dir, "group/project/build/refs/heads/x/cache.zip");

  test("is read until there is a newer cache, and stays", async () => {
    const dir = scratch();
    mkdirSync(dirname(old(dir)), { recursive: true });
    await writeFile(old(dir), "old");
    const store = openStore(dir);
    expect(await contentOf(store, place("build/refs/heads/x"))).toBe("old");
    expect(await store.fingerprint(place("build/refs/heads/x"), never)).toBeNull();
    await put(store, place("build/refs/heads/x"), "new");
    expect(await contentOf(store, place("build/refs/heads/x"))).toBe("new");
    expect(await readFile(old(dir), "utf8")).toBe("old");
  });

  test("is not followed elsewhere", async () => {
    const dir = scratch();
    const other = scratch();
    await writeFile(join(other, "cache.zip"), "secret");
    mkdirSync(dirname(dirname(old(dir))), { recursive: true });
    await symlink(other, dirname(old(dir)));
    expect(await contentOf(openStore(dir), place("build/refs/heads/x"))).toBeNull();
    await rm(dirname(old(dir)));
    mkdirSync(dirname(old(dir)));
    await symlink(join(other, "cache.zip"), old(dir));
    expect(await contentOf(openStore(dir), place("build/refs/heads/x"))).toBeNull();
  });
});

describe("cache_max_size", () => {
  test("what was not used for longest goes first; what was just written stays", async () => {
    const dir = scratch();
    const store = openStore(dir, 2500);
    for (const key of ["a", "b"]) await put(store, place(key), key.repeat(1000));
    for (const file of await filesBelow(dir)) {
      if (file.endsWith("current.json"))
        await utimes(file, new Date(1000), new Date(file.includes("key=a") ? 1000 : 2000));
    }
    expect(await contentOf(store, place("a"))).toBe("a".repeat(1000));
    await put(store, place("c"), "c".repeat(1000));
    expect(await contentOf(store, place("b"))).toBeNull();
    expect(await contentOf(store, place("a"))).toBe("a".repeat(1000));
    expect(await contentOf(store, place("c"))).toBe("c".repeat(1000));
  });

  test("a cache that is too large for it is refused, and the old one stays", async () => {
    const dir = scratch();
    const store = openStore(dir, 100);
    await put(store, place("a"), "small");
    await expect(put(store, place("a"), "x".repeat(101))).rejects.toThrow(/cache_max_size/);
    expect(await contentOf(store, place("a"))).toBe("small");
  });

  test("an archive that is being read outlives its eviction", async () => {
    const dir = scratch();
    const store = openStore(dir, 1500);
    await put(store, place("a"), "a".repeat(1000));
    await using stored = await store.open(place("a"), ignore, never);
    await put(store, place("b"), "b".repeat(1000));
    expect(await contentOf(store, place("a"))).toBeNull();
    expect(await stored?.file.readFile("utf8")).toBe("a".repeat(1000));
  });
});

describe("a disk that is short of room", () => {
  const MIB = 1024 * 1024;
  const least = 8 * MIB;

  /** Mounts a disk of 20 MiB of which 8 must stay free; `null`: this account may not mount. */
  function smallDisk(): { dir: string; store: CacheStore; free: () => number } | null {
    const dir = scratch();
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=20m,huge=never", "tmpfs", dir], { stdio: "ignore" });
    } catch {
      return null;
    }
    onTestFinished(() => void execFileSync("umount", ["-l", dir]));
    const store = openLocalCaches({
      dir,
      oldDir: dir,
      coordinator: "ci.example.com",
      maxBytes: null,
      guarded: false,
      minFreeBytes: () => least,
    });
    return { dir, store, free: () => statfsSync(dir).bavail * statfsSync(dir).bsize };
  }

  async function keysOf(dir: string): Promise<string[]> {
    const names = await readdir(join(dir, "group/project")).catch(() => []);
    return names.map((name) => name.slice("key=".length, name.indexOf("~"))).sort();
  }

  test("loses the caches that were not used for longest before a new one appears", async ({ skip }) => {
    const disk = smallDisk();
    if (disk === null) return skip("only an account that may mount can make a small disk");
    const { dir, store, free } = disk;
    for (const [index, key] of ["a", "b", "c", "d"].entries()) {
      await put(store, place(key), randomBytes(3 * MIB));
      const [directory = ""] = (await readdir(join(dir, "group/project"))).filter((name) => name.includes(`=${key}~`));
      const when = new Date(1000 + index);
      await utimes(join(dir, "group/project", directory, "current.json"), when, when).catch(() => {});
    }
    expect(await keysOf(dir)).toEqual(["b", "c", "d"]);
    expect(free()).toBeGreaterThanOrEqual(least);
    // The store is told of bytes before they are written, and makes room for them.
    const cache: NewCache = {
      extension: ".zip",
      write: async (path, _signal, makeRoom) => {
        await makeRoom(6 * MIB);
        expect(free()).toBeGreaterThanOrEqual(least + 6 * MIB);
        await writeFile(path, randomBytes(6 * MIB));
        return "f";
      },
    };
    await store.put(place("e"), cache, ignore, never);
    expect((await keysOf(dir)).at(-1)).toBe("e");
    expect(free()).toBeGreaterThanOrEqual(least);
  });

  test("takes no new cache, and loses none, where that would not help", async ({ skip }) => {
    const disk = smallDisk();
    if (disk === null) return skip("only an account that may mount can make a small disk");
    const { dir, store, free } = disk;
    await put(store, place("a"), randomBytes(MIB));
    await writeFile(join(dir, "something else"), randomBytes(14 * MIB));
    const before = free();
    await expect(put(store, place("b"), randomBytes(MIB))).rejects.toThrow(/min_free_disk/);
    expect(await keysOf(dir)).toEqual(["a"]);
    expect(free()).toBe(before);
  });
});
