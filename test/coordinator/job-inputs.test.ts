import { describe, expect, test } from "vitest";
import { type Arrival, parseJob } from "../../src/coordinator/payload/job-payload.ts";
import type { Job } from "../../src/job/job.ts";
import { secretsOf } from "../../src/job/variables/secrets.ts";

const input = (key: string, type: string, content: unknown, more: object = {}): object => ({
  key,
  value: { type, content, ...more },
});
const inputs = [
  input("username", "string", "fred"),
  input("fullname", "string", "fred tester"),
  input("age", "number", 1),
  input("field", "array", ["one", "two", "three"]),
  input("s", "struct", { line1: "x" }),
  input("hostile", "string", '$(rm -rf x) a"b\n${{ 1 }}'),
  input("password", "string", "pass-word-1", { sensitive: true }),
];

function jobOf(payload: object, jobInputs: Arrival["jobInputs"] = {}): Job {
  const text = JSON.stringify({ id: 1, token: "t", inputs, ...payload });
  const parsed = parseJob(text, { serverTls: {}, likelyDialect: "gitlab", cut: undefined, jobInputs });
  if ("unreadable" in parsed) throw new Error(parsed.unreadable);
  return parsed.job;
}

const scriptOf = (line: string, more: object = {}): Job =>
  jobOf({ steps: [{ name: "script", script: [line] }], ...more });

describe("an expression", () => {
  test.each([
    // biome-ignore-start lint/suspicious/noTemplateCurlyInString: these are the expressions of jobs.
    ["Hello ${{ job.inputs.username }}, ${{ job.inputs.fullname }}", "Hello fred, fred tester"],
    ["${{ str(job.inputs.age) }}", "1"],
    ["${{job.inputs.age}}", "1"],
    ['${{ job.inputs.field[1] }} ${{ job.inputs.s.line1 }} ${{ job.inputs["username"] }}', "two x fred"],
    ['${{ job.inputs.age == 1 && "a" || "b" }}', "a"],
    ["${{ 'a ${{ b }}' }}", "a ${{ b }}"],
    ['${{ "a ${{ job.inputs.username + "}}" }} \\u0041\\n" }}', "a fred}} A\n"],
    ["\\${{ x }}", "${{ x }}"],
    [
      "${{ 1 + 2 * 3 - -4 }} ${{ (1 + 2) * 3 }} ${{ 7 % 4 }} ${{ 7.9 % 4 }} ${{ 1 / 4 }} ${{ 2E3 }}",
      "11 9 3 3 0.25 2000",
    ],
    ["${{ {a: [1, 'x',], \"b\": null, ('c'): {d: true}} }}", '{"a":[1,"x"],"b":null,"c":{"d":true}}'],
    ["${{ {a: {b: 5}}.a.b }}${{ [1,[2]][1][0] }}", "52"],
    [
      '${{ 1 == "1" }} ${{ "b" > "a" }} ${{ [1,2] < [1,3] }} ${{ {a: 1} == {a: 1} }} ${{ false < true }}',
      "false true true true true",
    ],
    ['${{ "" || 0 || [] || {} || null || "last" }} ${{ !"" }} ${{ bool([0]) }}', "last true true"],
    ["${{ false && job.inputs.nope }} ${{ str(null) }} ${{ str(true) }} ${{ num('3.14') }}", "false <null> true 3.14"],
    ["${{ job.inputs.hostile }}", '$(rm -rf x) a"b\n${{ 1 }}'],
    ['${{ "\\uFF5E" < "\\uD83D\\uDE00" }} ${{ "ab" < "abc" }} ${{ {b: 2, a: 1} == {a: 1, b: 2} }}', "true true true"],
    ["${{ 'it\\'s \\\\' }}", "it's \\"],
    ["${{ job.inputs.field }}", '["one","two","three"]'],
  ])("%s is %j", (line, made) => {
    const job = scriptOf(line);
    expect(job.problem).toBeNull();
    expect(job.steps[0]?.script).toEqual([made]);
  });

  test.each([
    "${{ job.inputs.username + 1 }}",
    "${{ 1/0 }}",
    "${{ 1 % 0.5 }}",
    "${{ job.inputs.nope }}",
    "${{ job.inputs }}",
    "${{ job.id }}",
    "${{ foo }}",
    "${{",
    "${{ }}",
    "${{ if }}",
    "${{ 1 2 }}",
    "${{ 'open }}",
    '${{ "\\q" }}',
    "${{ job.inputs.field[3] }}",
    "${{ job.inputs.s.constructor }}",
    "${{ job.inputs.username.length }}",
    "${{ num('x') }}",
    "${{ eval('1') }}",
    "${{ job.inputs.password }}",
    'x${{ "y" + job.inputs.password }}',
    "${{ [job.inputs.password][0] }}",
    "${{ job.inputs.s[job.inputs.password] }}",
    `\${{ ${"(".repeat(500)}1${")".repeat(500)} }}`,
    `\${{ 1${"+1".repeat(5000)} }}`,
  ])("%s fails the job as its author's, and quotes no secret", (line) => {
    const job = scriptOf(line);
    expect(job.problem).toContain("The job's inputs cannot be put into script[0]");
    expect(job.problem).not.toContain("pass-word-1");
    expect(job.problemReason).toBe("runner_configuration_error");
  });

  test("values that are put in again and again have an end", () => {
    const big = [input("big", "string", "x".repeat(1_000_000))];
    const job = jobOf({
      inputs: big,
      steps: [{ name: "script", script: Array.from({ length: 100 }, () => "${{ job.inputs.big }}") }],
    });
    expect(job.problem).toContain("too long together");
  });

  const words = Array.from({ length: 20_000 }, (_, index) => `word ${index}`);
  const large = [
    input("list", "array", words),
    input("table", "struct", Object.fromEntries(words.map((word) => [word, word]))),
    input("text", "string", "x".repeat(2_000_000)),
  ];
  test.each([
    ["job.inputs.list == job.inputs.list", 100],
    ["job.inputs.table == job.inputs.table", 10],
    ["job.inputs.text == job.inputs.text", 50],
    ['str(job.inputs.list) != "x"', 100],
    ["1 + 1 == 2", 100],
  ])("%s, again and again in all lines of a job, has an end and a sentence", (part, times) => {
    const line = `\${{ ${Array.from({ length: times }, () => part).join(" && ")} }}`;
    const job = jobOf({
      inputs: large,
      steps: [{ name: "script", script: Array.from({ length: 200_000 / part.length / times }, () => line) }],
    });
    const cheap = part.startsWith("1");
    expect(job.problem).toEqual(cheap ? null : expect.stringContaining("take more than 1000000 steps"));
    expect(job.problemReason).toBe(cheap ? undefined : "runner_configuration_error");
  });

  test("a string that goes on and on is no trouble", () => {
    expect(scriptOf(`\${{ '${"x".repeat(20_000_000)} }}`).problem).toContain("a string is not closed");
    expect(scriptOf(`\${{ bool('${"x".repeat(20_000_000)}') }}`).steps[0]?.script).toEqual(["true"]);
  });
});

