import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { expandVariables } from "../../../src/local/gitlab/decide/expand.ts";
import { globMatcher } from "../../../src/local/gitlab/decide/glob.ts";
import { durationSeconds } from "../../../src/local/gitlab/read/duration.ts";
import { at, plain } from "../../../src/local/gitlab/read/node.ts";
import { type Given, jobOf, MERGE_REQUEST, namesOf, planOf, TAG, tryPlan, variablesOf } from "./stand.ts";

const JOB = "\nj: {script: [x]}\n";

async function refusal(text: string, given?: Given): Promise<string> {
  const { problems } = await tryPlan(text, given);
  return problems.join("\n");
}

async function rootOf(yaml: string): Promise<Record<string, string>> {
  return variablesOf(await jobOf(`variables:\n  ${yaml.replaceAll("\n", "\n  ")}${JOB}`, "j"));
}

describe("YAML", () => {
  test("T1: << overwrites what stands before it", async () => {
    expect(await rootOf("<<: {X: 1}\nX: 9")).toEqual({ X: "9" });
    const { warnings } = await tryPlan(`variables: {X: 9, <<: {X: 1}}${JOB}`);
    expect(warnings.join()).toContain('<< stands after "X" and overwrites it');
    expect(await rootOf("X: 9\n<<: {X: 1}")).toEqual({ X: "1" });
  });
  test("T2: several merges", async () => {
    expect(await rootOf("<<: {A: 1, B: 1}\n<<: {B: 2}")).toEqual({ A: "1", B: "2" });
    expect(await rootOf("<<: [{A: 1}, {A: 2}]")).toEqual({ A: "1" });
  });
  test("T3: a job twice", async () => {
    const { plan, warnings } = await tryPlan("build: {script: [a], tags: [x]}\nbuild: {script: [b]}\n");
    expect(plan?.jobs).toMatchObject([{ name: "build", script: ["b"], tags: [] }]);
    expect(warnings).toEqual([expect.stringContaining('"build" stands here for the second time, after line 1')]);
  });
  test.each([
    ["3.10", "3.1"],
    ["1.10", "1.1"],
    ["3.0", "3.0"],
    ["0777", "511"],
    ["012345", "5349"],
    ["22:22", "80520"],
    ["12:30", "45000"],
    ["1e3", "1e3"],
    ["1.5e3", "1.5e3"],
    ["yes", "true"],
    ["OFF", "false"],
    ["y", "y"],
    ["08", "08"],
    ["0o17", "0o17"],
    ["0b11", "3"],
    ["0x1F", "31"],
    ["1_000", "1000"],
    ["1,000", "1000"],
    ["1,2,3", "123"],
    [":sym", ":sym"],
    ["!foo x", "x"],
    ["~", ""],
    ["", ""],
    ["-5", "-5"],
    [".inf", "Infinity"],
    ["-.INF", "-Infinity"],
    [".nan", "NaN"],
    ["1187654321098765432", "1187654321098765432"],
    ["1.2.3", "1.2.3"],
    ['"012"', "012"],
  ])("T4: %s is %s", async (written, expected) => {
    expect((await rootOf(`V: ${written}`)).V).toBe(expected);
  });
  test("T5: a date", async () => {
    expect(await refusal(`variables: {D: 2024-01-01}${JOB}`)).toContain(".gitlab-ci.yml:1:16: 2024-01-01 is a date");
    expect(await rootOf('D: "2024-01-01"')).toEqual({ D: "2024-01-01" });
  });
  test("T6: a line that is a table", async () => {
    const said = await refusal("j:\n  script:\n    - echo: hi\n");
    expect(said).toBe(
      '.gitlab-ci.yml:3:7: j: script must be a text, or a list of texts nested up to 10 levels deep: put a line that has ": " in it into quotes',
    );
  });
  test("T7–T9: documents", async () => {
    expect(await namesOf("a: {script: [x]}\n---\nb: {script: [x]}\n")).toEqual(["a"]);
    expect(await refusal("a:\n  script:\n    - |\n      x\n---\n      y\n")).toBe("");
    expect((await jobOf("a:\n  script:\n    - |\n      x\n---\n      y\n", "a")).script).toEqual(["x\n"]);
    for (const nothing of ["\n", "# a licence\n\n  # of two lines\n", "---\n# more\n"])
      expect(await namesOf(`${nothing}---\nb: {script: [x]}\n---\n`)).toEqual(["b"]);
    expect(await namesOf("# a licence\n---\nspec: {}\n---\nb: {script: [x]}\n")).toEqual(["b"]);
    expect(await refusal("spec: {}\n---\na: {script: [x]}\n---\nb: {}\n")).toContain("too many documents");
  });
  test("T10: bombs", async () => {
    const deep = `a: ${"[".repeat(101)}${"]".repeat(101)}\n`;
    expect(await refusal(deep)).toContain("nested deeper than 100 levels");
    expect(await refusal(`a: ${"[".repeat(50_000)}`)).not.toBe("");
    const lines = Array.from(
      { length: 30 },
      (_, level) => `a${level + 1}: &a${level + 1} [${Array(9).fill(`*a${level}`).join(", ")}]`,
    );
    const started = performance.now();
    expect(await refusal(`a0: &a0 [lol, lol]\n${lines.join("\n")}\n`)).toContain("is larger than 2097152 bytes");
    expect(performance.now() - started).toBeLessThan(1000);
  });
  test("T11, T12: names", async () => {
    expect(await namesOf(`.hidden: [1, 2]${JOB}`)).toEqual(["j"]);
    expect(await refusal(`.hidden:${JOB}`)).toContain('the hidden job ".hidden" is empty');
    expect(await refusal("123: {script: [x]}")).toContain('the name of the job "123" must be a text');
    expect(await refusal("on: {script: [x]}")).toContain('the name of the job "true" must be a text');
  });
});

