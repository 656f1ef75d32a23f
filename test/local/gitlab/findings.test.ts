import { expect, test } from "vitest";
import { type Given, MERGE_REQUEST, tryPlan } from "./stand.ts";

const J = "\nj: {script: [x]}\n";
/** A file with one job that has these keys besides its script. */
const job = (keys: string): string => `j: {script: [x], ${keys}}`;
const list = (count: number, of: string): string =>
  `[${Array.from({ length: count }, (_, index) => `${of}${index}`).join(", ")}]`;

/**
 * The number in the list of what GitLab's linter refuses, a file, and the expected message, with its place where that
 * matters.
 */
const CASES: readonly (readonly [number: string, text: string, said: string, given?: Given])[] = [
  ["1", "[a, b]", ".gitlab-ci.yml:1:1: invalid configuration format"],
  ["1, scalar", "hello", "invalid configuration format"],
  ["1, empty", "", "invalid configuration format"],
  ["2, tab", "j:\n\tscript: [x]\n", ".gitlab-ci.yml:2:1: this is no YAML"],
  ["2, @", job("image: @x"), "this is no YAML"],
  ["2, quote", 'j:\n  script: ["x]\n', "this is no YAML"],
  ["3", "j: *nope", ".gitlab-ci.yml:1:4: unknown alias *nope"],
  ["4", `variables:\n  D: 2024-01-01 10:00:00${J}`, ".gitlab-ci.yml:2:6: 2024-01-01 10:00:00 is a date"],
  ["5", ".a: {script: [x]}", "at least one visible job"],
  ["6", `services: [a]\ndefault: {services: [b]}${J}`, "services is defined twice"],
  ["7", `stages: build${J}`, ".gitlab-ci.yml:1:9: stages should be a list of texts"],
  ["8, blank", "'': {script: [x]}", "can't be blank"],
  ["8, long", `${"j".repeat(256)}: {script: [x]}`, "is too long: at most 255"],
  [
    "9",
    "j:\n  image: x\n",
    ".gitlab-ci.yml:1:1: jobs j config should implement the script:, run:, or trigger: keyword",
  ],
  ["9, blank", "j: {script: }", "should implement"],
  ["10", "j:\n  script: [x]\n  scrpt: y\n", '.gitlab-ci.yml:3:3: j: contains the unknown key "scrpt"'],
  ["11", job("trigger: a/b"), 'contains the unknown key "script"'],
  ["11, both", "j: {trigger: {project: a/b, include: c.yml}}", "only one of project and include"],
  [
    "12",
    "j:\n  stage: nope\n  script: [x]\n",
    ".gitlab-ci.yml:2:10: j: chosen stage nope does not exist; available stages are .pre, build",
  ],
  ["13", "j:\n  script: [1]\n", ".gitlab-ci.yml:2:12: j: script must be a text"],
  ["14", job("only: [a], rules: [{if: $A}]"), "may not be used with rules: only"],
  ["14, except", job("except: [a], rules: [{if: $A}]"), "may not be used with rules: except"],
  ["15", job("rules: [{if: '$A = 1'}]"), "invalid expression syntax"],
  ["16", job("rules: [{if: true}]"), "if must be a text"],
  ["17", job(`rules: [{exists: ${list(51, "f")}}]`), "exists has too many entries: at most 50"],
  ["18", job("rules: [{changes: {paths: [a], compare_to: nope}}]"), '"nope" is no valid ref'],
  ["19", `workflow: {rules: [{when: manual}]}${J}`, "must be always or never"],
  ["20", job("when: sometimes"), "when must be one of on_success, on_failure"],
  ["21", job("when: delayed"), "start_in must be set"],
  ["21, reverse", job("start_in: 1m"), "start_in must be blank"],
  ["22", job("when: delayed, start_in: 2 weeks"), "start_in must be at most one week"],
  ["23", job("timeout: foo"), "timeout must be a duration"],
  ["24", job("retry: 3"), "retry must be 0, 1 or 2"],
  ["24, table", job("retry: {max: 3}"), "retry.max must be 0, 1 or 2"],
  ["25", job("retry: {max: 1, when: [foo]}"), "must be one of always, unknown_failure"],
  ["26", job("parallel: 201"), "parallel must be between 1 and 200"],
  ["27", job(`parallel: {matrix: [{A: ${list(201, "a")}}]}`), "more than 200 jobs, which is the limit"],
  [
    "28",
    job("parallel: {matrix: [{A: [3.10]}]}"),
    'values of parallel:matrix must be texts or whole numbers: write "3.1" in quotes',
  ],
  ["29", "j:\n  script: [x]\n  needs: [nope]\n", ".gitlab-ci.yml:3:11: j job: undefined need: nope"],
  ["30", "a: {stage: deploy, script: [x]}\nj: {script: [x], needs: [a]}", "is not defined in current or prior stages"],
  ["31", "a: {script: [x], needs: [b]}\nb: {script: [x], needs: [a]}", "circular: a → b → a"],
  ["32", "a: {script: [x]}\nj: {script: [x], needs: [a, {job: a}]}", 'the need "a" is duplicated'],
  ["33", `a: {script: [x], parallel: 51}\nj: {script: [x], needs: [a]}`, "51 needs, and the limit is 50"],
  ["34", "a: {script: [x], rules: [{when: never}]}\nj: {script: [x], needs: [a]}", "Add optional: true"],
  [
    "35",
    "a: {stage: build, script: [x]}\nb: {script: [x]}\nj: {script: [x], needs: [b], dependencies: [a]}",
    "should be part of needs",
  ],
  ["36", job("artifacts: [dist]"), "artifacts must be a table, not a list"],
  ["37", job("artifacts: {reports: {nope: a}}"), 'artifacts.reports contains the unknown key "nope"'],
  ["38", job("artifacts: {public: true, access: all}"), "only one of public and access"],
  ["39", job("artifacts: {expose_as: a}"), "with paths, and no * in them"],
  ["39, *", job("artifacts: {expose_as: a, paths: ['*']}"), "with paths, and no * in them"],
  ["40", job("cache: {key: a/b}"), "a key without /"],
  ["40, dots", job("cache: {key: ..}"), "a key that is not only dots"],
  ["41", job("cache: {key: {files: [a, b, c]}}"), "at most 2 names"],
  ["41, both", job("cache: {key: {files: [a], files_commits: [a]}}"), "only one of files and files_commits"],
  ["42", job("cache: [{paths: [a]}, {paths: [a]}, {paths: [a]}, {paths: [a]}, {paths: [a]}]"), "at most 4 caches"],
  ["43", job("image: {name: a, entrypoint: sh}"), "image.entrypoint must be a list of texts"],
  ["44", job("services: [{alias: a}]"), "services[0].name must be a text"],
  ["45", job("environment: {name: a, on_stop: b}"), "on_stop job b is not defined"],
  [
    "45, none",
    "b: {script: [x]}\nj: {script: [x], environment: {name: a, on_stop: b}}",
    "does not have environment defined",
  ],
  [
    "45, name",
    "b: {script: [x], environment: {name: c, action: stop}}\nj: {script: [x], environment: {name: a, on_stop: b}}",
    "different environment name",
  ],
  [
    "45, action",
    "b: {script: [x], environment: {name: a}}\nj: {script: [x], environment: {name: a, on_stop: b}}",
    "action stop",
  ],
  ["46", job(`tags: ${list(50, "t")}`), "tags must be a list of at most 49 tags"],
  ["46, nested", job("tags: [[a]]"), "tags[0] must be a text"],
  ["47", job("coverage: abc"), "a regular expression between slashes"],
  ["48", job("extends: [.a]"), "unknown keys in extends (.a)"],
  [
    "49",
    ".a: {extends: .b}\n.b: {extends: .a}\nj: {script: [x], extends: .a}",
    "circular dependency detected in extends",
  ],
  ["50", "j: {script: !reference [.a, b]}", "!reference [.a, b] could not be found"],
  ["51", `include: nope.yml${J}`, 'local file "nope.yml" does not exist'],
  ["51, empty", `include: e.yml${J}`, 'local file "e.yml" is empty', { files: { "e.yml": "" } }],
  ["52", `include: {local: a.yml, remote: 'https://x.test/a.yml'}${J}`, "needs only one of"],
  ["53", `include: a.txt${J}`, "does not have YAML extension"],
  ["54", "include: s.yml", "a maximum of 150", { files: { "s.yml": "include: s.yml" } }],
  ["55", `include: {project: a/b, file: c.yml}${J}`, 'project "a/b" is not cached'],
  [
    "56",
    "include: {remote: 'https://x.test/a.yml', integrity: sha256-x}",
    "does not fit integrity",
    { remotes: { "https://x.test/a.yml": "a: {script: [x]}" } },
  ],
  ["57", `spec: {inputs: {a: }}\n---${J}`, 'input "a" has no value'],
  ["58", `spec: {inputs: {a: {default: x}}}\n---\nj: {script: ['$[[ inputs.a']}`, "is not closed with ]]"],
  ["58, name", `spec: {inputs: {a: {default: x}}}\n---\nj: {script: ['$[[ inputs.b ]]']}`, 'unknown input "b"'],
  ["59", `variables:\n  A: [x]${J}`, ".gitlab-ci.yml:2:3: variables: the variable A must be a text"],
  ["59, key", `variables: {A: {value: x, nope: y}}${J}`, 'contains the unknown key "nope"'],
  ["60", `variables: {A: {value: x, options: [y]}}${J}`, "is not in its options"],
  ["61", `variables: {A: $B, B: $C, C: $A}${J}`, "circular variable reference detected"],
];

test.each(CASES.map(([name, ...rest]) => ({ name, rest })))("$name", async ({ rest: [text, said, given] }) => {
  const { problems } = await tryPlan(text, given);
  expect(problems.join("\n")).toContain(said);
  for (const problem of problems) expect(problem).toMatch(/^[^:]+(?:\.yml)?:\d+:\d+: |^https:/);
});

test("all that is wrong with jobs is told at once, in the order of the file", async () => {
  const { problems } = await tryPlan("a:\n  script: [1]\nb:\n  script: [x]\n  retry: 5\n  stage: no\n");
  expect(problems.map((line) => line.split(" ")[0])).toEqual([
    ".gitlab-ci.yml:2:12:",
    ".gitlab-ci.yml:5:10:",
    ".gitlab-ci.yml:6:10:",
  ]);
});

test("what is only odd is a warning", async () => {
  const { warnings, problems } = await tryPlan(
    `a: {script: [x], rules: [{changes: [./docs/*], when: never}, {when: on_success}]}\n---\nb: 1\n`,
    { around: MERGE_REQUEST },
  );
  expect(problems).toEqual([]);
  expect(warnings.join("\n")).toContain('"./docs/*" can never match');
  expect(warnings.join("\n")).toContain("only the first document");
});
