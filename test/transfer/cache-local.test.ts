import { mkdirSync, mkdtempSync } from "node:fs";
import { readdir, readFile, rm, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { never } from "../../src/time.ts";
import { openLocalCaches } from "../../src/transfer/cache-local.ts";
import type { CachePlace, CacheStore, NewCache } from "../../src/transfer/cache-store.ts";

function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), "alloy-cache-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

function openStore(dir: string, maxBytes: number | null = null, coordinator = "ci.example.com"): CacheStore {
  return openLocalCaches({ dir, oldDir: dir, coordinator, maxBytes, guarded: false });
}

function place(key: string, more: Partial<CachePlace> = {}): CachePlace {
  return { projectPath: "group/project", projectId: "5", key, ...more };
}

function cacheOf(content: string | Buffer, fingerprint = String(content)): NewCache {
  return {
    extension: ".zip",
    write: async (path) => {
      await writeFile(path, content, { flag: "wx" });
      return fingerprint;
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