describe("!reference", () => {
  test("T13: to false, to an empty text", async () => {
    expect(await refusal(`.a: {x: false}\nj: {script: [!reference [.a, x]]}`)).toContain(
      "!reference [.a, x] could not be found",
    );
    expect((await jobOf(`.a: {x: ''}\nj: {script: [!reference [.a, x], y]}`, "j")).script).toEqual(["", "y"]);
  });
  test("T14: list positions", async () => {
    expect(await refusal("j: {script: [!reference [.a, script, 0]]}")).toContain("is not valid");
    expect(await refusal(".a: {script: [x]}\nj: {script: [!reference [.a, script, '0']]}")).toContain(
      "could not be found",
    );
  });
  test("T15: levels of a script", async () => {
    expect((await jobOf(`j: {script: ${"[".repeat(10)}x${"]".repeat(10)}}`, "j")).script).toEqual(["x"]);
    expect(await refusal(`j: {script: ${"[".repeat(11)}x${"]".repeat(11)}}`)).toContain("nested up to 10 levels");
  });
  test("T16: tags", async () => {
    expect(await refusal(".t: {tags: [a]}\nj: {script: [x], tags: [x, !reference [.t, tags]]}")).toContain(
      "j: tags[1] must be a text",
    );
    expect((await jobOf(".t: {tags: [a]}\nj: {script: [x], tags: !reference [.t, tags]}", "j")).tags).toEqual(["a"]);
  });
  test("T17: across files", async () => {
    const files = { "a.yml": ".a: &a {script: [from a]}\n" };
    expect((await jobOf("include: a.yml\nj: {script: !reference [.a, script]}", "j", { files })).script).toEqual([
      "from a",
    ]);
    expect(await refusal("include: a.yml\nj: *a", { files })).toContain("unknown alias *a");
  });
  test("T18: chains and circles", async () => {
    expect(
      (await jobOf(".a: {s: !reference [.b, s]}\n.b: {s: [x]}\nj: {script: !reference [.a, s]}", "j")).script,
    ).toEqual(["x"]);
    expect(
      await refusal(".a: {s: !reference [.b, s]}\n.b: {s: !reference [.a, s]}\nj: {script: !reference [.a, s]}"),
    ).toContain("circular chain");
  });
  test("T19: instead of a parent's table", async () => {
    const text =
      ".v: {variables: {C: 1}}\n.p: {variables: {P: 1}}\nj: {extends: .p, script: [x], variables: !reference [.v, variables]}";
    expect(variablesOf(await jobOf(text, "j"))).toEqual({ C: "1" });
  });
  test("T20: in include", async () => {
    expect(await refusal(`include: [!reference [.a, b]]${JOB}`)).toContain("an include must be a text");
  });
});

