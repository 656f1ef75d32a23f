import { describe, expect, test } from "vitest";
import type { Job } from "../../src/job/job.ts";
import { expandReferences } from "../../src/job/variables/expand.ts";
import { secretsOf } from "../../src/job/variables/secrets.ts";
import { createVariables, type JobVariables, type VariableSources } from "../../src/job/variables/variables.ts";
import { jobWith, variable } from "./stand.ts";

const place = {
  root: "/builds/7e3b05c2/0/acme/widget",
  tmpDir: "/builds/7e3b05c2/0.tmp/acme/widget",
  buildsDir: "/builds",
  projectSlot: 1,
  acceptsName: (name: string) => /^[A-Za-z_]\w*$/.test(name),
};

function variablesOf(job: Partial<Job>, more: Partial<VariableSources> = {}): JobVariables {
  return createVariables({
    job: jobWith(job),
    environment: [],
    identity: { version: "2.0.0", revision: "abc1234", architecture: "linux/amd64" },
    shortToken: "aBcDeFgHi",
    flags: [],
    concurrentId: 3,
    shared: true,
    place,
    ...more,
  });
}

function exported(variables: JobVariables): Record<string, string> {
  return Object.fromEntries(
    variables
      .exports("author")
      .map((op) =>
        op.op === "export" ? [op.name, op.value] : op.op === "exportFile" ? [op.name, `file:${op.path}`] : [],
      ),
  );
}

describe("references", () => {
  const values: Record<string, string> = { A: "value", A_: "underscore", A1: "one", B: "$A" };

  test.each([
    ["$A", "value"],
    ["${A}", "value"],
    ["x${A}y", "xvaluey"],
    ["$A_ $A1 $A-", "underscore one value-"],
    ["$B", "$A"],
    ["$$", "$"],
    ["$$A", "$A"],
    ["$$$A", "$value"],
    ["a$*b$#c$@d$!e$?f$0g$9h$-i", "abcdefghi"],
    ["aa${@}bb${-}${1}", "aabb"],
    ["${A:-d}|${A/x/y}|${A b}", "||"],
    ["a${}b", "ab"],
    ["${", ""],
    ["${A", "A"],
    ["${A${B}", ""],
    ["$(cmd) `cmd` $ x %A% $", "$(cmd) `cmd` $ x %A% $"],
    ["\\$A", "\\value"],
    ["$/dsa", "$/dsa"],
    ["pa$$word", "pa$word"],
    ["é$A世", "évalue世"],
    ["$é", "$é"],
    ["$UNKNOWN", ""],
    ["no reference", "no reference"],
  ])("%j becomes %j", (text, expected) => {
    expect(expandReferences(text, (name) => values[name] ?? "")).toBe(expected);
  });

  test("cost time in proportion to the text, and memory within a bound", () => {
    const start = performance.now();
    expandReferences("${".repeat(1_000_000), () => "x");
    expandReferences("${}".repeat(1_000_000), () => "x");
    expect(expandReferences("$A".repeat(1_000_000), () => "x".repeat(100_000)).length).toBe(1024 * 1024);
    expect(performance.now() - start).toBeLessThan(5000);
  });
});

