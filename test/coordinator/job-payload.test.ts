import { expect, test } from "vitest";
import { parseJob } from "../../src/coordinator/payload/job-payload.ts";
import type { Job } from "../../src/job/job.ts";

const arrival = { serverTls: {}, likelyDialect: "alloy", cut: undefined } as const;

function jobOf(payload: unknown): Job {
  return jobOfText(typeof payload === "string" ? payload : JSON.stringify(payload));
}

function jobOfText(text: string): Job {
  const parsed = parseJob(text, arrival);
  if ("unreadable" in parsed) throw new Error(`unreadable: ${parsed.unreadable}`);
  return parsed.job;
}

const script = { name: "script", script: ["true"] };

/** A payload as AlloyCI 0.9 composes it. */
const alloyPayload = {
  id: 4182,
  token: "cVpKc0J3PT09PQ==",
  allow_git_fetch: true,
  job_info: { name: "unit", stage: "test", project_id: 17, project_name: "widget" },
  git_info: {
    repo_url: "https://x-access-token:v1.aaaa@github.com/acme/widget.git",
    ref: "refs/heads/main",
    before_sha: "5f0d",
    sha: "b7e1",
    ref_type: "branch",
  },
  runner_info: { timeout: 3600 },
  variables: [
    { key: "ALLOY_CI", value: "true", public: true },
    { key: "CI_RUNNER_TAGS", value: null, public: true },
    { key: "WORKERS", value: 4, public: true },
    { key: "DEPLOY_KEY", value: "s3cret", public: false },
    { key: "DEBUG", value: true, public: true },
  ],
  steps: [
    { name: "script", script: ["npm ci", "npm test"], timeout: 3600, when: "on_success", allow_failure: false },
    { name: "after_script", script: "./clean", timeout: 3600, when: "always", allow_failure: true },
  ],
  image: { name: null },
  services: [{ name: "postgres:15" }],
  artifacts: [null],
  cache: [null],
  dependencies: [
    { id: 4170, name: "compile", token: "ZGVw", artifacts_file: { filename: "artifacts.zip", size: 2500 } },
  ],
};

test("a job as AlloyCI sends it is read whole", () => {
  const job = jobOf(alloyPayload);
  expect(job).toMatchObject({
    id: "4182",
    token: "cVpKc0J3PT09PQ==",
    dialect: "alloy",
    name: "unit",
    projectId: "17",
    projectName: "widget",
    allowGitFetch: true,
    timeoutMs: 3600_000,
    image: null,
    artifacts: [],
    cache: [],
    credentials: [],
    hooks: [],
    features: { traceSections: false, failureReasons: [], tokenMaskPrefixes: [] },
    warnings: [],
    problem: null,
  });
  expect(job.git).toMatchObject({
    ref: "main",
    refType: "branch",
    sha: "b7e1",
    depth: 0,
    refspecs: [],
    objectFormat: "sha1",
  });
  expect(job.variables.map(({ key, value }) => [key, value])).toEqual([
    ["ALLOY_CI", "true"],
    ["CI_RUNNER_TAGS", ""],
    ["WORKERS", "4"],
    ["DEPLOY_KEY", "s3cret"],
    ["DEBUG", "true"],
  ]);
  expect(job.steps[1]).toEqual({
    name: "after_script",
    script: ["./clean"],
    timeoutMs: 3600_000,
    when: "always",
    allowFailure: true,
  });
  expect(job.services).toMatchObject([{ name: "postgres:15", aliases: [], command: null, entrypoint: null }]);
  expect(job.dependencies).toEqual([
    { id: "4170", name: "compile", token: "ZGVw", file: { name: "artifacts.zip", size: 2500 } },
  ]);
});

test("options of images and services that nobody here knows are named, a line for each", () => {
  const { warnings, image } = jobOf({
    ...alloyPayload,
    image: { name: "ruby:3", executor_opts: { docker: { user: "1", privileged: true, platform: null }, lxc: {} } },
    services: [
      { name: "redis", executor_opts: { kubernetes: { user: 1, group: 2 } } },
      { name: "postgres", executor_opts: { docker: { platform: "linux/amd64" }, kubernetes: null } },
    ],
  });
  expect(image).toMatchObject({ user: "1" });
  expect(warnings).toEqual([
    'image "ruby:3" has executor_opts that this runner does not know and ignores: "docker.privileged", "lxc".',
    'services "redis" has executor_opts that this runner does not know and ignores: "kubernetes.group".',
  ]);
});

