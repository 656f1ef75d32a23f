import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { JobSpec } from "../../src/local/coordinator/jobs/job.ts";
import { isAlive } from "../support/processes.ts";
import { openSite, type Site } from "../support/site.ts";

/** A repository with a branch with slashes, a tag, a pull request's commit that no branch has, and a submodule. */
interface Upstream {
  readonly dir: string;
  readonly url: string;
  readonly main: string;
  readonly topic: string;
  readonly tag: string;
  readonly pull: string;
  dispose(): Promise<void>;
}

async function createUpstream(): Promise<Upstream> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-upstream-"));
  const git = (...args: string[]): string =>
    execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@example.com", ...args], {
      cwd: dir,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    }).trim();
  const commit = async (name: string): Promise<string> => {
    await writeFile(join(dir, name), `${name}\n`);
    git("add", ".");
    git("commit", "-q", "-m", name);
    return git("rev-parse", "HEAD");
  };
  git("init", "-q", "-b", "main");
  const main = await commit("on-main");
  git("checkout", "-q", "-b", "feature/with/slashes");
  const topic = await commit("on-topic");
  git("checkout", "-q", "--detach", "main");
  const tag = await commit("on-tag");
  git("tag", "v1.0");
  git("checkout", "-q", "--detach", "main");
  const pull = await commit("on-pull");
  git("update-ref", "refs/pull/7/head", pull);
  git("checkout", "-q", "main");
  return {
    dir,
    url: `file://${dir}`,
    main,
    topic,
    tag,
    pull,
    dispose: () => rm(dir, { recursive: true, force: true }),
  };
}