describe("variables", () => {
  test("of the operator are overridden by the job's, and both by what only the runner knows", () => {
    const variables = variablesOf(
      {
        variables: [
          variable("A", "job"),
          variable("CI_PROJECT_DIR", "/elsewhere"),
          variable("CI_SERVER", "no"),
          variable("A", "later"),
        ],
        image: { name: "ruby:$A", entrypoint: null, pullPolicies: [], user: null, platform: null },
        timeoutMs: 3_600_000,
      },
      {
        environment: [
          { key: "A", value: "operator" },
          { key: "B", value: "x=y=$A" },
        ],
      },
    );
    expect(exported(variables)).toEqual({
      CI_RUNNER_SHORT_TOKEN: "aBcDeFgHi",
      CI_JOB_IMAGE: "ruby:later",
      A: "later",
      B: "x=y=later",
      CI_SERVER: "no",
      CI_PROJECT_DIR: place.root,
      CI_BUILDS_DIR: "/builds",
      RUNNER_TEMP_PROJECT_DIR: place.tmpDir,
      CI_CONCURRENT_ID: "3",
      CI_CONCURRENT_PROJECT_ID: "1",
      CI_JOB_TIMEOUT: "3600",
      CI_RUNNER_VERSION: "2.0.0",
      CI_RUNNER_REVISION: "abc1234",
      CI_RUNNER_EXECUTABLE_ARCH: "linux/amd64",
      CI_SHARED_ENVIRONMENT: "true",
    });
    expect(exported(variablesOf({ variables: [] }, { shared: false }))).toMatchObject({
      CI_DISPOSABLE_ENVIRONMENT: "true",
    });
    expect(exported(variablesOf({ variables: [] }, { shared: false }))).not.toHaveProperty("CI_SHARED_ENVIRONMENT");
  });

  test("begin with the short form of the runner's token, which anybody may see, where it has one", () => {
    const variables = variablesOf({ variables: [] });
    expect(variables.all()[0]).toMatchObject({ key: "CI_RUNNER_SHORT_TOKEN", value: "aBcDeFgHi", public: true });
    expect(variables.open()).toContainEqual(expect.objectContaining({ key: "CI_RUNNER_SHORT_TOKEN" }));
    expect(exported(variablesOf({ variables: [] }, { shortToken: "" }))).not.toHaveProperty("CI_RUNNER_SHORT_TOKEN");
  });

  test("of AlloyCI are put into one another in the order of reference, as GitLab's server does", () => {
    const variables = variablesOf({
      variables: [
        variable("C", "$B"),
        variable("B", "${A}-$NOPE-$CI_PROJECT_DIR"),
        variable("A", "1"),
        variable("X", "a$Y"),
        variable("Y", "b$X"),
        variable("AT_CIRCLE", "$X"),
        variable("RAW", "raw-$A", { raw: true }),
        variable("OF_RAW", "$RAW"),
        variable("SECRET", "pa$A", { public: false }),
        variable("OF_SECRET", "$SECRET"),
        variable("FILE", "$A", { file: true }),
        variable("OF_FILE", "$FILE"),
        variable("OF_ALL", "$OF_RAW $OF_SECRET $C $$A"),
        variable("PATH", "$PATH:/$A"),
      ],
    });
    const { get } = variables;
    expect(get("C")).toBe(`1--${place.root}`);
    expect([get("X"), get("Y"), get("AT_CIRCLE")]).toEqual(["a$Y", "b$X", "a$Y"]);
    expect([get("OF_RAW"), get("OF_SECRET"), get("OF_FILE")]).toEqual(["raw-$A", "pa$A", `${place.tmpDir}/FILE`]);
    expect(get("OF_ALL")).toBe(`raw-$A pa$A 1--${place.root} $A`);
    expect(variables.exports("author")).toContainEqual({
      op: "export",
      name: "PATH",
      value: ":/1",
      around: ["", ":/1"],
    });
  });

  test("of AlloyCI may refer to one another in long chains and multiply within a bound", () => {
    const chain = Array.from({ length: 5000 }, (_, index) => variable(`V${index}`, `$V${index + 1}`));
    const ended = variablesOf({ variables: [...chain, variable("V5000", "end")] });
    expect(ended.get("V0")).toBe("end");
    const doubling = Array.from({ length: 60 }, (_, index) => variable(`W${index}`, `$W${index + 1}$W${index + 1}`));
    const { expand } = variablesOf({ variables: [...doubling, variable("W60", "x".repeat(100))] });
    expect(expand("$W59")).toHaveLength(200);
  });

  test("are expanded once, against what is not expanded, where GitLab's server has done the rest", () => {
    const variables = variablesOf({
      dialect: "gitlab",
      variables: [variable("C", "$B"), variable("B", "$A"), variable("A", "1"), variable("D", "${A}$NOPE.")],
    });
    expect([variables.get("C"), variables.get("B"), variables.get("D")]).toEqual(["$A", "1", "1."]);
    expect(variables.expand("img:$A-$B")).toBe("img:1-$A");
  });

  test("that are secret, raw or files are not expanded", () => {
    const list = [
      variable("A", "1"),
      variable("SECRET", "pa$$word$A", { public: false }),
      variable("RAW", "$A", { raw: true }),
      variable("FILE", "$A", { file: true }),
      variable("PATH_OF_FILE", "$FILE"),
    ];
    const alloy = variablesOf({ variables: list });
    expect(alloy.get("SECRET")).toBe("pa$$word$A");
    expect(alloy.get("RAW")).toBe("$A");
    expect(alloy.exports("author")).toContainEqual({
      op: "exportFile",
      name: "FILE",
      path: `${place.tmpDir}/FILE`,
      content: "$A",
    });
    expect(alloy.get("PATH_OF_FILE")).toBe(`${place.tmpDir}/FILE`);
    expect(variablesOf({ variables: list, dialect: "gitlab" }).get("SECRET")).toBe("pa$word1");
  });

  test("that name themselves build on the definition below, or on what the shell has", () => {
    const below = variablesOf({ variables: [variable("A", "one"), variable("A", "$A-two")] });
    expect(below.get("A")).toBe("one-two");
    const outside = variablesOf({ variables: [variable("PATH", "$PATH:/x")] });
    expect(outside.exports("author")).toContainEqual({ op: "export", name: "PATH", value: ":/x", around: ["", ":/x"] });
    const both = variablesOf(
      { variables: [variable("PATH", "/job:${PATH}")] },
      { environment: [{ key: "PATH", value: "/operator:$PATH" }] },
    );
    expect(both.exports("author")).toContainEqual({
      op: "export",
      name: "PATH",
      value: "/job:/operator:",
      around: ["/job:/operator:", ""],
    });
    // A job's PATH does not apply to the runner's own commands; the operator's does.
    expect(both.exports("runner")).toContainEqual({
      op: "export",
      name: "PATH",
      value: "/operator:",
      around: ["/operator:", ""],
    });
  });

  test("reach the runner's own commands only where they mean nothing to them", () => {
    const keys = [
      "CI_COMMIT_SHA",
      "https_proxy",
      "NO_PROXY",
      "DEPLOY_KEY",
      "LD_PRELOAD",
      "GIT_SSH_COMMAND",
      "SSH_AUTH_SOCK",
      "PATH",
      "LC_ALL",
    ];
    const variables = variablesOf({
      variables: [
        ...keys.map((key) => variable(key, "x")),
        variable("GIT_TRACE", "1"),
        variable("GIT_TRACE_CURL", "/tmp/file"),
      ],
    });
    const names = (audience: "runner" | "hooks" | "author"): string[] =>
      variables
        .exports(audience)
        .flatMap((op) =>
          op.op === "export" && [...keys, "GIT_TRACE", "GIT_TRACE_CURL"].includes(op.name) ? [op.name] : [],
        );
    expect(names("runner")).toEqual(["CI_COMMIT_SHA", "https_proxy", "NO_PROXY", "GIT_TRACE"]);
    expect(names("hooks")).toEqual(["CI_COMMIT_SHA", "https_proxy", "NO_PROXY", "DEPLOY_KEY", "GIT_TRACE"]);
    expect(names("author")).toHaveLength(11);
  });

  test("too large to be passed on are named, files are not too large", () => {
    expect(variablesOf({ variables: [variable("BIG", "x".repeat(131_067))] }).problem).toBeNull();
    expect(variablesOf({ variables: [variable("BIG", "x".repeat(131_068))] }).problem).toContain('"BIG"');
    expect(variablesOf({ variables: [variable("BIG", "é".repeat(65_534))] }).problem).toContain('"BIG"');
    expect(variablesOf({ variables: [variable("BIG", "x".repeat(2_000_000), { file: true })] }).problem).toBeNull();
    const bomb = [variable("A", "x".repeat(130_000)), variable("BOMB", "$A".repeat(60_000))];
    expect(variablesOf({ variables: bomb }).problem).toContain('"BOMB"');
  });

  test("in their thousands, and of one name, are quick", () => {
    const start = performance.now();
    const many = Array.from({ length: 10_000 }, (_, i) => variable(`V${i}`, `$V${i + 1} ${"x".repeat(1000)}`));
    expect(variablesOf({ variables: many }).exports("author").length).toBeGreaterThan(10_000);
    const same = Array.from({ length: 10_000 }, () => variable("K", "$K$K"));
    expect(variablesOf({ variables: same }).problem).toBeNull();
    expect(performance.now() - start).toBeLessThan(5000);
  });
});

