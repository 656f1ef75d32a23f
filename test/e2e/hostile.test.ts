import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { JobSpec } from "../../src/local/coordinator/coordinator.ts";
import { createRandom } from "../../src/local/coordinator/faults/random.ts";
import { never, pause } from "../../src/time.ts";
import { openSite, type Site } from "../support/site.ts";
import { watchArguments } from "../support/watch-secrets.ts";

describe.each(["alloy", "gitlab"] as const)("strangers' words from %s", (dialect) => {
  let site: Site;
  let dir: string;
  let canaries: string;
  let repository: string;
  let sha: string;
  const unusable = new Set<string>();

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "alloy-hostile-"));
    canaries = join(dir, "canaries");
    repository = join(dir, "repository");
    await mkdir(canaries);
    await mkdir(repository);
    const git = (...args: string[]): string =>
      execFileSync("git", ["-c", "user.name=t", "-c", "user.email=t@example.com", ...args], {
        cwd: repository,
        encoding: "utf8",
      }).trim();
    git("init", "-q", "-b", "main");
    await writeFile(join(repository, "file"), "content\n");
    git("add", ".");
    git("commit", "-q", "-m", "one");
    sha = git("rev-parse", "HEAD");
    // git allows these names, so they must work, too.
    for (const code of codes()) {
      const isName = spawnSync("git", ["check-ref-format", `refs/heads/${code.replaceAll("\0", " ")}`]).status === 0;
      if (isName) git("update-ref", `refs/heads/${code}`, sha);
      else unusable.add(code);
    }
    site = await openSite({ dialect, global: 'concurrent = 4\nlog_level = "debug"' });
  });
  afterAll(async () => {
    await site.close();
    await rm(dir, { recursive: true, force: true });
  });

  async function run(spec: JobSpec) {
    const job = site.coordinator.enqueue(spec);
    const update = await job.reported({ timeoutMs: 60_000 });
    return { job, update, trace: job.trace };
  }

  const codes = (): readonly string[] => [
    `$(touch ${canaries}/1)`,
    `\`touch ${canaries}/2\``,
    `"; touch ${canaries}/3; "`,
    `'; touch ${canaries}/4; '`,
    `\n touch ${canaries}/5\n`,
    `--upload-pack=touch ${canaries}/6`,
    `-otouch ${canaries}/7`,
    `\${IFS}$(touch\${IFS}${canaries}/8)`,
    `| touch ${canaries}/9 &`,
    `../../../../..${canaries}/10`,
    `ext::sh -c touch% ${canaries}/11`,
    `a\u0000$(touch ${canaries}/12)`,
  ];

  test("is code, an option or a way out in no field of a job", { timeout: 120_000 }, async () => {
    for (const code of codes()) {
      const { trace, update } = await run({
        name: code,
        stage: code,
        projectName: code,
        script: ["echo the script ran", "mkdir out", "echo x > out/x"],
        afterScript: ["true"],
        git: { repoUrl: `file://${repository}`, ref: `refs/heads/${code}`, sha },
        variables: [
          { key: "VALUE", value: code },
          { key: code, value: "x" },
          { key: code, value: "x", file: true },
          { key: "FILE", value: code, file: true },
          { key: "GIT_FETCH_EXTRA_FLAGS", value: "--prune" },
          { key: "CACHE_FALLBACK_KEY", value: code },
        ],
        artifacts: { name: code, paths: ["out/", code], exclude: [code], expire_in: "1 day", untracked: false },
        cache: { key: code, paths: ["out/", code], fallback_keys: [code] },
        image: { name: code, entrypoint: [code] },
        services: [{ name: code, alias: code, command: [code] }],
      });
      expect(await readdir(canaries), JSON.stringify(code)).toEqual([]);
      // GitLab names the branch to fetch; for AlloyCI the runner can fetch the commit instead.
      if (dialect === "gitlab" && unusable.has(code)) continue;
      expect(trace).toContain("the script ran");
      expect([update.state, trace.slice(-400)]).toEqual(["success", expect.anything()]);
    }
    for (const code of codes()) {
      await run({ git: { repoUrl: code, ref: code, sha: code }, script: ["true"] });
      await run({ git: { repoUrl: `file://${repository}/${code}`, ref: "main", sha }, script: ["true"] });
      await run({ variables: { GIT_STRATEGY: code, GIT_DEPTH: code, GIT_CLEAN_FLAGS: code, GIT_CLONE_PATH: code } });
    }
    expect(await readdir(canaries)).toEqual([]);
    expect(existsSync(join(site.workDir, "builds"))).toBe(true);
  });

  test("identifiers and tokens of any size and text travel unchanged", async () => {
    const ids = ["9007199254740993", "18446744073709551615", "123456789012345678901234567890"];
    for (const id of ids) {
      const { job, update } = await run({ id, script: ["echo $CI_JOB_ID > id"], token: `to/ken?=&%2F+${id}==` });
      expect(update).toMatchObject({ state: "success", status: 200 });
      expect(job.id).toBe(id);
      const paths = site.coordinator.requests.filter(({ jobId }) => jobId === id).map(({ path }) => path);
      expect(paths.length).toBeGreaterThan(0);
      for (const path of paths) expect(path).toMatch(new RegExp(`^/api/v4/jobs/${id}(/|$|\\?)`));
    }
  });

  test.each(["tökén", "токен", "line\nbreak", "nul\0", " padded "])(
    "a token that no header can hold (%j) costs that job alone",
    async (token) => {
      site.coordinator.enqueue({ token, script: ["true"] });
      const { update } = await run({ script: ["echo the next one works"] });
      expect(update.state).toBe("success");
      expect(site.runner.stderr()).not.toMatch(/unexpected|should not exist/);
    },
  );

  test("ending a script at any moment shows nothing of what was exported", { timeout: 120_000 }, async () => {
    const random = createRandom("cancel");
    const value = "exported-value-0123456789";
    using watch = watchArguments(() => [value]);
    const jobs = Array.from({ length: 16 }, () =>
      site.coordinator.enqueue({
        script: ["for i in $(seq 1 40); do (sleep 0.05 | cat; true) & wait; done", "sleep 60"],
        afterScript: ["sleep 0.2"],
        variables: [{ key: "EXPORTED", value, public: true }],
      }),
    );
    await Promise.all(
      jobs.map(async (job) => {
        await job.running({ timeoutMs: 60_000 });
        await pause(random() * 1200, never);
        job.cancel(dialect === "gitlab" && random() < 0.5 ? "canceled" : undefined);
        await job.finished({ timeoutMs: 30_000 });
      }),
    );
    for (const job of jobs) expect(job.trace + job.liveText).not.toContain(value);
    expect(watch.found).toEqual([]);
  });

  test("values of every kind of byte reach a program and a file as they are", { timeout: 60_000 }, async () => {
    const random = createRandom("values");
    const alphabet = [
      "'",
      '"',
      "\\",
      "$",
      "`",
      "\n",
      "\r",
      "\t",
      " ",
      "!",
      "%",
      "^",
      "é",
      "→",
      "😀",
      "\x01",
      "\x7f",
      "a",
    ];
    const values = Array.from({ length: 300 }, () =>
      Array.from({ length: Math.floor(random() * 40) }, () => alphabet[Math.floor(random() * alphabet.length)]).join(
        "",
      ),
    );
    const out = join(dir, `values-${dialect}`);
    const variables = values.flatMap((value, index) => [
      { key: `V${index}`, value, raw: true, public: dialect === "gitlab" },
      { key: `F${index}`, value, file: true, raw: true, public: dialect === "gitlab" },
    ]);
    const { update, trace } = await run({
      script: [
        `printenv -0 > ${out}`,
        `for i in $(seq 0 ${values.length - 1}); do n=F$i; cat "\${!n}"; printf '\\0'; done > ${out}.files`,
      ],
      variables,
    });
    expect(update.state, trace).toBe("success");
    const env = new Map((await readFile(out, "utf8")).split("\0").map((line) => [line.split("=")[0], line]));
    for (const [index, value] of values.entries()) expect(env.get(`V${index}`)).toBe(`V${index}=${value}`);
    expect((await readFile(`${out}.files`, "utf8")).split("\0").slice(0, -1)).toEqual(values);
  });
});