test("a policy's job knows its policy, and another job of none", () => {
  const policyOf = (policy_options: object) => jobOf({ ...alloyPayload, policy_options }).policy;
  expect(policyOf({ execution_policy_job: true, policy_name: "scan" })).toEqual({
    name: "scan",
    overrideAllowed: null,
    exceptions: [],
  });
  const given = { policy_variables_override_allowed: false, policy_variables_override_exceptions: ["A", "B"] };
  expect(policyOf({ execution_policy_job: true, policy_name: "scan", ...given })).toEqual({
    name: "scan",
    overrideAllowed: false,
    exceptions: ["A", "B"],
  });
  expect(policyOf({ execution_policy_job: false, policy_name: "scan", ...given })).toBeUndefined();
});

test("a job as GitLab sends it is read whole", () => {
  const job = jobOf({
    id: 9_007_199_254_740_991,
    token: "glcbt-64_abc",
    job_info: {
      name: "rspec",
      stage: "test",
      project_id: 1,
      project_name: "app",
      time_in_queue_seconds: 3.5,
      queue_size: 7,
      queue_depth: -1,
    },
    git_info: {
      ref: "v1",
      ref_type: "tag",
      sha: "abc",
      refspecs: ["+refs/tags/v1:refs/tags/v1"],
      depth: 20,
      repo_object_format: "sha256",
      protected: true,
    },
    runner_info: { timeout: 600, uuid: "x" },
    variables: [{ key: "CI_SERVER_NAME", value: "GitLab", public: true, masked: false, raw: true, file: false }],
    steps: [
      { ...script, when: "on_success" },
      { name: "release", script: ["rel"], when: "on_success", timeout: 60 },
    ],
    image: {
      name: "ruby:3",
      entrypoint: ["/bin/sh"],
      pull_policy: ["always"],
      executor_opts: { docker: { user: "1000", platform: "linux/arm64" }, kubernetes: { user: 1001 } },
    },
    services: [{ name: "redis", alias: "cache, kv", command: ["redis-server"], variables: [{ key: "A", value: "1" }] }],
    artifacts: null,
    cache: [{ key: "k", paths: ["vendor"], policy: "pull", when: "always", fallback_keys: ["main"] }],
    credentials: [
      { type: "registry", url: "r.example", username: "u", password: "p" },
      { type: "other", url: "x" },
    ],
    hooks: [{ name: "pre_get_sources_script", script: ["echo"] }],
    features: { trace_sections: true, failure_reasons: ["image_pull_failure"], token_mask_prefixes: ["glpat-", ""] },
    secrets: {},
    inputs: [],
    unknown: { deeper: [1] },
  });
  expect(job).toMatchObject({
    id: "9007199254740991",
    dialect: "gitlab",
    queuedSeconds: 3.5,
    queueSize: 7,
    queueDepth: 0,
    timeoutMs: 600_000,
    git: {
      ref: "v1",
      refType: "tag",
      depth: 20,
      objectFormat: "sha256",
      protected: true,
      refspecs: ["+refs/tags/v1:refs/tags/v1"],
    },
    image: {
      name: "ruby:3",
      entrypoint: ["/bin/sh"],
      pullPolicies: ["always"],
      user: "1000",
      platform: "linux/arm64",
      kubernetesUser: "1001",
    },
    cache: [{ key: "k", paths: ["vendor"], policy: "pull", when: "always", fallbackKeys: ["main"], untracked: false }],
    credentials: [{ url: "r.example", username: "u", password: "p" }],
    hooks: [{ name: "pre_get_sources_script", script: ["echo"] }],
    features: { traceSections: true, failureReasons: ["image_pull_failure"], tokenMaskPrefixes: ["glpat-"] },
    problem: null,
  });
  expect(job.services[0]).toMatchObject({
    aliases: ["cache", "kv"],
    command: ["redis-server"],
    variables: [{ key: "A", value: "1" }],
  });
  expect(job.steps[1]).toMatchObject({ name: "release", timeoutMs: 60_000 });
});