describe("extends, default", () => {
  test("T21: null and an empty table", async () => {
    const parent = ".p: {variables: {P: 1}}\n";
    expect(variablesOf(await jobOf(`${parent}j: {extends: .p, script: [x], variables: null}`, "j"))).toEqual({});
    expect(variablesOf(await jobOf(`${parent}j: {extends: .p, script: [x], variables: {}}`, "j"))).toEqual({ P: "1" });
  });
  test("T22: several parents", async () => {
    const text = ".a: {image: a, script: [a]}\n.b: {image: b, script: [b]}\nj: {extends: [.a, .b], script: [own]}";
    expect(await jobOf(text, "j")).toMatchObject({ image: { name: "b" }, script: ["own"] });
  });
  test("T23: levels, circles", async () => {
    const chain = (levels: number): string =>
      `.p0: {script: [x]}\n${Array.from({ length: levels - 1 }, (_, level) => `.p${level + 1}: {extends: .p${level}}`).join("\n")}\nj: {extends: .p${levels - 1}}\n`;
    expect(await refusal(chain(11))).toBe("");
    expect(await refusal(chain(12))).toContain("nesting too deep in extends");
    expect(await refusal("j: {extends: j, script: [x]}")).toContain("circular dependency detected in extends: j → j");
    expect(await refusal("j: {extends: .nope, script: [x]}")).toContain("unknown keys in extends (.nope)");
  });
  test("T24: rules of a visible parent", async () => {
    expect(await namesOf("a: {script: [x], rules: [{when: never}]}\nb: {extends: a}\nc: {script: [x]}")).toEqual(["c"]);
  });
  test("T25: switching a default off", async () => {
    const text =
      "default: {before_script: [d]}\na: {before_script: [], script: [x]}\nb: {before_script: null, script: [x]}";
    const { jobs } = await planOf(text);
    expect(jobs.map(({ script }) => script)).toEqual([["x"], ["d", "x"]]);
  });
  test("T26: inherit", async () => {
    const text = "default: {image: i, tags: [t]}\nj: {inherit: {default: [image]}, script: [x]}";
    expect(await jobOf(text, "j")).toMatchObject({ image: { name: "i" }, tags: [] });
  });
  test("T27: twice", async () => {
    expect(await refusal(`image: a\ndefault: {image: b}${JOB}`)).toContain("image is defined twice");
  });
  test("T28: timeout of default", async () => {
    expect((await jobOf(`default: {timeout: 1m}${JOB}`, "j")).timeoutSeconds).toBeNull();
  });
  test("T29: no variables of its own", async () => {
    expect(variablesOf(await jobOf("variables: {R: 1}\nj: {script: [x], variables: {}}", "j"))).toEqual({ R: "1" });
  });
  test("T30: a trigger job", async () => {
    const job = await jobOf("default: {tags: [t], retry: 1}\nj: {trigger: {include: a.yml}}", "j");
    expect(job).toMatchObject({ tags: [], retry: null, trigger: { project: null } });
  });
});

describe("include", () => {
  test("T31, T32: who wins", async () => {
    const files = { "a.yml": "j: {script: [a], variables: {A: 1}}\n.k: {v: a}\n", "b.yml": "j: {script: [b]}\n" };
    const job = await jobOf("include: a.yml\nj: {script: [own], variables: {B: 1}}", "j", { files });
    expect(job).toMatchObject({ script: ["own"] });
    expect(variablesOf(job)).toEqual({ A: "1", B: "1" });
    expect((await jobOf("include: [a.yml, b.yml]", "j", { files })).script).toEqual(["b"]);
    expect((await jobOf("j: {script: [own]}\ninclude: [a.yml]", "j", { files })).script).toEqual(["own"]);
  });
  test("T33, T34: wildcards", async () => {
    expect(await namesOf(`include: {local: 'ci/*.yml'}${JOB}`)).toEqual(["j"]);
    expect(await refusal(`include: {local: ci/a.yml}${JOB}`)).toContain(
      '.gitlab-ci.yml:1:18: local file "ci/a.yml" does not exist',
    );
    const files = { "ci/d/a.yml": "a: {script: [x]}", "ci/b.yml": "b: {script: [x]}", "ci/c.txt": "no" };
    expect(await namesOf("include: {local: 'ci/**.yml'}", { files })).toEqual(["b", "a"]);
    expect(await namesOf("include: 'ci/*.yml'", { files })).toEqual(["b"]);
  });
  test("T35: how many", async () => {
    const files = { "a.yml": "a: {script: [x]}\n" };
    const many = (count: number): string => `include: [${Array(count).fill("a.yml").join(", ")}]`;
    expect(await refusal(many(150), { files })).toBe("");
    expect(await refusal(many(151), { files })).toContain("a maximum of 150 nested includes");
    expect(
      await refusal("include: self.yml", { files: { "self.yml": "include: self.yml\na: {script: [x]}" } }),
    ).toContain("a maximum of 150");
  });
  test("T36: rules", async () => {
    const files = { "a.yml": "a: {script: [x]}\n", x: "" };
    expect(await namesOf(`include: [{local: a.yml, rules: [{if: $NOPE}]}]${JOB}`, { files })).toEqual(["j"]);
    expect(await namesOf(`include: [{local: a.yml, rules: [{exists: [x]}]}]${JOB}`, { files })).toEqual(["a", "j"]);
    expect(await namesOf(`include: [{local: a.yml, rules: [{exists: [y]}]}]${JOB}`, { files })).toEqual(["j"]);
  });
  test("T37, T38: remote files", async () => {
    const remotes = {
      "https://x.test/a.yml": "a: {script: [x]}\n",
      "https://x.test/l.yml": "include: {local: b.yml}\n",
    };
    const digest = createHash("sha256").update("a: {script: [x]}\n").digest("base64");
    expect(
      await namesOf(`include: [{remote: 'https://x.test/a.yml', integrity: 'sha256-${digest}'}]`, { remotes }),
    ).toEqual(["a"]);
    expect(await refusal("include: [{remote: 'https://x.test/a.yml', integrity: sha256-no}]", { remotes })).toContain(
      "does not fit integrity",
    );
    expect(await refusal("include: 'https://x.test/l.yml'", { remotes })).toContain(
      "cannot be included from https://x.test/l.yml",
    );
  });
  test("T39: variables of the file", async () => {
    const given = { files: { "-ci.yml": "a: {script: [x]}" } };
    expect(await refusal("variables: {V: a}\ninclude: 'ci/$V.yml'")).toContain('"ci/.yml"');
    expect(await namesOf("variables: {V: a}\ninclude: '$V-ci.yml'", given)).toEqual(["a"]);
  });
  test("T40: an optional need that is not included", async () => {
    expect(await jobOf("j: {script: [x], needs: [{job: x, optional: true}]}", "j")).toMatchObject({ needs: [] });
  });
  test("T41: not cached", async () => {
    const said = await refusal(`include:\n  - remote: https://x.test/b.yml${JOB}`);
    expect(said).toBe(".gitlab-ci.yml:2:13: https://x.test/b.yml is not cached, and --offline says not to fetch it");
  });
});

