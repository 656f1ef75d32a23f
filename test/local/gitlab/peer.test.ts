import { execFile, execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { readDefinitions } from "../../../src/local/gitlab/plan/definitions/definitions.ts";
import { createFindings } from "../../../src/local/gitlab/read/findings.ts";
import { plain } from "../../../src/local/gitlab/read/node.ts";
import { tryPlan } from "./stand.ts";

/**
 * The same files, composed and listed by gitlab-ci-local. Where it is known to differ from GitLab, the difference stands below
 * and is looked at, too: when the peer changes, the list has to.
 */

const PEER = join(import.meta.dirname, "../../../node_modules/gitlab-ci-local/dist/index.js");
const run = promisify(execFile);

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "alloy-peer-"));
});
afterEach(async () => await rm(home, { recursive: true }));

async function peer(text: string, files: Readonly<Record<string, string>>, flag: string): Promise<string> {
  const dir = await mkdtemp(join(home, "project-"));
  for (const [name, content] of Object.entries({ ...files, ".gitlab-ci.yml": text })) {
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await writeFile(join(dir, name), content);
  }
  const env = { PATH: process.env.PATH, HOME: home };
  const git = (...args: string[]): void =>
    void execFileSync("git", ["-C", dir, "-c", "user.name=a", "-c", "user.email=a@example.com", ...args], { env });
  git("init", "--quiet", "--initial-branch=main");
  git("remote", "add", "origin", "git@git.example.com:group/project.git");
  git("add", ".");
  git("commit", "--quiet", "-m", "one");
  return (await run(process.execPath, [PEER, flag], { cwd: dir, env, maxBuffer: 64 * 1024 * 1024 })).stdout;
}

type Data = Readonly<Record<string, unknown>>;
const isData = (value: unknown): value is Data => typeof value === "object" && value !== null && !Array.isArray(value);
const listed = (value: unknown): unknown[] => (Array.isArray(value) ? value.flat(Number.POSITIVE_INFINITY) : [value]);

/** A job's keywords in one of the forms that they may have. */
function normal(job: Data): Data {
  const forms: Readonly<Record<string, (value: unknown) => unknown>> = {
    script: listed,
    before_script: listed,
    after_script: listed,
    rules: listed,
    image: (value) => (typeof value === "string" ? { name: value } : value),
    services: (value) => listed(value).map((one) => (typeof one === "string" ? { name: one } : one)),
    needs: (value) =>
      listed(value).map((one) => ({ artifacts: true, optional: false, ...(isData(one) ? one : { job: one }) })),
    cache: (value) =>
      listed(value).map((one) => (isData(one) ? { policy: "pull-push", when: "on_success", ...one } : one)),
    variables: (value) =>
      isData(value) ? Object.fromEntries(Object.entries(value).map(([key, one]) => [key, String(one ?? "")])) : value,
    environment: (value) => (typeof value === "string" ? { name: value } : value),
    parallel: (value) =>
      isData(value)
        ? listed(value.matrix).map((row) =>
            isData(row) ? Object.fromEntries(Object.entries(row).map(([key, one]) => [key, listed(one)])) : row,
          )
        : value,
    dependencies: listed,
  };
  const dropped = ["extends", "inherit", "stage"];
  return Object.fromEntries(
    Object.entries(job)
      .filter(([key, value]) => !dropped.includes(key) && value !== null)
      .map(([key, value]) => [key, forms[key]?.(value) ?? value]),
  );
}

const NOT_JOBS = ["stages", "variables", "default", "workflow", "include", "image", "services", "cache"];

async function composedByPeer(text: string, files: Readonly<Record<string, string>> = {}): Promise<Data> {
  const whole: unknown = parse(await peer(text, files, "--preview"));
  const jobs = Object.entries(isData(whole) ? whole : {}).filter(
    ([name]) => !NOT_JOBS.includes(name) && !name.startsWith("."),
  );
  return Object.fromEntries(jobs.map(([name, job]) => [name, normal(isData(job) ? job : {})]));
}

async function composedHere(text: string, files: Readonly<Record<string, string>> = {}): Promise<Data> {
  const { table, problems } = await tryPlan(text, { files });
  if (table === undefined) throw new Error(problems.join("\n"));
  const { jobs } = readDefinitions(table, createFindings());
  return Object.fromEntries(
    jobs.map(({ name, node }) => {
      const job = plain(node);
      return [name, normal(isData(job) ? job : {})];
    }),
  );
}