describe("secrets", () => {
  test("of AlloyCI are all that is not public; of GitLab what is masked; and tokens and passwords of both", () => {
    const repoUrl = "https://x-access-token:v1.aa%2Faa@github.com/acme/widget.git";
    const job = jobWith({
      git: { ...jobWith().git, repoUrl },
      variables: [
        variable("OPEN", "public-value"),
        variable("CLOSED", "closed$OPEN", { public: false }),
        variable("MASKED", "masked-value", { masked: true }),
        variable("CI_REPOSITORY_URL", "https://only-a-token@github.com/x", { public: true }),
        variable("EMPTY", "", { public: false }),
        variable("DOCKER_AUTH_CONFIG", JSON.stringify({ auths: { "r.tld": { auth: "dTpwdXNoLW1l" }, s: 1 } })),
      ],
      credentials: [{ url: "registry", username: "me", password: "registry-password" }],
      dependencies: [{ id: "1", name: "a", token: "dependency-token", file: null }],
    });
    const common = [
      "runner-token",
      job.token,
      "v1.aa%2Faa",
      "v1.aa/aa",
      "only-a-token",
      "registry-password",
      "dependency-token",
      "masked-value",
      "dTpwdXNoLW1l",
      "push-me",
    ];
    expect([...secretsOf(job, ["runner-token"]).values].sort()).toEqual(
      [...common, "closed$OPEN", "closedpublic-value"].sort(),
    );
    expect([...secretsOf({ ...job, dialect: "gitlab" }, ["runner-token"]).values].sort()).toEqual(common.sort());
    expect(secretsOf(jobWith({ git: { ...job.git, repoUrl: "git@github.com:acme/widget.git" } })).values).toEqual([
      jobWith().token,
    ]);
  });
});

