import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import type { Job, Variable } from "../../src/job/job.ts";
import { createRepository, type TestRepository } from "./git-server.ts";
import { createStand, type Finished, jobWith, type RunOptions, step, variable } from "./stand.ts";

const stand = createStand({ shell: "sh" });
afterAll(() => stand.close());

let count = 0;
let repository: TestRepository;
beforeEach(() => {
  repository = createRepository(join(stand.dir, `remote-${count++}`));
});

interface Checkout {
  readonly sha?: string;
  readonly ref?: string;
  readonly variables?: readonly Variable[];
  readonly script?: readonly string[];
  readonly git?: Partial<Job["git"]>;
  readonly more?: Partial<Job>;
  readonly options?: RunOptions;
}

const show = ["echo HEAD=$(git rev-parse HEAD) FILES=$(echo *)", "git status --porcelain --ignored"];

/** A job on the repository; it has the same checkout as the job before it. */
function checkOut({
  sha,
  ref = "main",
  variables = [],
  script = show,
  git = {},
  more = {},
  options = {},
}: Checkout): Promise<Finished> {
  const base = jobWith();
  const job = jobWith({
    variables,
    steps: [step("script", script)],
    git: { ...base.git, repoUrl: repository.url, ref, sha: sha ?? repository.git("rev-parse", "HEAD"), ...git },
    ...more,
  });
  return stand.run(job, options);
}

const root = (): string => join(stand.buildsDir, "7e3b05c2/0", repository.dir.slice(1));
const strategy = (value: string): Variable => variable("GIT_STRATEGY", value);

describe("strategies", () => {
  test("fetch clones where nothing is and fetches where something is", async () => {
    const first = await checkOut({
      script: [...show, "echo dirty > file.txt; echo left > left; mkdir -p a/b; echo x > a/b/c"],
    });
    expect(first.outcome.result).toBe("success");
    expect(first.trace).toContain("Cloning repository...\nChecking out ");
    const second = await checkOut({ sha: repository.commit({ "two.txt": "2", ".gitignore": "ignored\n" }) });
    expect(second.trace).toContain("Fetching changes...\n");
    expect(second.trace).toContain(`HEAD=${repository.git("rev-parse", "HEAD")} FILES=file.txt two.txt\n`);
    expect(second.trace).not.toMatch(/^(?:\?\?|!!| M)/m);
  });

  test("clone begins with an empty directory", async () => {
    await checkOut({ script: ["git config --local user.name kept; touch .git/kept"] });
    const { trace } = await checkOut({
      variables: [strategy("clone")],
      script: ["ls .git; git config --local user.name || echo unnamed"],
    });
    expect(trace).toContain("Cloning repository...");
    expect(trace).toContain("\nunnamed\n");
    expect(trace).not.toContain("\nkept\n");
  });

  test("none leaves what is there, empty removes it", async () => {
    await checkOut({ script: ["echo left > left"] });
    const none = await checkOut({ variables: [strategy("none")], script: ["ls -A"] });
    expect(none.trace).toContain("\nleft\n");
    expect(none.trace).toContain("Skipping Git repository setup\n");
    const empty = await checkOut({ variables: [strategy("EMPTY")], script: ["echo FILES=$(ls -A)"] });
    expect(empty.trace).toContain("FILES=\n");
  });

  test("GIT_CHECKOUT=false fetches only", async () => {
    await checkOut({});
    const before = repository.git("rev-parse", "HEAD");
    const { trace, outcome } = await checkOut({
      sha: repository.commit({ "two.txt": "2" }),
      variables: [variable("GIT_CHECKOUT", "False")],
      script: ["echo HEAD=$(git rev-parse HEAD) MAIN=$(git rev-parse origin/main)"],
    });
    expect(outcome.result).toBe("success");
    expect(trace).toContain("Skipping Git checkout");
    expect(trace).toContain(`HEAD=${before} MAIN=${repository.git("rev-parse", "HEAD")}`);
  });

  test("GIT_CLEAN_FLAGS chooses what is removed", async () => {
    await checkOut({ script: ["echo 1 > cached; echo 2 > other; echo changed > file.txt"] });
    const some = await checkOut({ variables: [variable("GIT_CLEAN_FLAGS", "-ffdx -e cached")] });
    expect(some.trace).toContain("FILES=cached file.txt\n");
    await checkOut({ script: ["echo 2 > other"] });
    const kept = await checkOut({ variables: [variable("GIT_CLEAN_FLAGS", "none")] });
    expect(kept.trace).toContain("FILES=file.txt other\n");
  });

  test("hooks and the operator's scripts run around it, in one shell", async () => {
    const { trace, outcome } = await checkOut({
      script: ["true"],
      more: { hooks: [{ name: "post_get_sources_script", script: ["echo post=$(ls) $seen"] }] },
      variables: [variable("CI_COMMIT_REF_NAME", "main"), variable("DEPLOY", "x")],
      options: {
        runner: {
          preCloneScript: 'seen="pre $CI_COMMIT_REF_NAME $DEPLOY"; set +e',
          postGetSourcesScript: "echo operator last",
        },
      },
    });
    expect(outcome.result).toBe("success");
    const post = trace.indexOf("\npost=file.txt pre main x\n");
    expect(post).toBeGreaterThan(0);
    expect(trace.indexOf("\noperator last\n")).toBeGreaterThan(post);
  });

  test("a failing git ends the stage although a script before it switched errexit off", async () => {
    await rm(repository.dir, { recursive: true });
    const sha = "1".repeat(40);
    const { outcome } = await checkOut({ sha, options: { runner: { preCloneScript: "set +e" } } });
    expect(outcome).toMatchObject({ result: "failed", exitCode: 128 });
  });
});