interface Row {
  readonly name: string;
  readonly stage: string;
  readonly when: string;
  readonly allowFailure: unknown;
  readonly needs: unknown;
}

async function listedByPeer(text: string, files: Readonly<Record<string, string>> = {}): Promise<Row[]> {
  const rows: unknown = JSON.parse(await peer(text, files, "--list-json"));
  const there = listed(rows).flatMap((row) => (isData(row) && row.when !== "never" ? [row.name] : []));
  return listed(rows).flatMap((row): Row[] => {
    if (!isData(row) || row.when === "never") return [];
    const needs = listed(row.needs).flatMap((need) => (isData(need) ? [need.job] : [need]));
    return [
      {
        name: instance(String(row.name)),
        stage: String(row.stage),
        when: String(row.when),
        allowFailure: isData(row.allow_failure) ? listed(row.allow_failure.exit_codes) : row.allow_failure,
        // It names optional needs also where the job is not in the pipeline.
        needs: row.needs === undefined ? null : needs.filter((name) => there.includes(name)),
      },
    ];
  });
}

/** Its names of instances have no space behind the comma, and numbers in brackets. */
function instance(name: string): string {
  return name
    .replace(/: \[(\d+\/\d+)\]$/, " $1")
    .replace(/\[(.*)\]$/, (_, values: string) => `[${values.split(",").join(", ")}]`);
}

async function listedHere(text: string, files: Readonly<Record<string, string>> = {}): Promise<Row[]> {
  const { plan, problems } = await tryPlan(text, { files });
  if (plan === undefined) throw new Error(problems.join("\n"));
  return plan.jobs.map(({ name, stage, when, allowFailure, needs }) => ({
    name,
    stage,
    when,
    allowFailure,
    needs: needs?.map((need) => need.job) ?? null,
  }));
}

const SAME: readonly (readonly [title: string, text: string, files?: Readonly<Record<string, string>>])[] = [
  [
    "includes, extends and references",
    `
include: [ci/base.yml, {local: ci/more.yml}]
stages: [build, test]
variables: {A: a}
one: {extends: [.base, .other], stage: build, script: [!reference [.snip, script], echo one], artifacts: {paths: [o]}}
two: {extends: one, needs: [one], script: [echo two], variables: {B: mine}}
`,
    {
      "ci/base.yml": ".base: {image: 'alpine:3', variables: {B: b, C: c}, tags: [x]}\n.snip: {script: [echo snip]}\n",
      "ci/more.yml":
        "include: ci/deep.yml\n.other: {image: {name: 'alpine:4', entrypoint: ['']}, variables: {C: other}}\n",
      "ci/deep.yml": "deep: {script: [echo deep], stage: test, before_script: [echo before]}\n",
    },
  ],
  [
    "defaults and what switches them off",
    `
default: {before_script: [echo default], cache: {key: k, paths: [p]}, image: {name: "alpine:3"}}
plain: {script: [x]}
own: {script: [x], before_script: [], cache: [], image: {name: "alpine:4"}}
none: {script: [x], inherit: {default: false}}
`,
  ],
  [
    "rules, when, allow_failure",
    `
stages: [a, b]
first: {stage: a, script: [x], rules: [{if: $NOPE, when: never}, {if: '$CI_COMMIT_BRANCH == "main"', variables: {V: v}}]}
late: {stage: b, script: [x], when: always, allow_failure: true}
codes: {stage: b, script: [x], allow_failure: {exit_codes: [2, 3]}}
gone: {stage: b, script: [x], rules: [{if: $NOPE}]}
fails: {stage: b, script: [x], when: on_failure}
after: {stage: b, script: [x], needs: [first, {job: gone, optional: true}]}
`,
  ],
  [
    "parallel and services",
    `
many: {script: [x], parallel: {matrix: [{OS: [linux, mac], V: ["1", "2"]}, {OS: win}]}}
three: {script: [x], parallel: 3}
served: {script: [x], services: ["redis:7", {name: "postgres:16", alias: db}], environment: {name: prod, url: "https://x"}}
`,
  ],
  [
    "inputs of includes",
    `
include: [{local: ci/part.yml, inputs: {name: job, times: 2, more: [a, b]}}]
`,
    {
      "ci/part.yml":
        'spec: {inputs: {name: {}, times: {type: number}, more: {type: array}, d: {default: dd}}}\n---\n"$[[ inputs.name ]]-$[[ inputs.d ]]": {script: ["echo $[[ inputs.times ]]"], tags: "$[[ inputs.more ]]"}\n',
    },
  ],
  [
    "anchors and merge keys in front",
    `
.a: &a {image: "alpine:3", variables: {X: x}}
.s: &s [echo one, echo two]
j: {<<: *a, script: [*s, echo three], variables: {Y: y}}
`,
  ],
];