test("others than the job's scripts are told what is open, and nothing secret by a detour", () => {
  const job = jobWith({
    token: "the-job-token",
    variables: [
      variable("OPEN", "a $PLAIN", { public: true }),
      variable("PLAIN", "b", { public: true }),
      variable("DETOUR", "x$HIDDEN", { public: true }),
      variable("HIDDEN", "s1", { public: true, masked: true }),
      variable("PRIVATE", "s2", { public: false }),
      variable("FILE", "s3", { public: true, file: true }),
      variable("URL", "https://x:the-job-token@host", { public: true }),
      variable("TWICE", "s4", { public: false }),
      variable("TWICE", "open", { public: true }),
      variable("RAW", "$PLAIN", { public: true, raw: true }),
      variable("API_TOKEN", "t", { public: true }),
      variable("PATH", "/mine", { public: true }),
      variable("SELF", "$SELF:/x", { public: true }),
    ],
  });
  const environment = [
    { key: "FROM_ENTRY", value: "e $PLAIN" },
    { key: "PRIVATE", value: "s5" },
  ];
  const open = new Map(
    variablesOf(job, { environment })
      .open()
      .map((one) => [one.key, one]),
  );
  const told = (key: string) => {
    const { value, complete, secretName, ofOperator, redirecting } = open.get(key) ?? {};
    return [value, complete, secretName, ofOperator, redirecting];
  };
  expect(told("OPEN")).toEqual(["a b", true, false, false, false]);
  expect(told("DETOUR")).toEqual(["x", false, false, false, false]);
  expect(told("RAW")).toEqual(["$PLAIN", true, false, false, false]);
  expect(told("API_TOKEN")).toEqual(["t", true, true, false, false]);
  expect(told("PATH")).toEqual(["/mine", true, false, false, true]);
  expect(told("SELF")).toEqual([":/x", false, false, false, false]);
  expect(told("FROM_ENTRY")).toEqual(["e b", true, false, true, false]);
  expect(told("CI_PROJECT_DIR")).toEqual([place.root, true, false, false, false]);
  expect(["HIDDEN", "PRIVATE", "FILE", "URL", "TWICE"].filter((key) => open.has(key))).toEqual([]);
  expect(JSON.stringify([...open.values()])).not.toMatch(/s[1-5]"|the-job-token/);
});

test("what the operator names is expanded over what no job can change", () => {
  const variables = variablesOf(
    {
      image: { name: "mine", entrypoint: null, pullPolicies: [], user: null, platform: null },
      variables: [variable("REGISTRY", "evil"), variable("CI_RUNNER_VERSION", "9"), variable("TAG", "evil")],
    },
    { environment: [{ key: "REGISTRY", value: "registry.example.com" }], place: null },
  );
  const written = "$REGISTRY/helper:$CI_RUNNER_VERSION-${CI_RUNNER_REVISION}$TAG$CI_JOB_IMAGE";
  expect(variables.expandSettled(written)).toBe("registry.example.com/helper:2.0.0-abc1234");
  expect(variables.expand("$REGISTRY")).toBe("evil");
});

test("what is told of references that multiply is bounded", () => {
  const long = "x".repeat(100_000);
  const many = Array.from({ length: 1000 }, (_, index) => variable(`V${index}`, "$LONG".repeat(100), { public: true }));
  const job = jobWith({ variables: [variable("LONG", long, { public: true }), ...many] });
  const total = variablesOf(job)
    .open()
    .reduce((sum, { key, value }) => sum + key.length + value.length, 0);
  expect(total).toBeLessThan(1024 * 1024);
});

describe("for an executor's own programs", () => {
  test("all variables are there, expanded, a file's content as it is, and what is secret says so", () => {
    const variables = variablesOf(
      {
        variables: [
          variable("A", "1"),
          variable("B", "$A-b"),
          variable("PASSWORD", "s3cret", { public: false }),
          variable("KEY", "line\n", { file: true }),
        ],
      },
      { place: null },
    );
    const found = new Map(variables.all().map((each) => [each.key, each]));
    expect(found.get("B")).toEqual({ key: "B", value: "1-b", public: true, file: false, masked: false, raw: true });
    expect(found.get("PASSWORD")).toMatchObject({ value: "s3cret", public: false });
    expect(found.get("KEY")).toMatchObject({ value: "line\n", file: true, public: false });
    expect(found.has("CI_PROJECT_DIR")).toBe(false);
  });

  test("what its environment adds wins over the job's own, and is expanded against all", () => {
    const added = [variable("A", "from the driver"), variable("C", "$A!")];
    const variables = variablesOf({ variables: [variable("A", "1")] }, { place: { ...place, added } });
    expect(exported(variables)).toMatchObject({ A: "from the driver", C: "from the driver!" });
  });
});