describe.each(["alloy", "gitlab"] as const)("jobs of %s", (dialect) => {
  let site: Site;
  let upstream: Upstream;

  beforeAll(async () => {
    upstream = await createUpstream();
    site = await openSite({ dialect, global: "concurrent = 6" });
  });
  afterAll(async () => {
    await site.close();
    await upstream.dispose();
  });

  /** Run a job to its last report. */
  async function run(spec: JobSpec) {
    const job = site.coordinator.enqueue(spec);
    const update = await job.reported({ timeoutMs: 60_000 });
    return { job, update, state: update.state, trace: job.trace, exitCode: update.exitCode };
  }

  test("a good script succeeds, and its whole trace arrives", async () => {
    const { state, trace } = await run({ name: "unit", script: ["echo first", "seq 1 20000", "echo last"] });
    expect(state).toBe("success");
    expect(trace).toContain("Running with alloy-runner");
    expect(trace).toContain("$ echo first");
    const numbers = trace.split(/\r?\n/).filter((line) => /^\d+$/.test(line));
    expect(numbers).toHaveLength(20_000);
    expect(numbers.at(-1)).toBe("20000");
    expect(trace.trimEnd().split("\n").at(-1)).toContain("Job succeeded");
  });

  test.each([
    ["exit 3", 3],
    ["sh -c 'exit 42'", 42],
    ["(exit 7)", 7],
    ["no-such-program-anywhere", 127],
    ["kill -9 $$", 137],
    ["false | true", 1],
  ])("the script %s fails with its own status", async (line, code) => {
    const { state, trace, update } = await run({ script: ["echo before", line, "echo AFTERWARDS"] });
    expect(state).toBe("failed");
    expect(trace).toContain("before");
    expect(trace).not.toMatch(/^AFTERWARDS/m);
    expect(trace.trimEnd().split("\n").at(-1)).toContain("Job failed");
    expect(trace).toContain(String(code));
    if (dialect === "gitlab") {
      expect(update.exitCode).toBe(code);
      expect(update.failureReason).toBe("script_failure");
    }
  });

  test("exit 0 in the middle is the author's success", async () => {
    const { state, trace } = await run({ script: ["echo one", "exit 0", "echo TWO"] });
    expect(state).toBe("success");
    expect(trace).not.toMatch(/^TWO/m);
  });

  test("after_script runs after success and failure, in a fresh shell, and its failure changes nothing", async () => {
    const failed = await run({
      script: ["export SEEN=yes", "cd /", "exit 5"],
      afterScript: ['echo "status=$CI_JOB_STATUS seen=$SEEN"', "pwd", "false"],
      variables: { GIT_STRATEGY: "none" },
    });
    expect(failed.state).toBe("failed");
    expect(failed.trace).toContain("status=failed seen=");
    expect(failed.trace).not.toContain("seen=yes");
    const good = await run({ script: ["true"], afterScript: "echo status=$CI_JOB_STATUS; false" });
    expect(good.state).toBe("success");
    expect(good.trace).toContain("status=success");
  });

  test("variables of any type and content reach the script byte for byte", async () => {
    const values: Record<string, string> = {
      SPACES: "  a b  ",
      QUOTES: `it's "quoted"`,
      LINES: "one\ntwo\n",
      BACKTICK: "`touch pwned`",
      SEMICOLON: "a;touch pwned",
      BACKSLASH: "c:\\dir\\",
      EMPTY: "",
      UNICODE: "é世界",
      DASH: "-n",
    };
    const { state, trace, job } = await run({
      script: [
        ...Object.keys(values).map(
          (name) => `printf '%s=' ${name}; printf %s "$${name}" | od -An -v -tx1 | tr -d ' \\n'; echo`,
        ),
        "test ! -e pwned",
      ],
      variables: values,
    });
    expect(state, trace).toBe("success");
    for (const [name, value] of Object.entries(values)) {
      expect(job.trace, name).toContain(`${name}=${Buffer.from(value).toString("hex")}\n`);
    }
  });

  test("numbers, booleans, null and odd names in variables are coerced or skipped, never lost", async () => {
    const payload = (body: Readonly<Record<string, unknown>>) => ({
      ...body,
      variables: [
        ...(Array.isArray(body.variables) ? body.variables : []),
        { key: "COUNT", value: 5, public: true },
        { key: "FLAG", value: true, public: true },
        { key: "NOTHING", value: null, public: true },
        { key: "BAD-NAME", value: "x", public: true },
        { key: "A;touch pwned", value: "x", public: true },
        { key: "LIST", value: [1, 2], public: true },
      ],
    });
    const { state, trace } = await run({
      script: ['echo "[$COUNT][$FLAG][$NOTHING][$LIST]"', "test ! -e pwned"],
      payload,
    });
    expect(state, trace).toBe("success");
    expect(trace).toContain("[5][true][][[1,2]]");
    expect(trace).toContain("BAD-NAME");
  });

  test("secrets are masked, in their disguises too, and secret values are not expanded", async () => {
    const secret = "hunter2-pa$word/secret";
    const { state, trace } = await run({
      script: [
        'echo "plain $DEPLOY_KEY"',
        'printf "half-%s" "$(printf %s "$DEPLOY_KEY" | head -c 9)"; sleep 0.3; printf "%s\\n" "$(printf %s "$DEPLOY_KEY" | tail -c +10)"',
        'printf %s "$DEPLOY_KEY" | base64',
        'test "$(printf %s "$DEPLOY_KEY" | wc -c)" -eq 22',
      ],
      variables: [{ key: "DEPLOY_KEY", value: secret, masked: true, public: false, raw: true }],
    });
    expect(state, trace).toBe("success");
    expect(trace).toContain("plain [MASKED]");
    expect(trace).not.toContain("hunter2");
    expect(trace).not.toContain(Buffer.from(secret).toString("base64").slice(4, 20));
  });

  test("CI_DEBUG_TRACE shows commands, not secrets", async () => {
    const { state, trace } = await run({
      script: ["echo traced"],
      variables: [
        { key: "CI_DEBUG_TRACE", value: "true" },
        { key: "TOKEN_VALUE", value: "very-secret-token-value", masked: true, public: false },
      ],
    });
    expect(state).toBe("success");
    expect(trace).toContain("+ echo traced");
    expect(trace).not.toContain("very-secret-token-value");
  });

  test.each([
    ["a branch", "main", "main", "on-main"],
    ["a branch with slashes", "feature/with/slashes", "topic", "on-topic"],
  ] as const)("%s is fetched and checked out", async (_, ref, key, file) => {
    const { state, trace } = await run({
      script: [`test -f ${file}`, "git log -1 --format=%H"],
      git: { repoUrl: upstream.url, ref, sha: upstream[key] },
    });
    expect(state, trace).toBe("success");
    expect(trace).toContain(upstream[key]);
  });

  test("a tag is fetched, also with a depth", async () => {
    const ref = dialect === "alloy" ? "refs/tags/v1.0" : "v1.0";
    const { state, trace } = await run({
      script: ["test -f on-tag", "git describe --tags --exact-match"],
      git: { repoUrl: upstream.url, ref, sha: upstream.tag, refType: "tag" },
      variables: { GIT_DEPTH: "1" },
    });
    expect(state, trace).toBe("success");
    expect(trace).toMatch(/^v1\.0$/m);
  });

  test("a pull request from a fork is checked out in a fresh working copy", async () => {
    const git =
      dialect === "alloy"
        ? { repoUrl: upstream.url, ref: "someone:patch-1", sha: upstream.pull }
        : {
            repoUrl: upstream.url,
            ref: "refs/pull/7/head",
            sha: upstream.pull,
            refspecs: ["+refs/pull/7/head:refs/pull/7/head"],
          };
    const { state, trace } = await run({ script: ["test -f on-pull"], git, projectId: 4711, projectName: "fresh" });
    expect(state, trace).toBe("success");
  });

  test("a fork's job changes nothing that the project's next one builds, neither by its files nor by its cache", async () => {
    const fork =
      dialect === "alloy"
        ? { ref: "someone:patch-1" }
        : { ref: "refs/pull/7/head", refspecs: ["+refs/pull/7/head:refs/pull/7/head", "+refs/heads/*:refs/heads/*"] };
    const common = {
      projectId: 4712,
      projectName: "forked",
      cache: [{ key: "deps", paths: ["deps/"], policy: "$HOW" }],
      variables: { HOW: "pull-push" },
    };
    const poison = [
      "right=$(git rev-parse origin/main:on-main 2>/dev/null || git rev-parse main:on-main)",
      "wrong=$(echo evil | git hash-object -w --stdin)",
      "at() { echo .git/objects/$(echo $1 | cut -c1-2)/$(echo $1 | cut -c3-); }",
      "chmod u+w $(at $right); cp $(at $wrong) $(at $right)",
      "mkdir deps; echo evil > deps/lib",
    ];
    const forked = await run({
      ...common,
      git: { repoUrl: upstream.url, sha: upstream.pull, ...fork },
      script: poison,
    });
    expect(forked.state, forked.trace).toBe("success");
    expect(forked.trace).toContain("Saved cache deps-fork-");
    const next = await run({
      ...common,
      git: { repoUrl: upstream.url, ref: "main", sha: upstream.main },
      script: ["cat on-main", "test ! -e deps"],
    });
    expect(next.state, next.trace).toBe("success");
    expect(next.trace).toMatch(/^on-main$/m);
  });

  test("the working copy is kept, cleaned, and survives what a job planted in it", async () => {
    const canary = join(site.dir, `canary-${dialect}`);
    const git = { repoUrl: upstream.url, ref: "main", sha: upstream.main };
    const common = { git, projectId: 99, projectName: "planted" };
    const first = await run({
      ...common,
      script: [
        "touch untracked-file",
        `printf '#!/bin/sh\\ntouch ${canary}\\n' > .git/hooks/post-checkout 2>/dev/null || { mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch ${canary}\\n' > .git/hooks/post-checkout; }`,
        "chmod +x .git/hooks/post-checkout",
        `git config core.fsmonitor 'touch ${canary}; false'`,
        `git config core.sshCommand 'touch ${canary}'`,
        "touch .git/index.lock .git/shallow.lock .git/HEAD.lock",
        "mkdir -p keep/deep; touch keep/deep/file; chmod -R a-w keep",
      ],
    });
    expect(first.state, first.trace).toBe("success");
    const second = await run({ ...common, script: ["test ! -e untracked-file", "test ! -e keep", "test -f on-main"] });
    expect(second.state, second.trace).toBe("success");
    expect(existsSync(canary)).toBe(false);
  });

  test("a ref that does not exist fails the job with git's own words", async () => {
    const { state, trace } = await run({
      script: ["echo NEVER"],
      git: { repoUrl: upstream.url, ref: "main", sha: "0123456789012345678901234567890123456789" },
    });
    expect(state).toBe("failed");
    expect(trace).not.toMatch(/^NEVER/m);
    expect(trace.trimEnd().split("\n").at(-1)).toContain("Job failed");
  });

  test.each([
    ["GIT_STRATEGY", "sideways"],
    ["GET_SOURCES_ATTEMPTS", "0"],
    ["GET_SOURCES_ATTEMPTS", "11"],
  ])("a bad %s=%s fails the job with a message that names it", async (name, value) => {
    const { state, trace } = await run({
      script: ["echo NEVER"],
      git: { repoUrl: upstream.url, ref: "main", sha: upstream.main },
      variables: { [name]: value },
    });
    expect(state).toBe("failed");
    expect(trace).toContain(name);
    expect(trace).toContain(value);
    expect(trace).not.toMatch(/^NEVER/m);
  });

  test("a job without a sha, or without a script, is answered with its reason", async () => {
    const noSha = await run({ script: ["echo NEVER"], git: { repoUrl: upstream.url, ref: "main", sha: "" } });
    expect(noSha.state).toBe("failed");
    expect(noSha.trace).toMatch(/sha/i);
    const noScript = await run({ payload: { steps: [] } });
    expect(noScript.state).toBe("failed");
    expect(noScript.trace).toMatch(/script|step/i);
  });

  test("a job that cannot be read, but whose id and token can, is reported as failed", async () => {
    const job = site.coordinator.enqueue({
      payload: (body) => JSON.stringify({ ...body, steps: 5, variables: { a: 1 }, git_info: "nonsense" }),
    });
    const update = await job.reported();
    expect(update.state).toBe("failed");
    expect(job.trace).toMatch(/\S/);
  });

  test("what a job leaves running is ended with it, and named", async () => {
    const file = join(site.dir, `left-${dialect}-pid`);
    const { state, trace } = await run({
      script: [
        `setsid sh -c 'echo $$ > ${file}; exec sleep 600' & while [ ! -s ${file} ]; do sleep 0.05; done; echo done`,
      ],
    });
    expect(state, trace).toBe("success");
    const pid = (await readFile(file, "utf8")).trim();
    expect(isAlive(pid)).toBe(false);
  });

  test("scripts see a short environment, no stdin and no foreign descriptors", async () => {
    const { state, trace } = await run({
      script: [
        "env | cut -d= -f1 | sort",
        "if read line; then exit 9; fi",
        "ls /proc/self/fd | sort -n | tail -n 1",
        "echo to-stderr > /dev/stderr",
      ],
    });
    expect(state, trace).toBe("success");
    expect(trace).toContain("to-stderr");
    expect(trace).not.toContain("NODE_OPTIONS");
    expect(trace).not.toContain("CONFIG_FILE");
  });

  test("artifacts reach the coordinator and the jobs that depend on them, in another working copy", async () => {
    const build = await run({
      name: "build",
      script: [
        "mkdir -p dist/sub",
        "seq 1 300000 > dist/sub/big",
        "echo '#!/bin/sh' > dist/run; chmod 755 dist/run",
        "ln -s run dist/link",
      ],
      artifacts: { paths: ["dist/"], name: "built-$CI_JOB_NAME" },
    });
    expect(build.state, build.trace).toBe("success");
    expect(build.job.artifacts.map(({ filename }) => filename)).toEqual(["built-build.zip"]);
    const file = join(site.dir, `built-${dialect}.zip`);
    await writeFile(file, (await build.job.artifacts[0]?.read()) ?? "");
    expect(execFileSync("unzip", ["-Z1", file], { encoding: "utf8" }).trim().split("\n")).toEqual([
      "dist/",
      "dist/link",
      "dist/run",
      "dist/sub/",
      "dist/sub/big",
    ]);
    const use = await run({
      script: ["dist/link", "test $(tail -n 1 dist/sub/big) = 300000"],
      dependencies: [build.job],
      projectId: 4712,
      projectName: "user",
    });
    expect(use.state, use.trace).toBe("success");
    expect(use.trace).toContain("Downloading artifacts of build");
  });

  test("a cache that one job saved is there for the next, in a clean working copy", async () => {
    const common = { projectId: 4713, projectName: "cached", cache: { key: "node", paths: ["node_modules/"] } };
    const git = { repoUrl: upstream.url, ref: "main", sha: upstream.main };
    const first = await run({ ...common, git, script: ["mkdir node_modules; echo cached > node_modules/file"] });
    expect(first.state, first.trace).toBe("success");
    const second = await run({ ...common, git, script: ["test $(cat node_modules/file) = cached"] });
    expect(second.state, second.trace).toBe("success");
  });

  test("a job over its time limit is stopped, its after_script runs", async () => {
    const job = site.coordinator.enqueue({
      script: ["echo started", "sleep 600"],
      afterScript: ["echo cleaning up"],
      payload: { runner_info: { timeout: 2 } },
    });
    const update = await job.reported();
    expect(update.state).toBe("failed");
    expect(job.trace).toContain("cleaning up");
    expect(job.trace.trimEnd().split("\n").at(-1)).toContain("took longer than");
  });

  test("a cancel ends the whole tree, even one that ignores SIGTERM, and is reported", async () => {
    const file = join(site.dir, `cancel-${dialect}-pid`);
    const job = site.coordinator.enqueue({
      script: [
        `trap 'echo got the signal' TERM; setsid sh -c 'trap "" TERM; echo $$ > ${file}; while :; do sleep 1; done' & while [ ! -s ${file} ]; do sleep 0.05; done; echo ready; while :; do sleep 0.2; done`,
      ],
      afterScript: ["echo after the cancel"],
    });
    await job.traceContains("ready");
    const pid = (await readFile(file, "utf8")).trim();
    job.cancel();
    await job.reported({ timeoutMs: 60_000 });
    expect(isAlive(pid)).toBe(false);
    expect(job.liveText).toContain("got the signal");
    expect(job.liveText + job.trace).toContain("after the cancel");
  });

  test("output beyond the limit is dropped with one notice, the verdict stays", async () => {
    const { state, trace, job } = await run({
      script: ["head -c 20000000 /dev/zero | tr '\\0' x | fold -w 80", "echo THE-END"],
    });
    expect(state).toBe("success");
    expect(job.traceSize).toBeLessThan(4.3e6);
    expect(trace).toMatch(/limit/i);
    expect(trace).toContain("Job succeeded");
  });

  test("NUL, Latin-1 and cut characters become text that a database takes", async () => {
    const { state, trace } = await run({ script: ["printf 'a\\000b\\377c\\303'"] });
    expect(state, trace).toBe("success");
    expect(trace).toContain("a\ufffdb\ufffdc\ufffd");
    expect(trace).not.toContain("\0");
  });

  test("a login profile that swallows the script does not turn the job green", async () => {
    const home = join(site.dir, `home-${dialect}`);
    await mkdir(home);
    await writeFile(join(home, ".bash_profile"), "cat > /dev/null\n");
    const other = await openSite({ dialect, run: { env: { HOME: home } } });
    try {
      const job = other.coordinator.enqueue({ script: ["echo NEVER"] });
      const update = await job.reported();
      expect(update.state).toBe("failed");
      expect(job.trace).toMatch(/profile/);
    } finally {
      await other.close();
    }
  });

  test("nothing of a finished job stays in the state directory but the journal's own files", async () => {
    await run({ script: ["true"] });
    await expect.poll(() => readdirSync(join(site.stateDir, "jobs")), { timeout: 20_000, interval: 100 }).toEqual([]);
  });
});