test("what AlloyCI does not say of a commit is told by its name, or not known", () => {
  const gitOf = (git_info: object) => jobOf({ id: 1, token: "t", steps: [script], git_info }).git;
  expect(gitOf({ sha: "a".repeat(64) })).toMatchObject({ objectFormat: "sha256", protected: null });
  expect(gitOf({ sha: "a".repeat(40) })).toMatchObject({ objectFormat: "sha1", protected: null });
  expect(gitOf({ sha: "a".repeat(40), protected: false })).toMatchObject({ protected: false });
});

test("numbers keep every digit they were written with", () => {
  const job = jobOfText(
    `{"id": 12345678901234567890, "token": "t", "job_info": {"project_id": 98765432109876543210},
      "variables": [{"key": "VERSION", "value": 1.10}, {"key": "BIG", "value": 18446744073709551616}, {"key": "N", "value": 1e3}],
      "dependencies": [{"id": 11111111111111111111}], "steps": [{"name": "script", "script": ["true", 12345678901234567890]}]}`,
  );
  expect(job.id).toBe("12345678901234567890");
  expect(job.projectId).toBe("98765432109876543210");
  expect(job.variables.map(({ value }) => value)).toEqual(["1.10", "18446744073709551616", "1e3"]);
  expect(job.dependencies[0]?.id).toBe("11111111111111111111");
  expect(job.steps[0]?.script).toEqual(["true", "12345678901234567890"]);
});

test("an id and a token may be text or number", () => {
  expect(jobOf({ id: "77", token: 5, steps: [script] })).toMatchObject({ id: "77", token: "5", problem: null });
  expect(jobOfText(`{"id": 12.0, "token": "t"}`).id).toBe("12");
});

test.each([
  [{ key: "A", value: { a: 1 } }, '{"a":1}', 1],
  [{ key: "A", value: [1, "b"] }, '[1,"b"]', 1],
  [{ key: "A", value: 1.5 }, "1.5", 0],
  [{ key: "A", value: false }, "false", 0],
  [{ key: "A" }, "", 0],
])("the variable %j has the value %s", (variable, value, warnings) => {
  const job = jobOf({ id: 1, token: "t", variables: [null, variable], steps: [script] });
  expect(job.variables.map((entry) => entry.value)).toEqual([value]);
  expect(job.warnings).toHaveLength(warnings);
});

test("warnings name the place and never the value", () => {
  const job = jobOf({
    id: 1,
    token: "t",
    variables: [{ key: "A", value: { s: "hidden-1" } }, { value: "hidden-2" }, "hidden-3"],
    cache: [{ when: "hidden-4" }],
    steps: [{ ...script, when: "hidden-5" }],
  });
  expect(job.warnings.length).toBe(5);
  expect(job.warnings.join("\n")).not.toContain("hidden");
  expect(job.warnings.join("\n")).toContain("Variable A");
});

test.each([
  ["no steps", {}],
  ["an empty script", { steps: [{ name: "script", script: [] }] }],
  ["null as script", { steps: [{ name: "script", script: null }] }],
  ["an after_script alone", { steps: [{ name: "after_script", script: ["x"] }] }],
  ["null steps", { steps: null }],
  ["text for steps", { steps: "make" }],
])("a job with %s has nothing to run, and says so", (_, fields) => {
  expect(jobOf({ id: 1, token: "t", ...fields }).problem).toMatch(/nothing to run/);
});

test.each([["run", { run: '[{"name":"x"}]' }]])("a job that needs %s is not run without it", (word, fields) => {
  const job = jobOf({ id: 1, token: "t", ...fields });
  expect(job.problem).toContain(word);
  expect(job.problemReason).toBe("runner_configuration_error");
});

test.each([
  [{}, 7200_000],
  [{ timeout: 0 }, 7200_000],
  [{ timeout: -1 }, 7200_000],
  [{ timeout: "90" }, 90_000],
  [{ timeout: 1e12 }, 30 * 86400_000],
  [{ timeout: "soon" }, 7200_000],
  ["none", 7200_000],
])("the time limit of %j is %d ms", (runnerInfo, ms) => {
  expect(jobOf({ id: 1, token: "t", runner_info: runnerInfo }).timeoutMs).toBe(ms);
});