test("inputs reach exactly the texts that they are for", () => {
  const it = "${{ job.inputs.username }}";
  const job = jobOf({
    variables: [{ key: "A", value: it, public: true }],
    steps: [
      { name: "script", script: [it, [it]] },
      { name: "after_script", script: it },
      { name: "release", script: [it] },
    ],
    image: { name: `${it}:$CI_JOB_ID`, entrypoint: [it], pull_policy: [it], executor_opts: { docker: { user: it } } },
    services: [{ name: it, alias: it, command: [it], variables: [{ key: "B", value: it }] }],
    artifacts: [{ name: it, paths: [it], exclude: [it], when: "${{ 'always' }}", expire_in: it, artifact_type: it }],
    cache: [{ key: it, paths: [it], policy: it, when: "${{ 'on_failure' }}", fallback_keys: [it] }],
    hooks: [{ name: "pre_get_sources_script", script: [it] }],
  });
  expect(job).toMatchObject({
    problem: null,
    variables: [{ value: it }],
    steps: [{ script: ["fred", "fred"] }, { script: ["fred"] }, { script: [it] }],
    image: { name: "fred:$CI_JOB_ID", entrypoint: ["fred"], pullPolicies: ["fred"], user: "fred" },
    services: [{ name: "fred", command: ["fred"], variables: [{ value: it }] }],
    artifacts: [{ name: "fred", paths: ["fred"], exclude: ["fred"], when: "always", expireIn: "fred", type: it }],
    cache: [{ key: "fred", paths: ["fred"], policy: "fred", when: "on_failure", fallbackKeys: ["fred"] }],
    hooks: [{ script: [it] }],
  });
  expect(job.services[0]?.aliases).toContain("${{");
});