const SPEC = (inputs: string, content: string): string => `spec:\n  inputs: ${inputs}\n---\n${content}\n`;

describe("inputs", () => {
  test("T42, T43: types", async () => {
    const text = SPEC(
      "{n: {type: number}, l: {type: array, default: [b, c]}}",
      'j:\n  script: [a, "$[[ inputs.l ]]", "n=$[[ inputs.n ]]"]\n  parallel: $[[ inputs.n ]]',
    );
    const { jobs } = await planOf(text, { inputs: { n: "5" } });
    expect(jobs).toHaveLength(5);
    expect(jobs[0]?.script).toEqual(["a", "b", "c", "n=5"]);
  });
  test("T44: mandatory", async () => {
    expect(await refusal(SPEC("{a: {}}", "j: {script: [x]}"))).toContain('input "a" has no value');
    expect(await refusal(SPEC("{a: {default: ''}}", "j: {script: [x]}"))).toBe("");
  });
  test("T45: a value stays one text", async () => {
    const value = 'a"b: [c\nd';
    const job = await jobOf(SPEC("{a: {}}", "j: {script: ['$[[ inputs.a ]]']}"), "j", { inputs: { a: value } });
    expect(job.script).toEqual([value]);
  });
  test("T46: functions", async () => {
    const use = (functions: string): string =>
      SPEC("{a: {default: 'ab cdefgh'}}", `j: {script: ['$[[ inputs.a ${functions} ]]']}`);
    expect((await jobOf(use("| truncate(0,5) | posix_escape | expand_vars"), "j")).script).toEqual(["ab\\ cd"]);
    expect(await refusal(use("| truncate(0,5) | posix_escape | expand_vars | expand_vars"))).toContain(
      "at most 3 functions",
    );
    expect(await refusal(use("| shout"))).toContain('there is no function "shout"');
  });
  test("T47: without a header", async () => {
    expect((await jobOf("j: {script: ['$[[ inputs.x ]]']}", "j")).script).toEqual(["$[[ inputs.x ]]"]);
    expect(await refusal("j: {script: [x]}", { inputs: { a: "1" } })).toContain("takes no inputs");
  });
  test("T48, T49: names, header", async () => {
    expect(await namesOf(SPEC("{a: {default: b}}", '"$[[ inputs.a ]]-job": {script: [x]}'))).toEqual(["b-job"]);
    const literal = SPEC("{a: {default: b}, c: {default: '$[[ inputs.a ]]'}}", "j: {script: ['$[[ inputs.c ]]']}");
    expect((await jobOf(literal, "j")).script).toEqual(["$[[ inputs.a ]]"]);
  });
  test("inputs of a header can be in files that it includes", async () => {
    const text = (include: string): string =>
      `spec: {include: ${include}, inputs: {own: {default: o}}}\n---\n"$[[ inputs.own ]]-$[[ inputs.more ]]": {script: [x]}\n`;
    const files = {
      "a.yml": "inputs: {more: {default: m}}\n",
      "b.yml": "inputs: {own: {}}\n",
      "c.yml": "j: {script: [x]}\n",
    };
    expect(await namesOf(text("[a.yml]"), { files })).toEqual(["o-m"]);
    expect(await namesOf(text("{local: /a.yml}"), { files, inputs: { more: "x" } })).toEqual(["o-x"]);
    expect((await tryPlan(text("[a.yml, b.yml]"), { files })).problems.join()).toContain(
      'b.yml:1:10: input "own" is declared twice',
    );
    expect((await tryPlan(text("[c.yml]"), { files })).problems.join()).toContain(
      "c.yml must have inputs and nothing else",
    );
    expect((await tryPlan(text("[{template: A.gitlab-ci.yml}]"), { files })).problems.join()).toContain(
      "spec:include takes only local, project and remote files",
    );
  });
  test("options, regex, unknown names, rules", async () => {
    const one = (declaration: string, value: unknown): Promise<string> =>
      refusal(SPEC(`{a: ${declaration}}`, "j: {script: [x]}"), { inputs: { a: value } });
    expect(await one("{options: [x, y]}", "z")).toContain("must be one of its options: x, y");
    expect(await one("{regex: '^v'}", "w")).toContain("must match the regex ^v");
    expect(await one("{type: number}", "w")).toContain("must be of type number");
    expect(await refusal(SPEC("{a: {default: x}}", "j: {script: [x]}"), { inputs: { b: "1" } })).toContain(
      'unknown input "b"',
    );
    const ruled = SPEC(
      "{e: {default: prod}, a: {rules: [{if: '$[[ inputs.e ]] == \"prod\"', default: big}, {default: small}]}}",
      "j: {script: ['$[[ inputs.a ]]']}",
    );
    expect((await jobOf(ruled, "j")).script).toEqual(["big"]);
    expect((await jobOf(ruled, "j", { inputs: { e: "dev" } })).script).toEqual(["small"]);
  });
});

