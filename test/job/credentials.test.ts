import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Job, Variable } from "../../src/job/job.ts";
import { sshdMissing, startSshd } from "../support/sshd.ts";
import {
  createRepository,
  type GitServer,
  type GitServerOptions,
  git,
  selfSigned,
  serveGit,
  type TestRepository,
} from "./git-server.ts";
import { createStand, jobWith, type RunOptions, step, variable } from "./stand.ts";

const stand = createStand({ shell: "sh" });
const password = "s3cr3t/pässwörd+%41'\"$(id)";
const user = "x-access-token";
const open: GitServer[] = [];
afterAll(() => stand.close());

let count = 0;
let root: string;
let repository: TestRepository;
beforeEach(async () => {
  root = join(stand.dir, `served-${count++}`);
  await mkdir(root);
  repository = createRepository(join(root, `widget-${count}`));
});
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
});

async function serve(options: GitServerOptions = {}): Promise<GitServer> {
  const server = await serveGit(root, { credentials: `${user}:${password}`, ...options });
  open.push(server);
  return server;
}

function addressOf(server: GitServer, path = `/widget-${count}`): string {
  const url = new URL(server.origin + path);
  url.username = user;
  return url.href.replace("@", `:${encodeURIComponent(password)}@`);
}

function fetchFrom(
  repoUrl: string,
  script: readonly string[],
  more: Partial<Job> = {},
  options: RunOptions = {},
): ReturnType<typeof stand.run> {
  const sha = repository.git("rev-parse", "HEAD");
  const base = jobWith();
  return stand.run(
    jobWith({
      variables: [],
      steps: [step("script", script)],
      git: { ...base.git, repoUrl, ref: "refs/heads/main", sha },
      ...more,
    }),
    options,
  );
}