test.each([
  [["echo", "${{ 1 }} ${{ 2 }}", "\\${{ x }}", "${{ job.inputs.age }}"], { texts: 2 }],
  [["echo"], { texts: 0 }],
  [["${{ 1 }}", "${{ if }}", "${{ 1 }}"], { texts: 1, failure: "parse" }],
  [["${{ 1 }}", "${{ 1/0 }}"], { texts: 2, failure: "evaluation" }],
  [["${{ job.inputs.password }}"], { texts: 1, failure: "sensitive_unsupported" }],
])("of a job with the script %j is counted %j", (script, filled) => {
  const steps = [{ name: "script", script }];
  expect(jobOf({ steps }).filledInputs).toEqual(filled);
  expect(jobOf({ steps }, { entry: false })).not.toHaveProperty("filledInputs");
  expect(jobOf({ steps, inputs: [] })).not.toHaveProperty("filledInputs");
});

test("without inputs, or with the flag off, no text is looked at", () => {
  const lines = "Hello $ ${{ 1 + 2 }} ${{ foo.bar }} ${{";
  expect(scriptOf(lines, { inputs: [] }).steps[0]?.script).toEqual([lines]);
  const off = { key: "FF_ENABLE_JOB_INPUTS_INTERPOLATION", value: "false" };
  expect(scriptOf(lines, { variables: [off] }).steps[0]?.script).toEqual([lines]);
  expect(jobOf({ steps: [{ name: "script", script: [lines] }] }, { entry: false }).steps[0]?.script).toEqual([lines]);
  const on = { key: "FF_ENABLE_JOB_INPUTS_INTERPOLATION", value: "false" };
  const again = jobOf({ steps: [{ name: "script", script: ["${{ 1 }}"] }], variables: [on] }, { entry: true });
  expect(again.steps[0]?.script).toEqual(["1"]);
});

test.each([
  [undefined, undefined, "1", true],
  [undefined, undefined, "False", false],
  [undefined, undefined, "perhaps", true],
  [undefined, "t", "0", true],
  [undefined, "0", "1", false],
  [undefined, "perhaps", "f", false],
  [true, "0", "0", true],
  [false, "1", "1", false],
])("the entry's flag %s, the job's %s and environment's %s make it %s", (entry, own, environment, on) => {
  const variables = own === undefined ? [] : [{ key: "FF_ENABLE_JOB_INPUTS_INTERPOLATION", value: own }];
  const job = jobOf({ steps: [{ name: "script", script: ["${{ 1 }}"] }], variables }, { entry, environment });
  expect(job.steps[0]?.script).toEqual([on ? "1" : "${{ 1 }}"]);
});
// biome-ignore-end lint/suspicious/noTemplateCurlyInString: these are the expressions of jobs.

test("inputs that are none fail the job, each for its reason", () => {
  const problems = [
    [{}],
    [{ key: "a", value: { type: "string" } }],
    [{ key: "a", value: { content: "x" } }],
    [input("a", "number", "any")],
    [input("a", "date", "x")],
    "text",
  ].map((given) => {
    const job = scriptOf("true", { inputs: given });
    expect(job.problemReason).toBe("runner_configuration_error");
    return job.problem;
  });
  expect(new Set(problems).size).toBe(problems.length);
  expect(problems).not.toContain(null);
});

test("numbers that are written in their own way are numbers, and what is sensitive is masked", () => {
  const text = `{"id":1,"token":"t","inputs":[{"key":"n","value":{"type":"number","content":1.50}},
    {"key":"p","value":{"type":"struct","content":{"a":["deep-secret"]},"sensitive":true}}],
    "steps":[{"name":"script","script":["\${{ job.inputs.n + 1 }}"]}]}`;
  const parsed = parseJob(text, { serverTls: {}, likelyDialect: "gitlab", cut: undefined });
  if ("unreadable" in parsed) throw new Error(parsed.unreadable);
  expect(parsed.job.steps[0]?.script).toEqual(["2.5"]);
  expect(secretsOf(parsed.job).values).toContain("deep-secret");
});