describe("stages", () => {
  test("T50–T52", async () => {
    expect((await jobOf("j: {script: [x]}", "j")).stage).toBe("test");
    expect(await refusal("stages: [build]\nj: {script: [x]}")).toContain(
      "chosen stage test does not exist; available stages are .pre, build, .post",
    );
    const { jobs } = await planOf(
      "stages: [.post, a, .pre]\nz: {stage: .post, script: [x]}\nm: {stage: a, script: [x]}\na: {stage: .pre, script: [x]}",
    );
    expect(jobs.map(({ stage }) => stage)).toEqual([".pre", "a", ".post"]);
    expect(await planOf("a: {stage: .pre, script: [x]}")).toMatchObject({
      jobs: [],
      refusal: expect.stringContaining(".pre and .post"),
    });
  });
});

describe("rules", () => {
  test("T55: expressions", async () => {
    expect(await refusal("j: {script: [x], rules: [{if: '$A==1'}]}")).toContain("invalid expression syntax");
    expect(
      await namesOf(
        'j:\n  script: [x]\n  rules:\n    - if: |\n        $CI_COMMIT_BRANCH == "main"\n          && $CI_PIPELINE_SOURCE\n',
      ),
    ).toEqual(["j"]);
  });
  test("T56: first match, blank rules", async () => {
    expect(await namesOf("j: {script: [x], rules: [{if: $NOPE, when: never}, {when: on_success}]}")).toEqual(["j"]);
    expect(await refusal("j: {script: [x], rules: [{}]}")).toContain("a rule can't be blank");
    expect(await refusal("j: {script: [x], rules: []}")).toContain("rules can't be blank");
  });
  test("T57: variables of a rule", async () => {
    const job = await jobOf("j: {script: [x], variables: {A: a}, rules: [{variables: {A: b}}]}", "j");
    expect(variablesOf(job)).toEqual({ A: "b" });
  });
  test("T58: no match", async () => {
    const text = "a: {script: [x], rules: [{if: $NOPE}]}\nb: {script: [x]}";
    const { jobs, absent } = await planOf(text);
    expect(jobs.map(({ name }) => name)).toEqual(["b"]);
    expect(absent).toEqual([{ name: "a", stage: "test", why: "no rule fits" }]);
    expect(await refusal(`${text}\nc: {script: [x], needs: [a]}`)).toContain(
      "'c' job needs 'a' job, but 'a' does not exist in the pipeline",
    );
    expect(await refusal(`${text}\nc: {script: [x], needs: [{job: a, optional: true}]}`)).toBe("");
  });
  test("T59: manual", async () => {
    expect(await jobOf("j: {script: [x], rules: [{when: manual}]}", "j")).toMatchObject({
      when: "manual",
      allowFailure: false,
    });
    expect(await jobOf("j: {script: [x], when: manual}", "j")).toMatchObject({ when: "manual", allowFailure: true });
    expect(await jobOf("j: {script: [x], when: manual, rules: [{if: $CI_COMMIT_BRANCH}]}", "j")).toMatchObject({
      when: "manual",
      allowFailure: true,
    });
    expect(await jobOf("j: {script: [x], when: manual, rules: [{when: on_success}]}", "j")).toMatchObject({
      when: "on_success",
      allowFailure: true,
    });
  });
  test("T60: start_in beside rules", async () => {
    expect(await refusal("j: {script: [x], when: delayed, start_in: 1m, rules: [{if: $A}]}")).toContain(
      "may not be used with rules: start_in",
    );
  });
  test.each<[string, string, boolean]>([
    ["docs/**", "docs/a/b", false],
    ["docs/**", "docs/a", true],
    ["docs/**/*", "docs/a/b", true],
    ["*.md", "d/a.md", false],
    ["*.md", ".x.md", true],
    ["**.md", "a.md", true],
    ["**/*.md", "a.md", true],
    ["**/*.md", "d/e/a.md", true],
    ["docs", "docs/a", false],
    ["*", ".env", true],
    ["**", "a/b", false],
    ["a/**/b", "a/b", true],
    ["a/**/b", "a/x/y/b", true],
    ["*.{rb,py}", "x.py", true],
    ["*.{rb,py}", "x.js", false],
    ["!(a)", "b", false],
    ["./a", "a", false],
    ["/a", "a", false],
    ["[a-c]x", "bx", true],
    ["[!a-c]x", "bx", false],
    ["a?c", "a/c", false],
    ["A", "a", false],
  ])("T61: %s and %s: %s", (pattern, path, expected) => {
    expect(globMatcher(pattern)(path)).toBe(expected);
  });
  test("T62: changes", async () => {
    const text = `a: {script: [x], rules: [{changes: [docs/*]}]}${JOB}`;
    expect(await namesOf(text, { around: { changed: ["docs/a"] } })).toEqual(["a", "j"]);
    expect(await namesOf(text, { around: { changed: [] } })).toEqual(["j"]);
    expect(await namesOf(text, { around: TAG("v1") })).toEqual(["a", "j"]);
    const compared = `a: {script: [x], rules: [{changes: {paths: [docs/*], compare_to: old}}]}${JOB}`;
    expect(await namesOf(compared, { around: { comparisons: new Map([["old", ["docs/b"]]]) } })).toEqual(["a", "j"]);
    expect(await refusal(compared)).toContain('compare_to: "old" is no valid ref');
  });
  test("T63, T64: exists, both", async () => {
    const files = { "src/a.js": "" };
    expect(await namesOf(`a: {script: [x], rules: [{exists: [dist/a.js]}]}${JOB}`, { files })).toEqual(["j"]);
    expect(await namesOf(`a: {script: [x], rules: [{exists: [src/]}]}${JOB}`, { files })).toEqual(["a", "j"]);
    expect(await namesOf(`a: {script: [x], rules: [{if: $NOPE, exists: [src/a.js]}]}${JOB}`, { files })).toEqual(["j"]);
    expect(await namesOf(`a: {script: [x], rules: [{if: $CI_COMMIT_BRANCH, changes: [x]}]}${JOB}`, { files })).toEqual([
      "j",
    ]);
  });
  test("T65: allow_failure of a rule", async () => {
    const job = await jobOf("j: {script: [x], allow_failure: {exit_codes: 3}, rules: [{allow_failure: true}]}", "j");
    expect(job.allowFailure).toBe(true);
    expect(
      await jobOf("j: {script: [x], allow_failure: {exit_codes: [3, 4]}, rules: [{when: always}]}", "j"),
    ).toMatchObject({ allowFailure: [3, 4], when: "always" });
  });
  test("a rule's needs replace the job's", async () => {
    const text = "a: {script: [x]}\nj: {script: [x], needs: [a], rules: [{needs: []}]}";
    expect((await jobOf(text, "j")).needs).toEqual([]);
  });
});

