import { mkdirSync } from "node:fs";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Stop } from "../../src/errors.ts";
import type { Cache, Job } from "../../src/job/job.ts";
import { createStand, jobWith, type Stand, step, variable } from "../job/stand.ts";

let stand: Stand;
beforeEach(() => {
  stand = createStand();
});
afterEach(async () => {
  await stand.close();
});

function cacheWith(more: Partial<Cache> = {}): Cache {
  return {
    key: "deps",
    untracked: false,
    paths: ["vendor/"],
    policy: "pull-push",
    when: "on_success",
    fallbackKeys: [],
    ...more,
  };
}

function caching(script: string, cache: Partial<Cache> = {}, more: Partial<Job> = {}): Job {
  return jobWith({ steps: [step("script", [script])], cache: [cacheWith(cache)], ...more });
}

/** A job's variables: these, and the one that lets the job do without sources. */
const without = (...variables: [string, string][]): Pick<Job, "variables"> => ({
  variables: [variable("GIT_STRATEGY", "none"), ...variables.map(([key, value]) => variable(key, value))],
});

test("files come back, with modes and links, and a second save of the same is not made", async () => {
  const first = await stand.run(
    caching("mkdir -p vendor/d; echo one > vendor/a; chmod 750 vendor/a; ln -s a vendor/l; mkdir vendor/empty"),
  );
  expect(first.outcome).toEqual({ result: "success" });
  expect(first.trace).toContain("There is no cache for deps yet");
  expect(first.trace).toMatch(/Saved cache deps: \d+ entries/);
  const second = await stand.run(caching("cat vendor/a; stat -c %a vendor/a; readlink vendor/l; test -d vendor/empty"));
  expect(second.outcome).toEqual({ result: "success" });
  expect(second.trace).toMatch(/Successfully restored cache deps[\s\S]*one\n750\na\n/);
  expect(second.trace).toContain("The cache deps is up to date");
  const third = await stand.run(caching("rm vendor/a"));
  expect(third.trace).toMatch(/Saved cache deps/);
  const fourth = await stand.run(caching("rm -rf vendor; ls"));
  expect(fourth.trace).toContain("what was there stays");
});

test("each format and level is read again", async () => {
  for (const format of ["zip", "tarzstd", "zipzstd"]) {
    const chosen = without(["CACHE_COMPRESSION_FORMAT", format], ["CACHE_COMPRESSION_LEVEL", "fastest"]);
    await stand.run(caching(`mkdir -p vendor; echo ${format} > vendor/a`, { key: format }, chosen));
    const back = await stand.run(caching("cat vendor/a", { key: format, policy: "pull" }, chosen));
    expect(back.trace).toMatch(new RegExp(`restored cache ${format}[\\s\\S]*\\n${format}\\n`));
  }
});

test("a policy may be a variable, and one that nobody knows overwrites nothing", async () => {
  await stand.run(caching("mkdir vendor; echo good > vendor/a"));
  for (const [policy, value, saves, restores] of [
    ["$POLICY", "pull", false, true],
    ["${POLICY}", "push", true, false],
    ["$POLICY", "pull-push", true, true],
    ["$POLICY", "", true, true],
    ["$POLICY", "Pull", false, true],
    ["pul", "", false, true],
  ] as const) {
    const run = `mkdir -p vendor; cat vendor/a; echo ${Math.random()} > vendor/a`;
    const { outcome, trace } = await stand.run(caching(run, { policy }, without(["POLICY", value])));
    expect(outcome).toEqual({ result: "success" });
    expect([policy, value, trace.includes("Saved cache")]).toEqual([policy, value, saves]);
    expect([policy, value, trace.includes("Checking cache")]).toEqual([policy, value, restores]);
    const unknown =
      /cache\.policy is "(?:Pull|pul)", expected is pull-push, pull or push: the cache is restored and not/;
    expect([policy, value, unknown.test(trace)]).toEqual([policy, value, value === "Pull" || policy === "pul"]);
  }
});