test.each([
  ["refs/heads/feature/x", "branch", "feature/x", "branch"],
  ["refs/tags/v1", "branch", "v1", "tag"],
  ["v1", "tag", "v1", "tag"],
  ["owner:branch", "branch", "owner:branch", "branch"],
  ["refs/merge-requests/1/head", "branch", "refs/merge-requests/1/head", "branch"],
  ["refs/heads/v1", "tag", "v1", "branch"],
])("the ref %s of type %s is %s, a %s", (ref, type, name, refType) => {
  expect(jobOf({ id: 1, token: "t", git_info: { ref, ref_type: type } }).git).toMatchObject({ ref: name, refType });
});

test("strings, nested lists and single objects stand in for lists", () => {
  const job = jobOf({
    id: 1,
    token: "t",
    steps: { name: "script", script: ["a", ["b", [null, 3]], { c: 1 }] },
    image: "alpine",
    services: ["redis", { name: 5, command: "serve it" }, null],
    artifacts: { paths: "dist", untracked: "true", expire_in: 30 },
    cache: { paths: "vendor", key: null },
  });
  expect(job.steps[0]?.script).toEqual(["a", "b", "3", '{"c":1}']);
  expect(job.image?.name).toBe("alpine");
  expect(job.services.map(({ name, command }) => [name, command])).toEqual([
    ["redis", null],
    ["5", ["serve it"]],
  ]);
  expect(job.artifacts).toMatchObject([
    { paths: ["dist"], untracked: true, expireIn: "30", type: "archive", format: "zip" },
  ]);
  expect(job.cache).toMatchObject([{ paths: ["vendor"], key: "", policy: "pull-push" }]);
});

test("AlloyCI's own forms: a service's variables as a table, and the user of an image as the CI file has it", () => {
  const job = jobOf({
    id: 1,
    token: "t",
    steps: script,
    image: { name: "ruby", docker: { user: "builder", platform: "linux/arm64" } },
    services: [
      {
        name: "postgres",
        docker: { user: 70 },
        variables: { POSTGRES_DB: "app", PORT: 5432, RAW: { value: "$X", expand: false }, EMPTY: null },
      },
    ],
  });
  expect(job.image).toMatchObject({ user: "builder", platform: "linux/arm64" });
  expect(job.services[0]?.user).toBe("70");
  expect(job.services[0]?.variables.map(({ key, value, raw }) => [key, value, raw])).toEqual([
    ["POSTGRES_DB", "app", false],
    ["PORT", "5432", false],
    ["RAW", "$X", true],
    ["EMPTY", "", false],
  ]);
  expect(job.warnings).toEqual([]);
});

test("secrets are read with the store that they are in, as files where nothing else is said", () => {
  const vault = { server: { url: "https://vault.example.com" } };
  const secrets = {
    A: { vault },
    B: { vault: null, azure_key_vault: { name: "b" }, file: false },
    C: { new_store: { x: 1 }, file: null },
    D: "text",
  };
  expect(jobOf({ id: 1, token: "t", steps: [script], secrets })).toMatchObject({
    problem: null,
    secrets: [
      { name: "A", file: true, from: "vault", wanted: vault },
      { name: "B", file: false, from: "azure_key_vault", wanted: { name: "b" } },
      { name: "C", file: true, from: "new_store", wanted: { x: 1 } },
      { name: "D", file: true, from: "" },
    ],
  });
});

test("wrong types everywhere still make a job that can be answered", () => {
  const wrong: readonly unknown[] = [null, 0, "x", true, [], [[]], {}, [null, 1, "x", {}, []], { a: { b: [] } }];
  const keys = ["job_info", "git_info", "runner_info", "variables", "steps", "image", "services", "artifacts", "cache"];
  const others = ["credentials", "dependencies", "hooks", "features", "allow_git_fetch", "secrets", "run", "inputs"];
  for (const value of wrong) {
    for (const key of [...keys, ...others]) {
      const job = jobOf({ id: 1, token: "t", steps: [script], [key]: value });
      expect(job.id).toBe("1");
      expect(Array.isArray(job.variables) && Array.isArray(job.steps)).toBe(true);
    }
    jobOf({
      id: 1,
      token: "t",
      variables: [value],
      steps: [value],
      services: [value],
      artifacts: [value],
      cache: [value],
      hooks: [value],
    });
  }
});