describe("FF_USE_GIT_NATIVE_CLONE", () => {
  const native = [strategy("clone"), variable("FF_USE_GIT_NATIVE_CLONE", "true")];
  const show = [
    "echo HEAD=$(git rev-parse HEAD) FILES=$(echo *) COUNT=$(git rev-list --count HEAD)",
    "echo FILTER=$(git config remote.origin.partialclonefilter) FETCH=$(git config --get-all remote.origin.fetch)",
    "git fetch --quiet && git status --porcelain --ignored; ls .git/hooks || echo NO HOOKS",
  ];
  const cloned = (more: Checkout = {}) =>
    checkOut({
      script: show,
      ...more,
      variables: [...native, ...(more.variables ?? [])],
      more: { dialect: "gitlab", ...more.more },
    });

  test("has git clone bring the sources, with the job's options", async () => {
    repository.git("config", "uploadpack.allowFilter", "true");
    repository.git("config", "uploadpack.allowAnySHA1InWant", "true");
    const sha = repository.commit({ "b.txt": "two\n" });
    for (const depth of ["1", "0"]) {
      const variables = [variable("GIT_CLONE_EXTRA_FLAGS", "--filter=blob:none"), variable("GIT_DEPTH", depth)];
      const { outcome, trace } = await cloned({ variables });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain(`HEAD=${sha} FILES=b.txt file.txt COUNT=${depth === "1" ? 1 : 2}\n`);
      expect(trace).toContain("FILTER=blob:none FETCH=+refs/heads/*:refs/remotes/origin/*\n");
    }
    expect((await cloned()).trace).toMatch(/FILTER= FETCH=[\s\S]*NO HOOKS/);
    expect((await cloned({ variables: [strategy("fetch")] })).trace).toContain("Fetching changes...");
  });

  test("finds a commit that its branch has left behind, and a ref that only a newer git clones", async () => {
    const old = repository.git("rev-parse", "HEAD");
    const sha = repository.commit({ "b.txt": "two\n" });
    repository.git("update-ref", "refs/merge-requests/7/head", sha);
    repository.git("config", "uploadpack.allowAnySHA1InWant", "true");
    const { trace } = await cloned({ sha: old, variables: [variable("GIT_DEPTH", "1")] });
    expect(trace).toContain(`HEAD=${old} FILES=file.txt COUNT=1\n`);
    expect((await cloned({ sha, ref: "refs/merge-requests/7/head" })).trace).toContain(`HEAD=${sha} FILES=b.txt`);
    const gone = await cloned({ sha, ref: "no-such-branch" });
    expect(gone.trace).toContain(`HEAD=${sha} FILES=b.txt`);
  });

  test("leaves the author no way to other programs and settings by its options", async () => {
    for (const flag of [
      "-utouch",
      "--upload-pack=touch",
      "--u=touch",
      "--config=core.fsmonitor=x",
      "--co=core.fsmonitor=x",
      "--reference=/tmp",
      "--checkout",
      "-c",
      "--template=/tmp",
      "--separate-git-dir=/tmp/x",
    ]) {
      const { outcome, trace } = await cloned({ variables: [variable("GIT_CLONE_EXTRA_FLAGS", `--no-tags ${flag}`)] });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain(`GIT_CLONE_EXTRA_FLAGS is ${JSON.stringify(flag)}, expected is a list of options`);
    }
  });

  test("says why a repository cannot be had", async () => {
    const { outcome, trace } = await cloned({ git: { repoUrl: "file:///nonexistent/repository" } });
    expect(outcome).toMatchObject({ result: "failed" });
    expect(trace).toContain("/nonexistent/repository");
  });
});