describe("only, workflow", () => {
  test("T66: merge requests", async () => {
    const text =
      "a: {script: [x]}\nb: {script: [x], only: {variables: [$CI_PIPELINE_SOURCE]}}\nc: {script: [x], only: [merge_requests]}";
    expect(await namesOf(text, { around: MERGE_REQUEST })).toEqual(["c"]);
    expect(await namesOf(text)).toEqual(["a", "b"]);
  });
  test("T67: expressions, except", async () => {
    const text = "a: {script: [x], only: [/^v1/i]}\nb: {script: [x], except: [tags]}";
    expect(await namesOf(text, { around: { ref: "V1x" } })).toEqual(["a", "b"]);
    expect(await namesOf(`${text}\nc: {script: [x]}`, { around: TAG("v1.0") })).toEqual(["a", "c"]);
    expect(
      await namesOf("a: {script: [x], only: [main@group/project]}\nb: {script: [x], only: [main@other/one]}"),
    ).toEqual(["a"]);
    expect(
      await namesOf("a: {script: [x], only: [schedules]}\nb: {script: [x]}", { around: { source: "schedule" } }),
    ).toEqual(["a", "b"]);
  });
  test("T68: with workflow rules there is no default", async () => {
    expect(await namesOf(`workflow: {rules: [{when: always}]}${JOB}`, { around: MERGE_REQUEST })).toEqual(["j"]);
  });
  test("T69: workflow says no", async () => {
    expect(await planOf(`workflow: {rules: [{if: $NOPE}]}${JOB}`)).toMatchObject({
      jobs: [],
      refusal: expect.stringContaining("workflow:rules say no"),
    });
  });
  test("T70: its variables", async () => {
    const text =
      "workflow: {rules: [{variables: {A: w, B: w}}]}\nvariables: {A: r, B: r}\nj: {script: [x], variables: {B: j}}";
    expect(variablesOf(await jobOf(text, "j"))).toEqual({ A: "w", B: "j" });
  });
});