describe("what gitlab-ci-local and we agree on", () => {
  test.each(SAME.map(([title, text, files]) => ({ title, text, files })))("$title", async ({ text, files }) => {
    expect(await composedHere(text, files)).toEqual(await composedByPeer(text, files));
  });
  test.each(SAME.map(([title, text, files]) => ({ title, text, files })))("listed: $title", async ({ text, files }) => {
    const byName = (a: Row, b: Row): number => a.name.localeCompare(b.name);
    expect((await listedHere(text, files)).toSorted(byName)).toEqual(
      (await listedByPeer(text, files)).toSorted(byName),
    );
  });
});

/** What the peer makes of a file, where GitLab makes something else of it. */
describe("where gitlab-ci-local differs from GitLab", () => {
  test("T1: << overwrites the keys before it", async () => {
    const text = ".a: &a {variables: {X: merged}}\nj: {variables: {X: own}, script: [x], <<: *a}\n";
    expect((await composedHere(text)).j).toMatchObject({ variables: { X: "merged" } });
    expect((await composedByPeer(text)).j).toMatchObject({ variables: { X: "own" } });
  });
  test("T4: words that are booleans and numbers to Ruby", async () => {
    const text = "j: {script: [x], variables: {A: yes, B: 0777, C: 1_000}}\n";
    expect((await composedHere(text)).j).toMatchObject({ variables: { A: "true", B: "511", C: "1000" } });
    expect((await composedByPeer(text)).j).toMatchObject({ variables: { A: "yes", B: "777", C: "1_000" } });
  });
  test("default has retry and tags, too", async () => {
    const text = "default: {retry: 1, tags: [t]}\nj: {script: [x]}\n";
    expect((await composedHere(text)).j).toMatchObject({ retry: 1, tags: ["t"] });
    expect((await composedByPeer(text)).j).not.toHaveProperty("tags");
  });
  test("names of instances", async () => {
    const text = "j: {script: [x], parallel: {matrix: [{A: [a], B: [b]}]}}\n";
    expect((await listedHere(text)).map(({ name }) => name)).toEqual(["j: [a, b]"]);
    expect(await peer(text, {}, "--list-json")).toContain("j: [a,b]");
  });
  test("T46: functions of inputs", async () => {
    const text = "include: [{local: a.yml, inputs: {v: abcdef}}]\n";
    const files = { "a.yml": 'spec: {inputs: {v: {}}}\n---\nj: {script: ["echo $[[ inputs.v | truncate(0,2) ]]"]}\n' };
    expect((await composedHere(text, files)).j).toMatchObject({ script: ["echo ab"] });
    expect((await composedByPeer(text, files)).j).not.toMatchObject({ script: ["echo ab"] });
  });
  test("a job that is manual by itself may fail; only and except count; a workflow can say no", async () => {
    expect(await listedHere("j: {script: [x], when: manual}\n")).toMatchObject([{ allowFailure: true }]);
    expect(await listedByPeer("j: {script: [x], when: manual}\n")).toMatchObject([{ allowFailure: false }]);
    const only = "j: {script: [x], only: [tags]}\nk: {script: [x]}\n";
    expect((await listedHere(only)).map(({ name }) => name)).toEqual(["k"]);
    expect((await listedByPeer(only)).map(({ name }) => name)).toEqual(["j", "k"]);
    const workflow = "workflow: {rules: [{if: $NOPE}]}\nj: {script: [x]}\n";
    expect(await listedHere(workflow)).toEqual([]);
    expect(await listedByPeer(workflow)).toHaveLength(1);
  });
  test("T54: an unset variable is an empty text to a regular expression, and white space is nothing", async () => {
    const text = "j: {script: [x], rules: [{if: '$NOPE =~ /^$/'}]}\nk: {script: [x]}\n";
    expect((await listedHere(text)).map(({ name }) => name)).toEqual(["j", "k"]);
    expect((await listedByPeer(text)).map(({ name }) => name)).toEqual(["k"]);
  });
});
