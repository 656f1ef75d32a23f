import { symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Job } from "../../src/job/job.ts";
import { createRepository } from "./git-server.ts";
import { createStand, jobWith, type RunOptions, step, variable } from "./stand.ts";

const stand = createStand();
afterAll(() => stand.close());

const plain = (trace: string): string => trace.replace(/\x1b\[[0-9;]*[mK]/g, "");

async function run(
  scripts: Readonly<Record<string, readonly string[]>>,
  more: Partial<Job> = {},
  options: RunOptions = {},
) {
  const steps = Object.entries(scripts).map(([name, script]) => step(name, script));
  const { outcome, trace } = await stand.run(jobWith({ steps, ...more }), options);
  return { outcome, trace: plain(trace) };
}

describe("GITLAB_ENV", () => {
  test("what a script writes there are variables of later ones, as they are, and of no other job", async () => {
    const odd = `a = b $(id) 'q' "w" Größe`;
    const { outcome, trace } = await run({
      script: [
        'echo "A=1" >> $GITLAB_ENV; echo "A=2" >> $GITLAB_ENV; echo "BEFORE=${A-unset}"',
        `printf '%s\\n' ${JSON.stringify(`ODD=${odd}`).replaceAll("$", "\\$")} >> "$GITLAB_ENV"`,
        'printf "CI_JOB_NAME=mine\\nLAST=no break" >> "$GITLAB_ENV"; stat -c %a "$GITLAB_ENV"',
      ],
      release: ['echo "RELEASE=$A"'],
      after_script: ['echo "AFTER=$A,$LAST,$CI_JOB_NAME"; printf "%s\\n" "ODD=$ODD"'],
    });
    expect(outcome).toEqual({ result: "success" });
    expect(trace).toContain("\nBEFORE=unset\n");
    expect(trace).toContain("\n600\n");
    expect(trace).toContain("\nRELEASE=2\n");
    expect(trace).toContain("\nAFTER=2,no break,mine\n");
    expect(trace).toContain(`\nODD=${odd}\n`);
    const next = await run({ script: ['echo "A=${A-unset}"; rm "$GITLAB_ENV"'], after_script: ['echo "THERE=$A"'] });
    expect(next.outcome).toEqual({ result: "success" });
    expect(next.trace).toContain("\nA=unset\n");
    expect(next.trace).toContain("\nTHERE=\n");
  });

  test("steers none of the runner's own work, and of a job that died nothing is read", async () => {
    const repository = createRepository(join(stand.dir, "env-sources"));
    const git = { ...jobWith().git, repoUrl: repository.url, sha: repository.git("rev-parse", "HEAD") };
    const planted = await run(
      { script: ['echo "GIT_DIR=/nowhere" >> $GITLAB_ENV'], after_script: ["echo DIR=$GIT_DIR"] },
      { git, variables: [] },
    );
    expect(planted.outcome).toEqual({ result: "success" });
    expect(planted.trace).toContain("\nDIR=/nowhere\n");
    const next = await run({ script: ["echo DIR=${GIT_DIR-unset}; cat file.txt"] }, { git, variables: [] });
    expect(next.outcome).toEqual({ result: "success" });
    expect(next.trace).toContain("\nDIR=unset\n");
  });
});

test("FF_SCRIPT_SECTIONS shows entries of several lines whole, folded, where the coordinator knows sections", async () => {
  const scripts = { script: ["echo one", "for i in 1 2; do\n  echo number $i\ndone"], after_script: ["true\ntrue"] };
  const features = { ...jobWith().features, traceSections: true };
  const variables = [variable("GIT_STRATEGY", "none"), variable("FF_SCRIPT_SECTIONS", "true")];
  const { trace } = await run(scripts, { features, variables }, { runner: { preBuildScript: "true\ntrue" } });
  expect(trace).toContain("\n$ echo one\none\n");
  expect(trace).toMatch(
    /\nsection_start:\d{10}:section_script_step_1\[hide_duration=true,collapsed=true\]\r\$ for i in 1 2; do\n {2}echo number \$i\ndone\nsection_end:\d{10}:section_script_step_1\r\nnumber 1\nnumber 2\n/,
  );
  expect(trace).toContain(":section_pre_build_script_0[");
  expect(trace).toContain(":section_after_script_step_0[");
  for (const other of [{ features }, { variables }, { features, variables, entry: { FF_SCRIPT_SECTIONS: false } }]) {
    const { entry, ...more } = { entry: {}, ...other };
    const off = await run(scripts, more, { runner: { featureFlags: entry } });
    expect(off.trace).toContain("\n$ for i in 1 2; do # collapsed multi-line command\n");
    expect(off.trace).not.toContain("hide_duration");
  }
});

describe("a job's own words to git", () => {
  test("reach the fetching of its sources as far as the operator lets them", async () => {
    const repository = createRepository(join(stand.dir, "own-words"));
    const git = {
      ...jobWith().git,
      repoUrl: "https://nowhere.invalid/x.git",
      sha: repository.git("rev-parse", "HEAD"),
    };
    const canary = join(stand.dir, "canary");
    const pairs = [
      `url.${repository.url}.insteadOf`,
      "https://nowhere.invalid/x.git",
      "core.fsmonitor",
      `touch ${canary}; false`,
    ];
    const variables = [
      variable("GIT_CONFIG_COUNT", "2"),
      ...[0, 1].flatMap((index) => [
        variable(`GIT_CONFIG_KEY_${index}`, pairs[index * 2] ?? ""),
        variable(`GIT_CONFIG_VALUE_${index}`, pairs[index * 2 + 1] ?? ""),
      ]),
      variable("GIT_SSH_COMMAND", `touch ${canary}`),
      variable("GIT_STRATEGY", "clone"),
    ];
    const script = { script: [`cat file.txt; test ! -e ${canary}`] };
    const safe = await run(script, { git, variables });
    expect(safe.outcome).toEqual({ result: "success" });
    expect(safe.trace).toMatch(
      /WARNING: The sources are fetched without "GIT_SSH_COMMAND", "core.fsmonitor", as job_git_variables = "safe"/,
    );
    const none = await run(script, { git, variables }, { runner: { jobGitVariables: "none" } });
    expect(none.outcome).toMatchObject({ result: "failed" });
    // The runner's own settings count before those of the job, whatever they are.
    const all = await run(script, { git, variables }, { runner: { jobGitVariables: "all" } });
    expect(all.outcome).toEqual({ result: "success" });
    expect(all.trace).not.toContain("The sources are fetched without");
    const ssh = { ...git, repoUrl: "ssh://git@nowhere.invalid/x.git" };
    const through = variables.filter(({ key }) => !key.startsWith("GIT_CONFIG"));
    await run(script, { git: ssh, variables: through }, { runner: { jobGitVariables: "all" } });
    const seen = await run({ script: [`test -e ${canary}`] });
    expect(seen.outcome).toEqual({ result: "success" });
  });
});

test.each([
  [null, "The policy's variables win over those of users"],
  [true, 'Variables of users win over the policy\'s (but for "A", "B")'],
  [false, 'Variables of users do not count in it (but for "A", "B")'],
])("a policy's job says so before its script (overrides allowed: %s)", async (overrideAllowed, said) => {
  const policy = { name: 'scan "all"', overrideAllowed, exceptions: ["A", "B"] };
  const variables = [variable("GIT_STRATEGY", "none"), variable("A", "1")];
  const { outcome, trace } = await run({ script: ["echo A=$A"] }, { policy, variables });
  expect(outcome).toEqual({ result: "success" });
  expect(trace).toContain(`This job is of the policy "scan \\"all\\""\n${said}\n$ echo A=$A\nA=1\n`);
});

test("feature flags in force are variables: the entry's, else the job's, else the usual", async () => {
  const variables = [
    variable("GIT_STRATEGY", "none"),
    variable("FF_TIMESTAMPS", "false"),
    variable("FF_SCRIPT_SECTIONS", "true"),
  ];
  const script = { script: ["env | grep ^FF_ | sort | tr '\\n' ' '; echo end"] };
  const runner = { featureFlags: { FF_SCRIPT_SECTIONS: false, FF_USE_GIT_BUNDLE_URIS: false, FF_USE_FASTZIP: true } };
  const { trace } = await run(script, { variables, dialect: "gitlab" }, { runner });
  expect(trace).toContain(
    "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION=false FF_ENABLE_JOB_CLEANUP=false FF_ENABLE_JOB_INPUTS_INTERPOLATION=true FF_EXPORT_HIGH_CARDINALITY_METRICS=true FF_HASH_CACHE_KEYS=false FF_LOG_IMAGES_CONFIGURED_FOR_JOB=false FF_MASK_ALL_DEFAULT_TOKENS=true FF_SCRIPT_SECTIONS=false FF_SECRET_RESOLVING_FAILS_IF_MISSING=true FF_TIMESTAMPS=false FF_USE_GITALY_CORRELATION_ID=true FF_USE_GIT_BUNDLE_URIS=false FF_USE_GIT_NATIVE_CLONE=false FF_USE_GIT_PROACTIVE_AUTH=false end",
  );
  expect((await run({ script: ["env | grep -c ^FF_ || true"] }, { dialect: "alloy" })).trace).toContain("\n0\n");
});

describe("GIT_CLONE_PATH", () => {
  const repository = createRepository(join(stand.dir, "clone-path"));
  const git = { ...jobWith().git, repoUrl: repository.url, sha: repository.git("rev-parse", "HEAD") };
  const chosen = (path: string) => [variable("GIT_CLONE_PATH", path)];
  const script = { script: ['echo "AT=$CI_PROJECT_DIR $PWD"; cat file.txt'] };

  test("is where the sources are, kept from job to job, where the entry lets jobs choose", async () => {
    const at = `${stand.buildsDir}/go/src/3/app`;
    for (let time = 0; time < 2; time++) {
      const variables = chosen("$CI_BUILDS_DIR/go/src/$CI_CONCURRENT_ID/app");
      const { outcome, trace } = await run(script, { git, variables }, { runner: { customBuildDir: true } });
      expect(outcome).toEqual({ result: "success" });
      expect(trace).toContain(`\nAT=${at} ${at}\none\n`);
      expect(trace.includes("Fetching changes...")).toBe(time === 1);
    }
  });

  test("is refused outside of the builds directory, over a link that leads out of it, and where another job works", async () => {
    const refused = async (path: string) => {
      const variables = chosen(path);
      return await run(script, { git, variables, dialect: "gitlab" }, { runner: { customBuildDir: true } });
    };
    for (const path of [`${stand.dir}/elsewhere`, "$CI_BUILDS_DIR/../elsewhere"]) {
      const { outcome, trace } = await refused(path);
      expect(outcome).toMatchObject({ result: "failed", reason: "runner_configuration_error" });
      expect(trace).toContain(`no directory inside of the builds directory "${stand.buildsDir}"`);
    }
    await symlink(stand.dir, join(stand.buildsDir, "out"));
    const out = (await refused("$CI_BUILDS_DIR/out/x")).trace;
    expect(out).toContain("leads out of the builds directory");
    expect(out).not.toContain("$CI_CONCURRENT_ID");
    const gate = join(stand.dir, "gate");
    const shared = chosen("$CI_BUILDS_DIR/shared");
    const opened = Promise.withResolvers<void>();
    const first = run(
      { script: [`echo works; while [ ! -e ${gate} ]; do sleep 0.05; done`] },
      { git, variables: shared },
      { runner: { customBuildDir: true }, onTrace: (text) => (/^works$/m.test(text) ? opened.resolve() : undefined) },
    );
    await opened.promise;
    const second = await refused("$CI_BUILDS_DIR/shared");
    expect(second.outcome).toMatchObject({ result: "failed", reason: "runner_configuration_error" });
    expect(second.trace).toContain("where another job works at the moment. With $CI_CONCURRENT_ID in its path");
    await writeFile(gate, "");
    expect((await first).outcome).toEqual({ result: "success" });
  });

  test("fails a job of GitLab where jobs may not choose, and is a warning for AlloyCI's", async () => {
    const variables = chosen("$CI_BUILDS_DIR/x");
    const off = { runner: { customBuildDir: false } };
    const gitlab = await run(script, { git, variables, dialect: "gitlab" }, off);
    expect(gitlab.outcome).toMatchObject({ result: "failed", reason: "runner_configuration_error" });
    expect(gitlab.trace).toContain("[runners.custom_build_dir]");
    const alloy = await run(script, { git, variables }, off);
    expect(alloy.outcome).toEqual({ result: "success" });
    expect(alloy.trace).toContain("WARNING: GIT_CLONE_PATH counts where");
  });
});