const variable = (key: string, value: string, raw: boolean = false) => ({ key, value, raw });

describe("variables", () => {
  test("T71: any order, circles", async () => {
    const expanded = expandVariables([variable("A", "$B"), variable("B", "${C}"), variable("C", "x")]);
    expect("values" in expanded ? expanded.values.get("A")?.value : expanded).toBe("x");
    expect(await refusal("variables: {A: $B, B: $A}\nj: {script: [x]}")).toContain(
      "circular variable reference detected: A → B → A",
    );
  });
  test("T72–T74: escapes, shell forms, expand: false", () => {
    const expanded = expandVariables([
      variable("P", "a$$b"),
      variable("A", "${X:-d} $(cmd) $1 ${ B }"),
      variable("R", "$B", true),
      variable("B", "b"),
      variable("PATH", "/bin"),
      variable("PATH", "$PATH:/x"),
      variable("S", "$S"),
      variable("U", "$UNKNOWN %B%"),
    ]);
    if (!("values" in expanded)) throw new Error("a circle");
    expect(Object.fromEntries([...expanded.values].map(([key, { value }]) => [key, value]))).toEqual({
      P: "a$$b",
      A: "${X:-d} $(cmd) $1 ${ B }",
      R: "$B",
      B: "b",
      PATH: "/bin:/x",
      S: "$S",
      U: "$UNKNOWN b",
    });
  });
  test("T75: precedence", async () => {
    const text = (more: string): string => `variables: {A: root}\nj:\n  script: [x]\n  ${more}`;
    const valueIn = async (more: string): Promise<string | undefined> => {
      const [job] = (await planOf(text(more))).jobs;
      return job === undefined ? undefined : variablesOf(job).A;
    };
    expect(await valueIn("")).toBe("root");
    expect(await valueIn("variables: {A: job}")).toBe("job");
    expect(await valueIn("variables: {A: job}\n  parallel: {matrix: [{A: matrix}]}")).toBe("matrix");
    expect(
      await valueIn("variables: {A: job}\n  parallel: {matrix: [{A: matrix}]}\n  rules: [{variables: {A: rule}}]"),
    ).toBe("rule");
  });
  test("forms", async () => {
    expect(await rootOf("A: {value: x, expand: false}\nB: {description: d}")).toEqual({ A: "x", B: "" });
    expect(await refusal(`variables: {A: {value: x, options: [y]}}${JOB}`)).toContain("is not in its options");
    expect(await refusal(`variables: {A: [x]}${JOB}`)).toContain("the variable A must be a text, or a table");
    expect(await refusal("j: {script: [x], variables: {A: {value: x, description: d}}}")).toContain(
      "only value and expand",
    );
  });
});