describe("a template", () => {
  /** As `exec` makes it: a repository without settings. */
  function template(): string {
    const dir = join(stand.dir, `template-${count++}`);
    repository.git("clone", "--quiet", "--bare", "--no-hardlinks", ".", dir);
    for (const name of ["config", "description", "hooks"]) rmSync(join(dir, name), { recursive: true, force: true });
    return dir;
  }

  test("is copied, nothing is fetched, and each job has a working copy of its own", async () => {
    repository.commit({ ".gitattributes": "*.bin filter=lfs\n" });
    const sourcesTemplate = template();
    const before = readdirSync(sourcesTemplate, { recursive: true });
    const sha = repository.git("rev-parse", "HEAD");
    await rm(repository.dir, { recursive: true });
    const options = { runner: { sourcesTemplate } };
    const first = await checkOut({ sha, options, script: [...show, "git branch mine; echo left > left"] });
    expect(first.outcome.result).toBe("success");
    expect(first.trace).toMatch(new RegExp(`HEAD=${sha} FILES=.*file.txt\n`));
    // Nobody is there who has such files.
    expect(first.trace).not.toContain("LFS");
    const second = await checkOut({ sha, options, script: [...show, "git branch --list mine", "ls -A"] });
    expect(second.outcome.result).toBe("success");
    expect(second.trace).not.toMatch(/left|^ *mine/m);
    expect(readdirSync(sourcesTemplate, { recursive: true })).toEqual(before);
  });

  test("is nothing for a job that wants less than all, and a commit that it lacks is fetched", async () => {
    const options = { runner: { sourcesTemplate: template() } };
    const sha = repository.commit({ "two.txt": "2" });
    const newer = await checkOut({ options });
    expect(newer.trace).toContain(`HEAD=${sha} FILES=file.txt two.txt\n`);
    const count = ["git rev-list --count HEAD", ...show];
    const shallow = await checkOut({
      options,
      script: count,
      variables: [variable("GIT_DEPTH", "1"), strategy("clone")],
    });
    expect(shallow.trace).toMatch(new RegExp(`^1\n(?:.*\n)?HEAD=${sha}`, "m"));
    const kept = await checkOut({
      options,
      variables: [variable("GIT_CLEAN_FLAGS", "none")],
      script: ["echo x > new"],
    });
    expect(kept.trace).toContain("Fetching changes...");
  });
});