test("keys that mean something to JavaScript do nothing", () => {
  const job = jobOfText(
    `{"__proto__": {"problem": "x"}, "id": 1, "token": "t", "constructor": {"prototype": {"polluted": 1}},
      "variables": [{"key": "__proto__", "value": "v"}, {"__proto__": {"key": "X"}}],
      "steps": [{"name": "script", "script": ["true"], "__proto__": null}]}`,
  );
  expect(job).toMatchObject({ id: "1", problem: null });
  expect(job.variables.map(({ key }) => key)).toEqual(["__proto__"]);
  expect("polluted" in {}).toBe(false);
});

test("nesting without end is survived", () => {
  const deep = `${"[".repeat(200_000)}${"]".repeat(200_000)}`;
  const parsed = parseJob(`{"id": 1, "token": "t", "variables": [{"key": "A", "value": ${deep}}]}`, arrival);
  expect("job" in parsed && parsed.job.id).toBe("1");
});

test("a payload that is cut at any place gives its job back as soon as id and token are whole", () => {
  const text = JSON.stringify(alloyPayload);
  const known = text.indexOf(",", text.indexOf('"token"'));
  for (let end = 0; end < text.length; end++) {
    const parsed = parseJob(text.slice(0, end), { ...arrival, cut: "the connection broke" });
    if (end < known) expect(parsed).toEqual({ unreadable: "the connection broke" });
    else if ("job" in parsed) {
      expect(parsed.job).toMatchObject({ id: "4182", token: "cVpKc0J3PT09PQ==", dialect: "alloy" });
      expect(parsed.job.problem).toContain("the connection broke");
    } else throw new Error(`nothing found at ${end}`);
  }
  expect(jobOfText(text).problem).toBeNull();
});

test.each([
  ['{"id": 1, "token": "t", oops}', "1"],
  ['{"variables": [{"id": 9, "token": "no", "x": "\\"}"}], "token": "t", "id": "7",,}', "7"],
  ['{"id": 1, "token": "t"', "1"],
  ['{"id": 12345678901234567890 , "token": "t", "a": NaN}', "12345678901234567890"],
])("id and token are found in %s", (text, id) => {
  const job = jobOfText(text);
  expect(job).toMatchObject({ id, token: "t" });
  expect(job.problem).toContain("not valid JSON");
});

test.each([
  "",
  "null",
  "[]",
  "<html>sign in</html>",
  '{"id": 12',
  '{"id": 1}',
  '{"token": "t"}',
  '{"job": {"id": 1, "token": "t"}}',
  '{"id": "../../x", "token": "t"}',
  '{"id": 1, "token": "a\\nb"}',
  '{"id": 1, "token": ""}',
  `"${"\\".repeat(1001)}`,
])("%j is no job, and nothing of it is repeated", (text) => {
  const parsed = parseJob(text, arrival);
  expect("unreadable" in parsed ? parsed.unreadable : "a job").toMatch(
    /^(the answer is (empty|not valid JSON)|its id or its token is missing)$/,
  );
});

test("jobs without a project do not share a number with one", () => {
  expect(jobOf({ id: 5, token: "t", job_info: { project_id: 0 } }).projectId).toBe("job-5");
  expect(jobOf({ id: 5, token: "t" }).projectId).toBe("job-5");
});

test.each([
  ["5+", "5+"],
  ["+Inf", "+Inf"],
  ["3", "3"],
  ["many", undefined],
  [7, "7"],
  [undefined, undefined],
])("how many jobs of the project run becomes a label only as GitLab says it: %j", (sent, expected) => {
  const job_info = { project_jobs_running_on_instance_runners_count: sent };
  expect(jobOf({ id: 1, token: "t", steps: [script], job_info }).projectJobsRunning).toBe(expected);
});
