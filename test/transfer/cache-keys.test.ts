import { describe, expect, test } from "vitest";
import type { Trust } from "../../src/job/job.ts";
import { never } from "../../src/time.ts";
import { restoreFormer } from "../../src/transfer/cache/cache-former.ts";
import { cacheKeys, cleanKey } from "../../src/transfer/cache/cache-keys.ts";
import { ownTrust } from "../support/job.ts";

describe("a cleaned key", () => {
  test.each([
    ["fallback_key", "fallback_key"],
    ["fallback_key/", "fallback_key"],
    ["fallback_key/ / \\  \\", "fallback_key"],
    ["/leading", "leading"],
    ["a%2Fb%2fc", "a/b/c"],
    ["foo/bar/../../../.././blerp", "blerp"],
    ["..\\foo\\bar", "foo/bar"],
    ["%2E%2E/up", "up"],
    ["a/%2e%2E%2Fb", "b"],
    ["...", "..."],
    ["a%5Cb", "a%5Cb"],
    ["inner blank/is  kept", "inner blank/is  kept"],
    ["trailing  ", "trailing"],
    ["a/.. ", "a/.."],
    ["line\nbreak\0nul", "line_break_nul"],
    ["größe/日本", "größe/日本"],
  ])("%j is %j", (written, expected) => {
    // A last segment that is `..` once its blanks are removed leads up as well.
    expect(cleanKey(written)).toBe(written === "a/.. " ? null : expected);
  });

  test.each(["", " ", ".", "..", "/", "\\", "%2E%2E", "%2F", "../..", "a/..", " / "])(
    "nothing is left of %j",
    (written) => {
      expect(cleanKey(written)).toBeNull();
    },
  );

  test("whatever comes in, nothing that leads elsewhere comes out, and cleaning again changes nothing", () => {
    const parts = ["a", ".", "..", "/", "\\", " ", "%2f", "%2E", "%", "2F", "\0", "é", "\ud800", "b.c"];
    let seed = 7;
    const next = (most: number): number => (seed = (seed * 48271) % 2147483647) % most;
    for (let run = 0; run < 5000; run++) {
      const written = Array.from({ length: next(12) }, () => parts[next(parts.length)]).join("");
      const key = cleanKey(written);
      if (key === null) continue;
      expect(cleanKey(key), JSON.stringify(written)).toBe(key);
      expect(key, JSON.stringify(written)).not.toMatch(/^\/|\\|\s$|%2[fe]|[\x00-\x1f]/i);
      expect(key.split("/").filter((segment) => segment === "" || segment === "." || segment === "..")).toEqual([]);
    }
  });

  test("keys that are too long stay apart", () => {
    const a = cleanKey("x".repeat(2000));
    const b = cleanKey("x".repeat(2001));
    expect(a).not.toBe(b);
    expect(Buffer.byteLength(a ?? "")).toBeLessThan(500);
    expect(cleanKey(a ?? "")).toBe(a);
  });
});

describe("the keys of a cache", () => {
  const request = {
    key: "k",
    written: "k",
    jobName: "unit",
    ref: "refs/heads/x",
    trust: ownTrust,
    fallbackKeys: [],
    commonFallbackKey: undefined,
  };

  test("without one it is the job's name and its ref", () => {
    expect(cacheKeys({ ...request, key: "", written: "" })).toEqual({
      key: "unit/refs/heads/x",
      fallbacks: [],
      warnings: [],
    });
  });

  test("one of which nothing is left is told of", () => {
    const { key, warnings } = cacheKeys({ ...request, key: "", written: "$UNDEFINED" });
    expect(key).toBe("unit/refs/heads/x");
    expect(warnings).toEqual(['Nothing is left of the cache key "$UNDEFINED"; "unit/refs/heads/x" is used.']);
  });

  test("fallbacks come in order, each once, the common one last", () => {
    const { fallbacks, warnings } = cacheKeys({
      ...request,
      fallbackKeys: ["a", "k", "", "../a", "b"],
      commonFallbackKey: "main",
    });
    expect(fallbacks).toEqual(["a", "b", "main"]);
    expect(warnings).toEqual([]);
  });

  test.each([
    "main-protected",
    "main-protected/",
    "main-protected/.",
    "main-protected%2F",
    "main-protected%2f%2E",
    "x/../main-protected",
    "main-protected ",
    "main-protected\\",
    "/main-protected",
    "main-Protected",
    "main-protected.",
  ])("the caches of protected refs are not to be had by CACHE_FALLBACK_KEY=%s", (commonFallbackKey) => {
    const { fallbacks, warnings } = cacheKeys({ ...request, commonFallbackKey });
    expect(fallbacks).toEqual([]);
    expect(warnings).toEqual(['CACHE_FALLBACK_KEY must not end in "-protected"; it is not used.']);
  });

  test("jobs of different trust never name the same cache, whatever they write", () => {
    const forks = ["0123456789abcdef", "fedcba9876543210"];
    const trusts: Trust[] = [
      ownTrust,
      { level: "protected", source: "" },
      ...forks.map((source) => ({ level: "fork", source }) as const),
    ];
    const endings = ["", "-protected", "-non_protected", ...forks.map((source) => `-fork-${source}`)];
    const written = ["k", "x".repeat(600)].flatMap((key) => [
      ...endings.flatMap((one) => endings.map((other) => `${key}${one}${other}`)),
    ]);
    // A key that comes out of this may also be written by a job.
    const again = trusts.flatMap((trust) => written.map((key) => cacheKeys({ ...request, key, trust }).key));
    const named = trusts.map(
      (trust) =>
        new Set(
          [...written, ...again].flatMap((key) => {
            const keys = cacheKeys({ ...request, key, trust, fallbackKeys: [key], commonFallbackKey: key });
            return [keys.key, ...keys.fallbacks];
          }),
        ),
    );
    const all = named.flatMap((keys) => [...keys]);
    expect(new Set(all).size).toBe(all.length);
  });

  test("what GitLab has told apart keeps its key, and a project's own refs keep theirs", () => {
    const keyOf = (key: string, level: Trust["level"]): string =>
      cacheKeys({ ...request, key, trust: { level, source: "" } }).key;
    expect(keyOf("k-protected", "protected")).toBe("k-protected");
    expect(keyOf("k-non_protected", "project")).toBe("k-non_protected");
    expect(keyOf("k", "project")).toBe("k");
    expect(keyOf("k", "protected")).toBe("k-protected");
  });
});

test("what another runner has left is looked for by keys alone that lead nowhere else", async () => {
  const asked: string[] = [];
  const untouched = () => Promise.reject(new Error("there is nothing to unpack"));
  const context = {
    formerCache: async (path: string) => {
      asked.push(path);
      return null;
    },
    files: { list: untouched, pack: untouched, unpack: untouched },
    scratchDir: "/nonexistent",
    minFreeBytes: () => 0,
  };
  for (const key of ["x", "x-protected/.", "../../other/x", "%2e%2e/x"])
    expect(await restoreFormer({ projectPath: "g/p", projectId: "7", key }, context, never)).toBeNull();
  expect(asked).toEqual(["g/p/x/cache.zip"]);
});