describe("refs", () => {
  test.each([
    "feature/a/b",
    "-f",
    "--upload-pack=touch${IFS}pwned",
    "a;touch${IFS}pwned",
    "$(touch${IFS}pwned)",
    "'x'",
    "`id`",
    "1",
    "ünï",
  ])("the branch %s is only a name", async (name) => {
    repository.git("update-ref", `refs/heads/${name}`, "HEAD");
    for (const depth of ["0", "1"]) {
      for (const prefix of ["", "refs/heads/"]) {
        const { outcome, trace } = await checkOut({
          ref: `${prefix}${name}`,
          variables: [variable("GIT_DEPTH", depth)],
        });
        expect(outcome).toEqual({ result: "success" });
        expect(trace).toContain(` as ${name}...`);
        expect(trace).not.toContain("pwned\n?");
      }
    }
    expect(existsSync(join(root(), "pwned"))).toBe(false);
  });

  test("a name that git does not allow leaves the commit", async () => {
    for (const ref of ["refs/heads/..", "a b", "x\u001b[2J", ""]) {
      const { outcome } = await checkOut({ ref, variables: [variable("GIT_DEPTH", ref === "" ? "0" : "2")] });
      expect(outcome).toEqual({ result: "success" });
    }
  });

  test("a tag is told by its prefix, also shallow", async () => {
    repository.git("tag", "-a", "v1", "-m", "first");
    const sha = repository.git("rev-parse", "HEAD");
    repository.commit({ "two.txt": "2" });
    for (const depth of ["0", "1"]) {
      const { outcome, trace } = await checkOut({
        ref: "refs/tags/v1",
        sha,
        variables: [strategy("clone"), variable("GIT_DEPTH", depth)],
        script: ["echo DESCRIBED=$(git describe)"],
      });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain("DESCRIBED=v1\n");
    }
  });

  test("a pull request of a fork is found on the first try, beside a branch called 1", async () => {
    const base = repository.git("rev-parse", "HEAD");
    const sha = repository.commit({ "fork.txt": "f" });
    repository.git("update-ref", "refs/pull/1/head", sha);
    repository.git("reset", "--hard", base);
    repository.git("branch", "1");
    for (const depth of ["0", "3"]) {
      const { outcome, trace } = await checkOut({
        ref: "mallory:main",
        sha,
        variables: [strategy("clone"), variable("GIT_DEPTH", depth)],
      });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain("FILES=file.txt fork.txt");
    }
  });

  test("a branch that was moved away, or is gone, still gives its old commit", async () => {
    const base = repository.git("rev-parse", "HEAD");
    const sha = repository.commit({ "pushed.txt": "p" });
    repository.git("reset", "--hard", base);
    repository.commit({ "forced.txt": "f" });
    for (const depth of ["0", "1"]) {
      const moved = await checkOut({ sha, variables: [strategy("clone"), variable("GIT_DEPTH", depth)] });
      expect(moved.outcome).toEqual({ result: "success" });
      const gone = await checkOut({ ref: "gone", sha, variables: [strategy("clone"), variable("GIT_DEPTH", depth)] });
      expect(gone.outcome).toEqual({ result: "success" });
    }
  });

  test("GitLab's refspecs are fetched as they are", async () => {
    const sha = repository.git("rev-parse", "HEAD");
    repository.git("update-ref", "refs/merge-requests/7/head", sha);
    const refspecs = [
      `+${sha}:refs/pipelines/9`,
      "+refs/merge-requests/7/head:refs/remotes/origin/merge-requests/7/head",
      "--upload-pack=x",
    ];
    for (const depth of [0, 1]) {
      const { outcome, trace } = await checkOut({
        ref: "refs/merge-requests/7/head",
        git: { refspecs, depth },
        more: { dialect: "gitlab" },
        script: ["git for-each-ref --format='REF=%(refname)'"],
      });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain("REF=refs/pipelines/9\n");
      expect(trace).toContain("REF=refs/remotes/origin/merge-requests/7/head\n");
    }
  });

  test("GIT_DEPTH makes the history short, and without it the history is whole again", async () => {
    for (let i = 0; i < 5; i++) repository.commit({ "file.txt": `${i}\n` });
    const script = ["echo COMMITS=$(git rev-list --count HEAD)"];
    const shallow = await checkOut({ variables: [variable("GIT_DEPTH", "2")], script });
    expect(shallow.trace).toContain("COMMITS=2\n");
    expect((await checkOut({ script })).trace).toContain("COMMITS=6\n");
    const odd = await checkOut({ variables: [variable("GIT_DEPTH", "--upload-pack=touch pwned")], script });
    expect(odd.trace).toContain("COMMITS=6\n");
    expect(odd.trace).toContain("WARNING: GIT_DEPTH is ");
  });

  test("a repository with SHA-256 works", async () => {
    repository = createRepository(join(stand.dir, `sha256-${count++}`), { objectFormat: "sha256" });
    for (let i = 0; i < 2; i++) {
      const { outcome, trace } = await checkOut({
        sha: repository.commit({ "n.txt": `${i}` }),
        git: { objectFormat: "sha256" },
      });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain(`HEAD=${repository.git("rev-parse", "HEAD")}`);
    }
  });

  test.each(["sha1", "sha256"] as const)(
    "a host whose default is the other format than %s fetches as ever",
    async (format) => {
      if (format === "sha256")
        repository = createRepository(join(stand.dir, `other-${count}`), { objectFormat: format });
      const other = format === "sha1" ? "sha256" : "sha1";
      const environment = [
        ["GIT_DEFAULT_HASH", other],
        ["GIT_DEFAULT_REF_FORMAT", "reftable"],
      ].map(([key = "", value = ""]) => ({ key, value }));
      for (let run = 0; run < 2; run++) {
        const { outcome, trace } = await checkOut({
          git: { objectFormat: format },
          options: { runner: { environment } },
          script: ["echo FORMAT=$(git rev-parse --show-object-format) $(cat file.txt)"],
        });
        expect(outcome).toEqual({ result: "success" });
        expect(trace).toContain(`FORMAT=${format} one\n`);
      }
    },
  );

  test("a commit that does not exist is the job's fault, and the message names it", async () => {
    const sha = "1234567890".repeat(4);
    for (const depth of ["0", "1"]) {
      const { outcome, trace } = await checkOut({ sha, variables: [variable("GIT_DEPTH", depth)] });
      expect(outcome).toMatchObject({ result: "failed", reason: "script_failure", exitCode: 128 });
      expect(trace).toContain(sha);
    }
  });
});