const basic = `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

/** All files below the builds directory that hold `text`. */
function filesWith(text: string): string[] {
  return readdirSync(stand.buildsDir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => readFileSync(path).includes(text));
}

test("git says that it is the runner's, and that of the script what it is", async () => {
  const server = await serve();
  const { outcome } = await fetchFrom(addressOf(server), ["git ls-remote -q origin"]);
  expect(outcome).toEqual({ result: "success" });
  const agents = server.requests.map(({ headers }) => headers["user-agent"] ?? "");
  expect(new Set(agents)).toEqual(new Set(["alloy-runner 2.0.0 linux/amd64", expect.stringMatching(/^git\//)]));
});

test("GitLab's server hears which request for a job the runner's git belongs to, and no other host does", async () => {
  const other = await serve();
  const server = await serve();
  const own = `git -c include.path="$RUNNER_TEMP_PROJECT_DIR/.git-access/runner.config" ls-remote -q`;
  const script = [
    `${own} ${other.origin.replace("127.0.0.1", "localhost")}/widget-${count} || true`,
    "git ls-remote -q origin",
  ];
  const more = { dialect: "gitlab", correlationId: "01HXYZ-of-the-request" } as const;
  const seen = (of: GitServer) => new Set(of.requests.map(({ headers }) => headers["x-gitaly-correlation-id"]));
  const { outcome } = await fetchFrom(addressOf(server), script, more);
  expect(outcome).toEqual({ result: "success" });
  // The author's own git says nothing of it.
  expect(seen(server)).toEqual(new Set(["01HXYZ-of-the-request", undefined]));
  expect(seen(other)).toEqual(new Set([undefined]));
  const quiet = await serve();
  const off = { featureFlags: { FF_USE_GITALY_CORRELATION_ID: false } };
  await fetchFrom(addressOf(quiet), ["true"], more, { runner: off });
  expect(seen(quiet)).toEqual(new Set([undefined]));
});

test("FF_USE_GIT_PROACTIVE_AUTH has git bring the credentials at once, to the repository's host", async () => {
  const server = await serve();
  const show = [
    `git config --file "$RUNNER_TEMP_PROJECT_DIR/.git-access/runner.config" --get-regexp '^http.*proactiveauth' || echo NONE`,
  ];
  const more = { dialect: "gitlab", variables: [variable("FF_USE_GIT_PROACTIVE_AUTH", "true")] } as const;
  expect((await fetchFrom(addressOf(server), show, more)).trace).toContain(
    `\nhttp.${server.origin}.proactiveauth basic\n`,
  );
  expect((await fetchFrom(addressOf(server), show, { dialect: "gitlab" })).trace).toContain("\nNONE\n");
});

describe("credentials of the repository's address", () => {
  test("open it for the runner and the script, and are in no file afterwards", async () => {
    const server = await serve();
    const { outcome, trace } = await fetchFrom(addressOf(server), [
      "git fetch origin && echo FETCHED",
      "echo REMOTE=$(git remote get-url origin)",
      "grep -r -l s3cr3t . || echo NO FILE; git config -l | grep s3cr3t || echo NO SETTING",
    ]);
    expect(outcome).toEqual({ result: "success" });
    expect(trace).toContain("\nFETCHED\n");
    expect(trace).toContain(`REMOTE=${server.origin}/widget-${count}\n`);
    expect(trace).toContain("\nNO FILE\nNO SETTING\n");
    expect(server.requests.some(({ authorization }) => authorization === basic)).toBe(true);
    expect(filesWith("s3cr3t")).toEqual([]);
  });

  test("are in no argument and no environment of any process", async () => {
    const seen = new Set<string>();
    const server = await serve();
    let running = true;
    const sampling = (async () => {
      while (running) {
        for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
          for (const file of ["cmdline", "environ"]) {
            if (Number(pid) === process.pid) continue;
            try {
              const text = readFileSync(`/proc/${pid}/${file}`, "latin1");
              if (text.includes("s3cr3t")) seen.add(`${file}: ${text.replaceAll("\0", " ")}`);
            } catch {
              // The process has ended.
            }
          }
        }
        await wait(1);
      }
    })();
    const { outcome } = await fetchFrom(addressOf(server), ["true"]);
    running = false;
    await sampling;
    expect(outcome.result).toBe("success");
    expect([...seen]).toEqual([]);
  });

  test("do not show in the trace, whatever the script prints", async () => {
    const server = await serve();
    const { trace } = await fetchFrom(addressOf(server), [
      `cat "$RUNNER_TEMP_PROJECT_DIR"/.git-access/*`,
      "GIT_CURL_VERBOSE=1 git fetch 2>&1",
    ]);
    expect(trace).toContain("[MASKED]");
    expect(trace).not.toContain("s3cr3t");
    expect(trace).not.toContain(basic.slice(6));
  });

  test("go to no other host along a redirect", async () => {
    const thief = await serve({
      intercept: (_request, response) => Boolean(response.writeHead(401, { "www-authenticate": "Basic" }).end()),
    });
    const server = await serve({
      intercept(request, response) {
        if (request.headers.authorization !== basic) return false;
        response.writeHead(302, { location: `${thief.origin.replace("127.0.0.1", "localhost")}${request.url}` }).end();
        return true;
      },
    });
    const { outcome } = await fetchFrom(addressOf(server), ["true"]);
    expect(outcome).toMatchObject({ result: "failed" });
    expect(thief.requests.length).toBeGreaterThan(0);
    expect(thief.requests.filter(({ authorization }) => authorization !== undefined)).toEqual([]);
  });

  test("that are wrong are the job's fault, said once and without a question", async () => {
    const server = await serve({ credentials: "somebody:else" });
    const { outcome, trace } = await fetchFrom(addressOf(server), ["true"]);
    expect(outcome).toMatchObject({ result: "failed", reason: "script_failure", exitCode: 128 });
    expect(trace).toContain("the repository's host refused access");
  });

  test("may be a user name alone", async () => {
    const server = await serve({ credentials: "token-as-a-user:" });
    const { outcome } = await fetchFrom(`${server.origin.replace("://", "://token-as-a-user@")}/widget-${count}`, [
      "true",
    ]);
    expect(outcome).toEqual({ result: "success" });
  });

  test("are not learnt by a helper of the account", async () => {
    const server = await serve();
    const store = join(stand.dir, `learnt-${count}`);
    const { trace } = await fetchFrom(
      addressOf(server),
      [
        `export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=credential.helper GIT_CONFIG_VALUE_0='store --file=${store}'`,
        "true",
      ],
      {},
      {
        runner: {
          environment: [
            { key: "GIT_CONFIG_COUNT", value: "1" },
            { key: "GIT_CONFIG_KEY_0", value: "credential.helper" },
            { key: "GIT_CONFIG_VALUE_0", value: `store --file=${store}` },
          ],
        },
      },
    );
    expect(trace).toContain("Job succeeded");
    expect(() => readFileSync(store)).toThrow("ENOENT");
  });

  test("of clone_url: AlloyCI's stay, GitLab's are the job's token", async () => {
    const server = await serve();
    const alloy = await fetchFrom(
      addressOf(server).replace(/127\.0\.0\.1:\d+/, "github.invalid"),
      ["true"],
      {},
      { runner: { cloneUrl: `${server.origin}/` } },
    );
    expect(alloy.outcome).toEqual({ result: "success" });

    const gitlab = await serve({ credentials: "gitlab-ci-token:job-token-0123456789" });
    const { outcome } = await fetchFrom(
      "https://gitlab.invalid/x.git",
      ["true"],
      {
        dialect: "gitlab",
        variables: [variable("CI_PROJECT_PATH", `widget-${count}`), variable("CI_JOB_TOKEN", "job-token-0123456789")],
      },
      { runner: { cloneUrl: gitlab.origin } },
    );
    expect(outcome).toMatchObject({ result: "failed" });
    expect(gitlab.requests.map(({ url }) => url)).toContain(`/widget-${count}.git/info/refs?service=git-upload-pack`);
    expect(gitlab.requests.some(({ authorization }) => authorization?.startsWith("Basic Z2l0bGFiLWNpLXRva2Vu"))).toBe(
      true,
    );
  });
});

test.skipIf(sshdMissing() !== null)(
  "clone_url by SSH takes the sources from there, with the account's key",
  async () => {
    const sshd = await startSshd();
    try {
      const name = `${repository.dir.slice(1)}-bare`;
      git(root, "clone", "--quiet", "--bare", repository.dir, `/${name}.git`);
      const ssh = `ssh -i ${sshd.keyFile} -o BatchMode=yes -o UserKnownHostsFile=${sshd.knownHostsFile}`;
      const { outcome, trace } = await fetchFrom(
        `https://gitlab.invalid/${name}.git`,
        ["git remote get-url origin; ls"],
        { dialect: "gitlab", variables: [variable("CI_PROJECT_PATH", "other/secret")] },
        {
          runner: {
            cloneUrl: `ssh://${userInfo().username}@127.0.0.1:${sshd.port}`,
            environment: [{ key: "GIT_SSH_COMMAND", value: ssh }],
            jobGitVariables: "all",
          },
        },
      );
      expect(trace).toContain(`ssh://${userInfo().username}@127.0.0.1:${sshd.port}/${name}.git\nfile.txt\n`);
      expect(outcome).toEqual({ result: "success" });
    } finally {
      await sshd.close();
    }
  },
);

describe("an old server", () => {
  test("that gives no commit by its name gives it by its branch", async () => {
    repository.commit({ "two.txt": "2" });
    const sha = repository.commit({ "three.txt": "3" });
    repository.commit({ "four.txt": "4" });
    const server = await serve({ protocol: 0 });
    for (const depth of ["0", "1"]) {
      const base = jobWith();
      const { outcome } = await stand.run(
        jobWith({
          variables: [variable("GIT_DEPTH", depth), variable("GIT_STRATEGY", "clone")],
          git: { ...base.git, repoUrl: addressOf(server), sha },
        }),
      );
      expect(outcome).toEqual({ result: "success" });
    }
  });

  test("that answers with 503 is not the job's fault", async () => {
    const server = await serve({ intercept: (_request, response) => Boolean(response.writeHead(503).end()) });
    const { outcome, trace } = await fetchFrom(addressOf(server), ["true"]);
    expect(outcome).toMatchObject({ result: "failed", reason: "runner_system_failure", exitCode: 128 });
    expect(trace).toContain("could not be reached");
  });
});

describe("certificates", () => {
  test("are checked, whatever the job says, unless the operator allows it", async () => {
    const tls = selfSigned(stand.dir);
    const server = await serve({ tls });
    const variables = [variable("GIT_SSL_NO_VERIFY", "true")];
    const refused = await fetchFrom(addressOf(server), ["true"], { variables });
    expect(refused.outcome).toMatchObject({ result: "failed", reason: "runner_system_failure" });
    expect(refused.trace).toContain("git_ssl_no_verify");
    expect(server.requests).toEqual([]);
    const allowed = await fetchFrom(addressOf(server), ["true"], { variables }, { runner: { gitSslNoVerify: true } });
    expect(allowed.outcome).toEqual({ result: "success" });
  });

  test("of the coordinator are good for the coordinator's host", async () => {
    const tls = selfSigned(stand.dir);
    const server = await serve({ tls });
    const trusted = await fetchFrom(
      addressOf(server),
      ["git fetch"],
      { serverTls: { ca: tls.cert } },
      { runner: { url: new URL(server.origin) } },
    );
    expect(trusted.outcome).toEqual({ result: "success" });
    const other = await fetchFrom(
      addressOf(server),
      ["true"],
      { serverTls: { ca: tls.cert } },
      { runner: { url: new URL("https://127.0.0.1:1") } },
    );
    expect(other.outcome).toMatchObject({ result: "failed", reason: "runner_system_failure" });
  });

  test("that the operator trusts are good for the repository's host, beside those of the system", async () => {
    const server = await serve({ tls: selfSigned(stand.dir) });
    const trusted = readFileSync(join(stand.dir, "cert.pem"), "utf8");
    const elsewhere = { url: new URL("https://127.0.0.1:1") };
    const own = await fetchFrom(
      addressOf(server),
      ["git fetch"],
      { serverTls: { ca: trusted, caConfigured: true } },
      { runner: elsewhere },
    );
    expect(own.outcome).toEqual({ result: "success" });
    // Here the system trusts the host, and the operator names another authority.
    const system = join(stand.dir, "system.pem");
    writeFileSync(system, trusted);
    const { cert: stranger } = selfSigned(stand.dir);
    for (const ca of [stranger, stranger.trimEnd()]) {
      const beside = await fetchFrom(
        addressOf(server),
        ["true"],
        { serverTls: { ca, caConfigured: true } },
        { runner: { ...elsewhere, environment: [{ key: "SSL_CERT_FILE", value: system }] } },
      );
      expect(beside.outcome).toEqual({ result: "success" });
    }
  });
});

describe("submodules", () => {
  function nest(): { sub: TestRepository; subsub: TestRepository } {
    const subsub = createRepository(join(root, `subsub-${count}`));
    const sub = createRepository(join(root, `sub-${count}`));
    git(sub.dir, "-c", "protocol.file.allow=always", "submodule", "add", "-q", subsub.dir, "inner");
    git(sub.dir, "config", "-f", ".gitmodules", "submodule.inner.url", `../subsub-${count}`);
    sub.commit({});
    git(repository.dir, "-c", "protocol.file.allow=always", "submodule", "add", "-q", sub.dir, "outer");
    git(repository.dir, "config", "-f", ".gitmodules", "submodule.outer.url", `../sub-${count}`);
    repository.commit({});
    return { sub, subsub };
  }
  const show = [
    "for f in outer/file.txt outer/inner/file.txt; do test -e $f && echo $f=$(cat $f); done; true",
    "git submodule status --recursive",
  ];
  const wanted = (value: string) => [variable("GIT_SUBMODULE_STRATEGY", value)];

  test.each([
    ["none", [false, false]],
    ["normal", [true, false]],
    ["recursive", [true, true]],
    ["odd", [false, false]],
  ] as const)("%s", async (strategy, [outer, inner]) => {
    nest();
    const server = await serve();
    for (let time = 0; time < 2; time++) {
      const { outcome, trace } = await fetchFrom(addressOf(server), show, { variables: wanted(strategy) });
      expect(outcome).toEqual({ result: "success" });
      expect(trace.includes("outer/file.txt=one")).toBe(outer);
      expect(trace.includes("outer/inner/file.txt=one")).toBe(inner);
      if (strategy === "odd") expect(trace).toContain("WARNING: GIT_SUBMODULE_STRATEGY is ");
    }
  });

  test("are asked for their branches no more often than git asks, with --remote", async () => {
    const { sub } = nest();
    const flags = [variable("GIT_SUBMODULE_UPDATE_FLAGS", "--remote"), variable("GIT_SUBMODULE_DEPTH", "1")];
    // git itself clones first and then asks for the branch.
    for (const [content, times] of [
      ["one", 2],
      ["two", 1],
    ] as const) {
      const server = await serve();
      const given = { variables: [...wanted("normal"), ...flags] };
      const { outcome, trace } = await fetchFrom(addressOf(server), show, given);
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain(`outer/file.txt=${content}\n`);
      const asked = server.requests.filter(
        ({ url, authorization }) => authorization !== undefined && url.includes(`/sub-${count}/info/refs`),
      );
      expect(asked).toHaveLength(times);
      sub.commit({ "file.txt": "two\n" });
    }
  });

  test("come from the branch that they follow, with --remote, also shallow and again", async () => {
    const { sub } = nest();
    sub.git("checkout", "-q", "-b", "other");
    sub.commit({ "file.txt": "other\n" });
    sub.git("checkout", "-q", "main");
    git(repository.dir, "config", "-f", ".gitmodules", "submodule.outer.branch", "other");
    repository.commit({});
    const server = await serve();
    const flags = [variable("GIT_SUBMODULE_UPDATE_FLAGS", "--remote"), variable("GIT_SUBMODULE_DEPTH", "1")];
    const variables = [...wanted("normal"), ...flags];
    for (const content of ["other", "newer"]) {
      const { outcome, trace } = await fetchFrom(addressOf(server), show, { variables });
      expect(trace).toContain(`outer/file.txt=${content}\n`);
      expect(outcome).toEqual({ result: "success" });
      sub.git("checkout", "-q", "other");
      sub.commit({ "file.txt": "newer\n" });
      sub.git("checkout", "-q", "main");
    }
  });

  test("have the files that LFS keeps, unless the job does without, or there is no git-lfs", async () => {
    const { sub, subsub } = nest();
    const pointer = "version https://git-lfs.example/spec/v1\n";
    for (const one of [sub, subsub]) one.commit({ ".gitattributes": "*.bin filter=lfs\n", "big.bin": pointer });
    git(`${sub.dir}/inner`, "pull", "-q");
    sub.commit({});
    git(`${repository.dir}/outer`, "pull", "-q");
    repository.commit({});
    const server = await serve();
    // Stands for git-lfs: it puts content in the place of pointers, unless smudging is still switched off.
    const programs = join(stand.dir, `lfs-${count}`);
    await mkdir(programs);
    const lfs = `#!/bin/sh\n[ -z "$GIT_LFS_SKIP_SMUDGE" ] || exit 0\n[ "$1" = pull ] || exit 0\nfor f in $(git ls-files '*.bin'); do echo content > $f; done\n`;
    writeFileSync(join(programs, "git-lfs"), lfs, { mode: 0o755 });
    const there = { environment: [{ key: "PATH", value: `${programs}:$PATH` }] };
    const run = async (strategy: string, runner: NonNullable<RunOptions["runner"]>, more: Variable[] = []) =>
      await fetchFrom(
        addressOf(server),
        ["head -c 7 outer/big.bin outer/inner/big.bin; true"],
        { variables: [...wanted(strategy), ...more] },
        { runner },
      );
    for (let time = 0; time < 2; time++) {
      const { outcome, trace } = await run("recursive", there);
      expect(outcome).toEqual({ result: "success" });
      expect(trace.match(/==> .*\ncontent/g)).toHaveLength(2);
    }
    const anew = variable("GIT_STRATEGY", "clone");
    expect((await run("recursive", there, [anew, variable("GIT_LFS_SKIP_SMUDGE", "1")])).trace).not.toContain(
      "content",
    );
    if (spawnSync("git-lfs", ["version"]).error === undefined) return;
    const without = await run("recursive", {}, [anew]);
    expect(without.outcome).toEqual({ result: "success" });
    expect(without.trace).toContain("\nversion");
    expect(without.trace.match(/Submodules have files in Git LFS/g)).toHaveLength(1);
  });

  test("follow the superproject, from a working copy that an earlier job has spoilt", async () => {
    const { sub, subsub } = nest();
    const server = await serve();
    const canary = join(stand.dir, `sub-canary-${count}`);
    const evil = `touch ${canary}`;
    const spoil = [
      "cd outer; echo dirty > file.txt; touch left; git checkout -q -b mine; git -c user.name=x -c user.email=x commit -qam mine",
      `git config core.fsmonitor '${evil}'; git config core.sshCommand '${evil}'; git config filter.evil.smudge '${evil}; cat'`,
      `d=$(git rev-parse --git-dir); mkdir -p $d/hooks $d/info; printf '#!/bin/sh\\n${evil}\\n' > $d/hooks/post-checkout; chmod +x $d/hooks/post-checkout; echo '* filter=evil' > $d/info/attributes; touch $d/index.lock`,
      "cd inner; git config core.worktree /tmp; touch left",
    ];
    expect((await fetchFrom(addressOf(server), spoil, { variables: wanted("recursive") })).outcome).toEqual({
      result: "success",
    });
    subsub.commit({ "file.txt": "two\n" });
    git(join(sub.dir, "inner"), "-c", "protocol.file.allow=always", "pull", "-q", "origin", "main");
    sub.commit({ "file.txt": "two\n" });
    git(join(repository.dir, "outer"), "-c", "protocol.file.allow=always", "pull", "-q", "origin", "main");
    repository.commit({});
    const { outcome, trace } = await fetchFrom(
      addressOf(server),
      [...show, "ls outer outer/inner", "cd outer && git fetch && echo FETCHED"],
      {
        variables: wanted("recursive"),
      },
    );
    expect(outcome).toEqual({ result: "success" });
    expect(trace).toContain("outer/file.txt=two");
    expect(trace).toContain("outer/inner/file.txt=two");
    expect(trace).toContain("\nFETCHED\n");
    expect(trace).not.toContain("\nleft\n");
    expect(() => readFileSync(canary)).toThrow("ENOENT");
  });

  test("with a repository planted in the place of one are made anew", async () => {
    nest();
    const server = await serve();
    const canary = join(stand.dir, `planted-${count}`);
    const plant = [
      `rm outer/.git; git init -q outer; cd outer; git config core.fsmonitor 'touch ${canary}'; git config core.sshCommand 'touch ${canary}'`,
      `git remote add origin ssh://nowhere.invalid/x; git config remote.origin.uploadpack 'touch ${canary}; false'; rm -f ${canary}`,
    ];
    await fetchFrom(addressOf(server), plant, { variables: wanted("normal") });
    const { outcome, trace } = await fetchFrom(addressOf(server), show, { variables: wanted("normal") });
    expect(outcome).toEqual({ result: "success" });
    expect(trace).toContain("outer/file.txt=one");
    expect(() => readFileSync(canary)).toThrow("ENOENT");
  });

  test("choose no programs and no other protocols", async () => {
    const server = await serve();
    const canary = join(stand.dir, `ext-${count}`);
    const sha = repository.git("rev-parse", "HEAD");
    writeGitmodules(
      repository,
      `[submodule "x"]\n\tpath = x\n\turl = ext::sh -c touch% ${canary}\n\tupdate = !touch ${canary}\n`,
    );
    repository.git("update-index", "--add", "--cacheinfo", `160000,${sha},x`);
    repository.git("commit", "-q", "-m", "evil");
    const { outcome } = await fetchFrom(addressOf(server), ["true"], { variables: wanted("recursive") });
    expect(outcome).toMatchObject({ result: "failed", reason: "script_failure" });
    expect(() => readFileSync(canary)).toThrow("ENOENT");
  });
});

function writeGitmodules(repository: TestRepository, text: string): void {
  repository.commit({ ".gitmodules": text });
}