describe("job keys", () => {
  test.each<[string, number | undefined]>([
    ["42", 42],
    ["2h20min", 8400],
    ["2 hrs 20 min", 8400],
    ["3h30m10s", 12_610],
    ["one hour", 3600],
    ["1.5 hours", 5400],
    ["1 hour 30", 3630],
    ["10:30", 630],
    ["1:02:03", 3723],
    ["1m", 60],
    ["1mo", 2_592_000],
    ["1 month", 2_592_000],
    ["1y", 31_557_600],
    ["6 mos 1 day", 15_638_400],
    ["47 yrs 6 mos and 4d", 1_499_104_800],
    ["3 weeks and 2 days", 1_987_200],
    ["1h 30m", 5400],
    ["", undefined],
    ["0", undefined],
    ["foo", undefined],
    ["fortnight", undefined],
    ["half an hour", undefined],
    ["-1 h", undefined],
  ])("T81: %s is %s seconds", (text, seconds) => {
    expect(durationSeconds(text)).toBe(seconds);
  });
  test("T81: a number is none", async () => {
    expect(await refusal("j:\n  script: [x]\n  timeout: 3600\n")).toBe(
      ".gitlab-ci.yml:3:12: j: timeout must be a duration such as 1h 30m, not the number 3600",
    );
  });
  test("T82: retry", async () => {
    expect((await jobOf("j: {script: [x], retry: {max: 1, exit_codes: 3}}", "j")).retry).toEqual({
      max: 1,
      when: [],
      exitCodes: [3],
    });
    expect((await jobOf("j: {script: [x], retry: {when: script_failure}}", "j")).retry).toBeNull();
    expect(await refusal("j: {script: [x], retry: 3}")).toContain("j: retry must be 0, 1 or 2");
    expect(await refusal("j: {script: [x], retry: {max: 1, when: foo}}")).toContain(
      "must be one of always, unknown_failure",
    );
  });
  test("T83–T85: parallel", async () => {
    expect(await namesOf("x: {script: [x], parallel: 1}")).toEqual(["x 1/1"]);
    expect(await namesOf('j: {script: [x], parallel: {matrix: [{A: [1, "x"], B: y}]}}')).toEqual([
      "j: [1, y]",
      "j: [x, y]",
    ]);
    for (const bad of ["1.5", "true", "null", "3.10"])
      expect(await refusal(`j: {script: [x], parallel: {matrix: [{A: [${bad}]}]}}`)).toContain(
        "must be texts or whole numbers",
      );
    expect(await namesOf("j: {script: [x], parallel: {matrix: [{A: x}, {B: x}]}}")).toEqual(["j: [x]"]);
    expect(await refusal("j: {script: [x], parallel: 201}")).toContain("between 1 and 200");
    expect(await refusal("j: {script: [x], parallel: 0}")).toContain("between 1 and 200");
    const many = `{A: [${Array.from({ length: 20 }, (_, index) => index).join(",")}], B: [${Array.from({ length: 11 }, (_, index) => index).join(",")}]}`;
    expect(await refusal(`j: {script: [x], parallel: {matrix: [${many}]}}`)).toContain("more than 200 jobs");
  });
  test("T86: needs on a parallel job", async () => {
    const text = "b: {script: [x], parallel: 3}\nj: {script: [x], needs: [b]}\nk: {script: [x], needs: ['b 2/3']}";
    expect((await jobOf(text, "j")).needs?.map(({ job }) => job)).toEqual(["b 1/3", "b 2/3", "b 3/3"]);
    expect((await jobOf(text, "k")).needs).toEqual([{ job: "b 2/3", artifacts: true }]);
    const matrix =
      "b: {script: [x], parallel: {matrix: [{O: [a, c], V: [1, 2]}]}}\nj: {script: [x], needs: [{job: b, parallel: {matrix: [{O: a, V: [1, 2]}]}}]}";
    expect((await jobOf(matrix, "j")).needs?.map(({ job }) => job)).toEqual(["b: [a, 1]", "b: [a, 2]"]);
  });
  test("T87, T88: wrong needs", async () => {
    const a = "a: {stage: build, script: [x]}\n";
    expect(await refusal(`${a}j: {script: [x], needs: [a, a]}`)).toContain('the need "a" is duplicated');
    expect(await refusal("j: {script: [x], needs: [j]}")).toContain("circular: j → j");
    expect(await refusal("j: {script: [x], needs: [k]}\nk: {script: [x], needs: [j]}")).toContain(
      "circular: j → k → j",
    );
    expect(await refusal(`${a}j: {stage: .pre, script: [x], needs: [a]}`)).toContain(
      "is not defined in current or prior stages",
    );
    expect(await refusal("j: {script: [x], needs: [nope]}")).toContain("j job: undefined need: nope");
    expect(
      await refusal(`${a}b: {stage: build, script: [x]}\nj: {script: [x], dependencies: [a], needs: [b]}`),
    ).toContain("should be part of needs");
  });
  test("T89, T90: keys of caches from files", async () => {
    const text = "j: {script: [x], cache: {key: {files: [a.lock, b.lock]}, paths: [p]}}";
    const files = { "a.lock": "one\n", "b.lock": "two\n" };
    const keyOf = async (of: string, given: Record<string, string>): Promise<string | undefined> =>
      (await jobOf(of, "j", { files: given })).caches[0]?.key;
    const key = await keyOf(text, files);
    expect(key).toMatch(/^0_a_b-[0-9a-f]{40}$/);
    expect((await keyOf(text.replace("a.lock, b.lock", "b.lock, a.lock"), files))?.slice(-40)).toBe(key?.slice(-40));
    expect(await keyOf(text, { ...files, "a.lock": "three\n" })).not.toBe(key);
    expect(await keyOf(text, {})).toBe("0_a_b-default");
    expect(await keyOf("j: {script: [x], cache: {key: {files: [a.lock], prefix: p}, paths: [p]}}", {})).toBe(
      "p-default",
    );
  });
  test("T91, T92: services, entrypoint", async () => {
    expect((await jobOf('j: {script: [x], services: [{name: x, alias: "a,b c"}]}', "j")).services).toEqual([
      { name: "x", alias: "a,b c" },
    ]);
    expect(await refusal('j: {script: [x], image: {name: i, entrypoint: ""}}')).toContain(
      "j: image.entrypoint must be a list of texts",
    );
  });
});

test("a part that came from elsewhere knows where", async () => {
  const { table } = await tryPlan("include: a.yml\nj: {extends: .a}", { files: { "a.yml": "\n.a:\n  script: [x]\n" } });
  const script = at(table?.entries.get("j")?.value, "script");
  expect(script?.place).toEqual({ file: "a.yml", line: 3, column: 11 });
  expect(plain(script ?? { kind: "list", items: [], place: { file: "", line: 0, column: 0 } })).toEqual(["x"]);
});