describe("addresses", () => {
  test.each([
    "ext::sh -c touch% pwned",
    "--upload-pack=touch pwned",
    "-u",
    "../elsewhere",
    "ftp://example.invalid/x.git",
    "ssh://-oProxyCommand=touch/x",
    "https://",
    "",
  ])("%j is refused with a message", async (repoUrl) => {
    const { outcome, trace } = await checkOut({ git: { repoUrl } });
    expect(outcome).toMatchObject({ result: "failed", reason: "script_failure" });
    expect(trace).toMatch(/ERROR: Job failed: The (?:repository's address|coordinator named no repository)/);
  });

  test("a host that cannot be reached is not the job's fault", async () => {
    const { outcome } = await checkOut({ git: { repoUrl: "http://127.0.0.1:1/x.git" } });
    expect(outcome).toMatchObject({ result: "failed", reason: "runner_system_failure", exitCode: 128 });
  });

  test("attempts are made as often as the job says", async () => {
    const { trace } = await checkOut({
      git: { repoUrl: "http://127.0.0.1:1/x.git" },
      variables: [variable("GET_SOURCES_ATTEMPTS", "3")],
    });
    expect(trace.match(/Cloning repository|Fetching changes/g)).toHaveLength(3);
    expect(trace).toContain("WARNING: Attempt 2 of 3 failed: getting the sources failed: exit status 128");
  });
});

describe("what an earlier job left", () => {
  const canary = (): string => join(stand.dir, `canary-${count}`);

  /**
   * Plants something in the working copy, moves the branch on, and checks that the next job works and runs nothing of
   * it.
   */
  async function survives(plant: readonly string[], more: Checkout = {}): Promise<Finished> {
    const planted = await checkOut({ script: plant });
    expect(planted.outcome).toEqual({ result: "success" });
    const sha = repository.commit({ "two.txt": "2", "dir/three.txt": "3" });
    const finished = await checkOut({ sha, ...more });
    expect(finished.outcome).toEqual({ result: "success" });
    expect(finished.trace).toContain(`HEAD=${sha} FILES=dir file.txt two.txt\n`);
    expect(existsSync(canary())).toBe(false);
    return finished;
  }

  test("settings, hooks, filters and helpers run nothing", async () => {
    const evil = `touch ${canary()}`;
    await survives([
      `mkdir -p .git/hooks; for h in post-checkout post-merge reference-transaction pre-auto-gc post-index-change fsmonitor-watchman; do printf '#!/bin/sh\\n${evil}\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done`,
      `git config core.fsmonitor '${evil}'; git config core.hooksPath .git/hooks; git config core.sshCommand '${evil}'; git config core.gitProxy '${evil}'`,
      `git config credential.helper '!${evil}'; git config core.askPass '${evil}'; git config core.pager '${evil}'; git config core.editor '${evil}'`,
      `git config filter.evil.smudge '${evil}; cat'; git config filter.evil.clean '${evil}; cat'; mkdir -p .git/info; echo '* filter=evil' > .git/info/attributes`,
      `git config remote.origin.uploadpack '${evil};git-upload-pack'; git config remote.origin.vcs evil; git config url.ext::x.insteadOf file://`,
      `git config alias.fetch '!${evil}'; git config diff.external '${evil}'; git config gc.auto 1; git config gc.recentObjectsHook '${evil}'`,
      `printf '[core]\\n\\tfsmonitor = ${evil}\\n' > .git/config.worktree; git config extensions.worktreeConfig true`,
      `git config include.path ${stand.dir}/nothing; git config core.worktree /tmp; git config core.bare true`,
    ]);
  });

  test("locks everywhere do not stop git", async () => {
    await survives([
      "touch .git/index.lock .git/HEAD.lock .git/shallow.lock .git/config.lock .git/packed-refs.lock .git/FETCH_HEAD.lock",
      "touch .git/refs/remotes/origin/main.lock .git/objects/maintenance.lock; mkdir -p .git/logs; touch .git/logs/HEAD.lock .git/gc.pid",
    ]);
    await checkOut({ variables: [variable("GIT_DEPTH", "1")], script: ["touch .git/shallow.lock"] });
    expect((await checkOut({ variables: [variable("GIT_DEPTH", "1")] })).outcome).toEqual({ result: "success" });
  });

  test.each([
    ["a broken index", "echo garbage > .git/index"],
    ["a broken HEAD", "echo garbage > .git/HEAD"],
    ["no HEAD", "rm .git/HEAD"],
    ["broken refs", "echo garbage > .git/refs/remotes/origin/main; echo garbage > .git/packed-refs"],
    ["empty objects", "find .git/objects -type f | while read f; do chmod u+w $f; : > $f; done"],
    ["no objects", "rm -rf .git/objects"],
    ["half a clone", "rm -rf .git/refs .git/index"],
    [".git as a file", "mv .git ../moved; echo gitdir: ../moved > .git"],
    [".git as a link", "mv .git ../linked; ln -s ../linked .git"],
    [".git as a FIFO", "rm -rf .git; mkfifo .git"],
    ["HEAD as a FIFO", "rm .git/HEAD; mkfifo .git/HEAD"],
    ["config as a FIFO", "rm .git/config; mkfifo .git/config"],
    ["config as a directory", "rm .git/config; mkdir -p .git/config/x"],
    ["the objects elsewhere", "mv .git/objects ../objects; ln -s $PWD/../objects .git/objects"],
    ["another common directory", "mkdir ../common; echo ../../common > .git/commondir"],
    ["alternates that are gone", "mkdir -p .git/objects/info; echo /nonexistent > .git/objects/info/alternates"],
    [
      "a branch where a directory has to be",
      "git update-ref refs/remotes/origin/main/x HEAD 2>/dev/null || { git update-ref -d refs/remotes/origin/main; git update-ref refs/remotes/origin/main/x HEAD; }",
    ],
    ["a commit graph that lies", "mkdir -p .git/objects/info; echo CGPH > .git/objects/info/commit-graph"],
    [
      "an unfinished merge",
      "echo 1 > .git/MERGE_HEAD; echo x > .git/MERGE_MSG; mkdir -p .git/rebase-merge; touch .git/BISECT_LOG",
    ],
    ["a file where a directory has to be", "echo x > dir; mkdir two.txt; echo y > two.txt/z"],
    ["a link where a directory has to be", "mkdir ../outside; ln -s ../outside dir"],
    ["a repository of its own", "git init -q nested; (cd nested; touch x; git add x)"],
    [
      "directories without permissions",
      "mkdir -p closed/deep; touch closed/deep/f; chmod -R 000 closed; chmod 000 file.txt",
    ],
    ["the whole tree without permissions", "chmod -R 000 . 2>/dev/null; true"],
    [
      "a changed file that git is told not to look at",
      "git update-index --skip-worktree file.txt; echo evil > file.txt",
    ],
    [
      "a changed file that git is told to believe in",
      "git update-index --assume-unchanged file.txt; echo evil > file.txt",
    ],
    [
      "replaced objects",
      "git config user.name x; git config user.email x; echo evil > file.txt; b=$(git hash-object -w file.txt); git replace $(git rev-parse HEAD:file.txt) $b; git pack-refs --all",
    ],
    ["a sparse checkout", "git sparse-checkout set --cone dir 2>/dev/null; true"],
    ["another remote", "git remote set-url origin file:///nonexistent; git remote add evil file:///nonexistent2"],
  ])("%s", async (_what, plant) => {
    const { trace } = await survives([plant], { script: [...show, "echo CONTENT=$(cat file.txt)"] });
    expect(trace).toContain("CONTENT=one\n");
  });

  /** A job's shell text that gives the object with the name `id` the content of another one, wherever git keeps it. */
  const forge = (id: string, content: string, how: "loose" | "packed"): string[] => [
    `id=$(git rev-parse ${id}) other=$(${content}); at() { echo .git/objects/$(echo $1 | cut -c1-2)/$(echo $1 | cut -c3-); }`,
    "for p in .git/objects/pack/*.pack; do [ -e $p ] || continue; mv $p . && git unpack-objects -q < $(basename $p); rm -f $(basename $p); done; rm -f .git/objects/pack/*",
    "chmod u+w $(at $id) && cp $(at $other) $(at $id)",
    how === "packed" ? "git -c core.checkstat=minimal repack -q -a -d && [ ! -e $(at $id) ]" : "[ -e $(at $id) ]",
  ];
  const evilBlob = "echo evil | git hash-object -w --stdin";
  const evilTree = `printf '100644 blob %s\\tfile.txt\\n' $(${evilBlob}) | git mktree`;
  const content = 'echo "CONTENT=$(cat file.txt two.txt dir/three.txt | tr "\\n" .)"';

  describe.each(["loose", "packed"] as const)("objects that are not what their names say, %s", (how) => {
    test.each([
      ["a file of this commit", "HEAD:file.txt", evilBlob, "echo evil > file.txt"],
      ["a file of the next commit", "origin/main:two.txt", evilBlob, "true"],
      ["a file of the next commit, and the others are away", "origin/main:two.txt", evilBlob, "rm file.txt"],
      ["a directory of the next commit", "origin/main:dir", evilTree, "true"],
      ["the tree of the next commit", "origin/main^{tree}", evilTree, "true"],
      [
        "the next commit",
        "origin/main",
        `git -c user.name=x -c user.email=x commit-tree -m evil $(${evilTree}) < /dev/null`,
        "true",
      ],
    ])("%s", async (_what, id, other, and) => {
      const first = repository.git("rev-parse", "HEAD");
      const sha = repository.commit({ "two.txt": "two\n", "dir/three.txt": "three\n" });
      const planted = await checkOut({ sha: first, script: [...forge(id, other, how), and] });
      expect(planted.outcome).toEqual({ result: "success" });
      const { outcome, trace } = await checkOut({ sha, script: [content, "git fsck --full && echo SOUND"] });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain("The working copy of an earlier job cannot be used; starting anew");
      expect(trace).toContain("CONTENT=one.two.three.\n");
      expect(trace).toContain("SOUND\n");
    });
  });

  test.each(["-ffdx", "none", "-ffd -e kept"])(
    "an index that gives a changed file the id and the times of the right one, cleaned with %s",
    async (flags) => {
      const sha = repository.commit({ "two.txt": "two\n", "dir/three.txt": "three\n" });
      const patch = join(stand.dir, `patch-${count}.pl`);
      writeFileSync(
        patch,
        `use Digest::SHA qw(sha1); open F, '<:raw', '.git/index'; local $/; $_ = <F>; substr($_, -20) = '';
        my ($e, $r) = map { pack 'H*', $_ } @ARGV; s/\\Q$e\\E/$r/ or die; open F, '>:raw', '.git/index'; print F $_, sha1($_)`,
      );
      const planted = await checkOut({
        script: [
          "right=$(git rev-parse HEAD:file.txt); printf 'bad\\n' > file.txt; touch -d @1000000000 file.txt; git add file.txt",
          `perl ${patch} $(git rev-parse :file.txt) $right`,
          "git status --porcelain | grep file.txt && exit 1; cat file.txt",
        ],
      });
      expect(planted.outcome).toEqual({ result: "success" });
      const { outcome, trace } = await checkOut({
        sha,
        variables: [variable("GIT_CLEAN_FLAGS", flags)],
        script: [content],
      });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain("CONTENT=one.two.three.\n");
      expect(trace).not.toContain("starting anew");
    },
  );

  test("files that are as they should be keep their times, and what the new commit has no more goes", async () => {
    repository.commit({ "two.txt": "two\n", "old.txt": "old\n" });
    await checkOut({ script: ["touch -d @1000000000 file.txt two.txt old.txt"] });
    repository.git("rm", "-q", "old.txt");
    const sha = repository.commit({ "two.txt": "changed\n" });
    for (const flags of ["none", "-ffdx"]) {
      const { trace } = await checkOut({
        sha,
        variables: [variable("GIT_CLEAN_FLAGS", flags)],
        script: [...show, "echo TIME=$(stat -c %Y file.txt) $([ $(stat -c %Y two.txt) = 1000000000 ] || echo new)"],
      });
      expect(trace).toContain("FILES=file.txt two.txt\n");
      expect(trace).toContain("TIME=1000000000 new\n");
      expect(trace).not.toContain("starting anew");
    }
  });

  test("files whose line ends git does not give back are no forgery", async () => {
    repository.commit({ "crlf.txt": "a\r\nb\r\n" });
    const sha = repository.commit({ ".gitattributes": "" });
    // The committed line ends are not those that the attributes demand.
    repository.git("config", "core.attributesFile", "/dev/null");
    writeFileSync(join(repository.dir, ".gitattributes"), "*.txt text eol=crlf\n");
    repository.git("add", ".gitattributes");
    repository.git("commit", "-q", "-m", "attributes");
    for (let run = 0; run < 3; run++) {
      const { outcome, trace } = await checkOut({ script: ["od -c crlf.txt | head -1"] });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).not.toContain("starting anew");
      expect(trace).toContain("a  \\r  \\n   b  \\r  \\n");
    }
    expect(sha).not.toBe("");
  });

  describe("submodules", () => {
    const submodules = [variable("GIT_SUBMODULE_STRATEGY", "normal"), variable("GIT_ALLOW_PROTOCOL", "file")];
    const allow = { preCloneScript: "export GIT_ALLOW_PROTOCOL=file" };
    const git = (dir: string, plant: string): string => `cd ${dir} && { ${plant}; }`;

    test.each([
      ["a file", "HEAD:file.txt", evilBlob],
      ["the tree", "HEAD^{tree}", evilTree],
    ])("%s of one that is not what its name says", async (_what, id, other) => {
      const library = createRepository(join(stand.dir, `library-${count}`));
      repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library.url, "lib");
      const sha = repository.commit({});
      const run = { sha, variables: submodules, options: { runner: allow } };
      const planted = await checkOut({
        ...run,
        script: [
          git("lib", forge(id, other, "loose").join("; ").replaceAll(".git/objects", "../.git/modules/lib/objects")),
        ],
      });
      expect(planted.outcome).toEqual({ result: "success" });
      const { outcome, trace } = await checkOut({ ...run, script: ["echo LIB=$(cat lib/file.txt)"] });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain("LIB=one\n");
    });
  });

  test("jobs of forks, of protected refs and of others find nothing of one another, nor a fork's of another fork", async () => {
    const sha = repository.git("rev-parse", "HEAD");
    repository.git("update-ref", "refs/pull/1/head", sha);
    const kinds: Checkout[] = [
      { ref: "main" },
      { ref: "main", git: { protected: true } },
      { ref: "stranger:main" },
      { ref: "friend:main" },
      { ref: "friend:main", variables: [strategy("none")] },
    ];
    const find = "echo FOUND=$(ls -A .git/left left 2>/dev/null | tr '\\n' ' ') AT=$CI_PROJECT_DIR";
    const places: (string | undefined)[] = [];
    for (const kind of kinds) {
      const { outcome, trace } = await checkOut({
        sha,
        ...kind,
        script: [find, "touch left; touch .git/left || true"],
      });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain("\nFOUND= AT=");
      places.push(/AT=.*7e3b05c2\/([^/]+)/.exec(trace)?.[1]);
    }
    expect(places).toEqual(["0", "0-protected", "0-fork", "0-fork", "0-fork"]);
    expect((await checkOut({ sha, script: [find] })).trace).toContain("FOUND=.git/left AT=");
  });

  test("the checkout replaced by a link is not followed", async () => {
    const outside = join(stand.dir, `outside-${count}`);
    mkdirSync(outside);
    writeFileSync(join(outside, "precious"), "keep");
    await checkOut({});
    await rm(root(), { recursive: true });
    symlinkSync(outside, root());
    const { outcome } = await checkOut({});
    expect(outcome).toEqual({ result: "success" });
    expect(readdirSync(outside)).toEqual(["precious"]);
  });

  test("a network that is down does not cost the working copy", async () => {
    await checkOut({ script: ["touch .git/still-here"] });
    await checkOut({ git: { repoUrl: "http://127.0.0.1:1/x.git" } });
    const moved = `${repository.dir}-away`;
    repository.git("status");
    const { renameSync } = await import("node:fs");
    renameSync(repository.dir, moved);
    await checkOut({ sha: "2".repeat(40) });
    renameSync(moved, repository.dir);
    expect((await checkOut({})).outcome).toEqual({ result: "success" });
  });

  test("a directory of another repository further up is left alone", async () => {
    repository = createRepository(join(stand.dir, `group-${count}`, "inner"));
    await checkOut({});
    const above = join(root(), "..");
    const outer = createRepository(join(above, "."));
    await rm(join(root(), ".git", "HEAD"));
    const head = outer.git("rev-parse", "HEAD");
    expect((await checkOut({})).outcome).toEqual({ result: "success" });
    expect(outer.git("rev-parse", "HEAD")).toBe(head);
    expect(readFileSync(join(above, "file.txt"), "utf8")).toBe("one\n");
    await rm(join(above, ".git"), { recursive: true });
  });
});