test("policies, fallback keys and expanded keys", async () => {
  await stand.run(caching("mkdir vendor; echo main > vendor/a", { key: "main", policy: "push" }));
  const other = await stand.run(
    caching(
      "cat vendor/a; rm -rf vendor",
      { key: "$BRANCH", fallbackKeys: ["none", "main"], policy: "pull" },
      without(["BRANCH", "x"]),
    ),
  );
  expect(other.trace).toMatch(/Checking cache for x[\s\S]*Successfully restored cache main[\s\S]*\nmain\n/);
  expect(other.trace).not.toContain("Saving cache");
  const common = await stand.run(
    caching("cat vendor/a", { key: "y", policy: "pull" }, without(["CACHE_FALLBACK_KEY", "main"])),
  );
  expect(common.trace).toContain("Successfully restored cache main");
});

describe("after a failure", () => {
  test.each([
    ["on_success", false],
    ["on_failure", true],
    ["always", true],
  ] as const)("%s saves: %s", async (when, saved) => {
    const { outcome, trace } = await stand.run(caching("mkdir vendor; exit 3", { when }));
    expect(outcome).toMatchObject({ result: "failed", exitCode: 3 });
    expect(trace.includes("Saved cache deps")).toBe(saved);
  });

  test("a cancel counts as one, the job's time limit does not", async () => {
    for (const [why, saved] of [
      ["canceling", true],
      ["timed_out", false],
    ] as const) {
      const stopping = new AbortController();
      const { trace } = await stand.run(
        caching("mkdir -p vendor; echo ready; sleep 60", { when: "always", key: why }),
        {
          signal: stopping.signal,
          onTrace: (text) => {
            if (/^ready$/m.test(text)) stopping.abort(new Stop(why, "test"));
          },
        },
      );
      expect(trace.includes(`Saved cache ${why}`), why).toBe(saved);
    }
  });
});

describe("trouble is a warning", () => {
  async function archiveOf(): Promise<string> {
    const dir = join(stand.dir, "cache");
    const entries = await readdir(dir, { recursive: true, withFileTypes: true });
    const found = entries.find((entry) => entry.name.startsWith("cache-"));
    return join(found?.parentPath ?? "", found?.name ?? "");
  }

  test("a damaged cache is none, and is replaced", async () => {
    await stand.run(caching("mkdir vendor; head -c 100000 /dev/urandom > vendor/a"));
    const archive = await archiveOf();
    const bytes = await readFile(archive);
    bytes.fill(0, 50_000, 50_100);
    await writeFile(archive, bytes);
    const { outcome, trace } = await stand.run(caching("rm -rf vendor; mkdir vendor; echo new > vendor/b"));
    expect(outcome).toEqual({ result: "success" });
    expect(trace).toMatch(/The cache deps cannot be used: .*/);
    expect(trace).toContain("Saved cache deps");
  });

  test("a cache directory that cannot be used fails no job", async () => {
    await writeFile(join(stand.dir, "cache"), "not a directory");
    const { outcome, trace } = await stand.run(caching("mkdir -p vendor; echo x > vendor/a"));
    expect(outcome).toEqual({ result: "success" });
    expect(trace).toMatch(/The cache deps was not saved: .*The job goes on without/);
  });

  test("a cache that takes too long is given up", async () => {
    const { outcome, trace } = await stand.run(
      caching(
        "mkdir -p vendor; head -c 300000000 /dev/urandom > vendor/a",
        {},
        without(["CACHE_REQUEST_TIMEOUT", "0.001"]),
      ),
    );
    expect(outcome).toEqual({ result: "success" });
    expect(trace).toContain("CACHE_REQUEST_TIMEOUT");
  });
});

test("a cache that the Go runner left is restored", async () => {
  const old = join(stand.dir, "cache/acme/widget/deps");
  mkdirSync(old, { recursive: true });
  // A zip with vendor/a, `old`, as Info-ZIP writes it.
  const { execFileSync } = await import("node:child_process");
  mkdirSync(join(stand.dir, "work/vendor"), { recursive: true });
  await writeFile(join(stand.dir, "work/vendor/a"), "from the old runner\n");
  execFileSync("zip", ["-qr", join(old, "cache.zip"), "vendor"], { cwd: join(stand.dir, "work") });
  const { trace } = await stand.run(caching("cat vendor/a", { policy: "pull" }));
  expect(trace).toMatch(/Successfully restored cache deps[\s\S]*from the old runner/);
});