test("variables of the job do not reach the runner's git", async () => {
  const canary = join(stand.dir, "variable-canary");
  const evil = `touch ${canary}`;
  const keys: Record<string, string> = {
    PATH: "/nonexistent",
    HOME: "/nonexistent",
    IFS: "/",
    BASH_ENV: "/nonexistent",
    ENV: "/nonexistent",
    LD_PRELOAD: "/nonexistent.so",
    PS4: `$(${evil})`,
    CDPATH: "/tmp",
    GIT_DIR: "/nonexistent",
    GIT_WORK_TREE: "/tmp",
    GIT_INDEX_FILE: "/nonexistent/index",
    GIT_OBJECT_DIRECTORY: "/nonexistent",
    GIT_CONFIG_GLOBAL: "/nonexistent",
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "core.fsmonitor",
    GIT_CONFIG_VALUE_0: evil,
    GIT_CONFIG_PARAMETERS: `'core.fsmonitor=${evil}'`,
    GIT_SSH_COMMAND: evil,
    GIT_EXEC_PATH: "/nonexistent",
    GIT_TEMPLATE_DIR: "/nonexistent",
    GIT_EXTERNAL_DIFF: evil,
    GIT_TRACE: join(stand.dir, "trace-file"),
    GIT_ALLOW_PROTOCOL: "none",
    GIT_NAMESPACE: "evil",
    XDG_CONFIG_HOME: "/nonexistent",
    SSL_CERT_FILE: "/nonexistent",
    TMPDIR: "/nonexistent",
    POSIXLY_CORRECT: "1",
  };
  const { outcome, trace } = await checkOut({
    variables: Object.entries(keys).map(([key, value]) => variable(key, value, { raw: true })),
    script: ["true"],
  });
  expect(trace).toContain("Checking out ");
  expect(trace).toContain("$ true");
  expect(outcome.result).toBe("success");
  expect(existsSync(canary)).toBe(false);
  expect(existsSync(join(stand.dir, "trace-file"))).toBe(false);
});
