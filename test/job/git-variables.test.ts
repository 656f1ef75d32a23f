import { expect, test } from "vitest";
import { gitVariables, type JobGitVariables } from "../../src/job/variables/git-variables.ts";

const PAIRS = {
  GIT_CONFIG_COUNT: "4",
  GIT_CONFIG_KEY_0: "url.https://mirror/.insteadOf",
  GIT_CONFIG_VALUE_0: "https://g.example.com/",
  GIT_CONFIG_KEY_1: "core.sshCommand",
  GIT_CONFIG_VALUE_1: "evil",
  GIT_CONFIG_KEY_2: "lfs.customtransfer.x.path",
  GIT_CONFIG_VALUE_2: "evil",
  GIT_CONFIG_KEY_3: "http.https://g.example.com/.extraHeader",
  GIT_CONFIG_VALUE_3: "X-A: b",
};
const WORDS = {
  GIT_SSH_COMMAND: "ssh -i key",
  GIT_LFS_CONCURRENT: "4",
  GIT_LFS_PROGRESS: "/tmp/x",
  GIT_STRATEGY: "fetch",
};

function of(mode: JobGitVariables, variables: Record<string, string>, apart = false, own: Record<string, string> = {}) {
  const environment = Object.entries(own).map(([key, value]) => ({ key, value }));
  const { ops, warning } = gitVariables({
    mode,
    apart,
    environment,
    names: Object.keys(variables),
    get: (key) => variables[key],
  });
  return { set: Object.fromEntries(ops.flatMap((op) => (op.op === "export" ? [[op.name, op.value]] : []))), warning };
}

const SAFE = {
  GIT_LFS_CONCURRENT: "4",
  GIT_CONFIG_COUNT: "2",
  GIT_CONFIG_KEY_0: PAIRS.GIT_CONFIG_KEY_0,
  GIT_CONFIG_VALUE_0: PAIRS.GIT_CONFIG_VALUE_0,
  GIT_CONFIG_KEY_1: PAIRS.GIT_CONFIG_KEY_3,
  GIT_CONFIG_VALUE_1: PAIRS.GIT_CONFIG_VALUE_3,
};

test("a job's words to git that start no program reach the fetching, numbered anew; the others are named once", () => {
  const { set, warning } = of("safe", { ...PAIRS, ...WORDS });
  expect(set).toEqual(SAFE);
  expect(warning).toBe(
    'The sources are fetched without "GIT_SSH_COMMAND", "GIT_LFS_PROGRESS", "core.sshCommand", "lfs.customtransfer.x.path", as job_git_variables = "safe" of this runner\'s entry has it; the job\'s script has them.',
  );
});

test("an operator can let all of them through, but never to where somebody else fetches, or none", () => {
  const all = of("all", { ...PAIRS, ...WORDS });
  expect(all.set).toMatchObject({ ...PAIRS, GIT_SSH_COMMAND: "ssh -i key", GIT_LFS_PROGRESS: "/tmp/x" });
  expect([all.warning, "GIT_STRATEGY" in all.set]).toEqual([null, false]);
  const apart = of("all", { ...PAIRS, ...WORDS }, true);
  expect(apart.set).toEqual(SAFE);
  expect(apart.warning).toContain("as another user than the job's");
  expect(of("none", { ...PAIRS, ...WORDS }).set).toEqual({});
  expect(of("none", { GIT_STRATEGY: "fetch", GIT_DEPTH: "1" })).toEqual({ set: {}, warning: null });
});

test("counts that are none are nothing, and large ones end", () => {
  for (const count of ["-1", "x", "1.5", ""]) expect(of("all", { GIT_CONFIG_COUNT: count }).set).toEqual({});
  expect(of("safe", { GIT_CONFIG_COUNT: "999999999999" })).toEqual({ set: {}, warning: null });
});

test("settings of the operator's stay, before those of the job", () => {
  const own = { GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: "http.sslCAInfo", GIT_CONFIG_VALUE_0: "/etc/mirror.pem" };
  const job = { GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: "http.version", GIT_CONFIG_VALUE_0: "HTTP/1.1" };
  expect(of("safe", job, false, own).set).toEqual({
    GIT_CONFIG_COUNT: "2",
    GIT_CONFIG_KEY_0: "http.sslCAInfo",
    GIT_CONFIG_VALUE_0: "/etc/mirror.pem",
    GIT_CONFIG_KEY_1: "http.version",
    GIT_CONFIG_VALUE_1: "HTTP/1.1",
  });
  expect(of("safe", {}, false, own).set).toEqual({});
});

test("settings of the job's surroundings stay, and come first", () => {
  const job: Record<string, string> = {
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "http.version",
    GIT_CONFIG_VALUE_0: "HTTP/1.1",
  };
  const settings = [["safe.directory", "/builds/p"]] as const;
  const request = { mode: "safe", apart: false, environment: [], settings, names: Object.keys(job) } as const;
  const { ops } = gitVariables({ ...request, get: (key) => job[key] });
  expect(ops).toEqual([
    { op: "export", name: "GIT_CONFIG_KEY_0", value: "safe.directory" },
    { op: "export", name: "GIT_CONFIG_VALUE_0", value: "/builds/p" },
    { op: "export", name: "GIT_CONFIG_KEY_1", value: "http.version" },
    { op: "export", name: "GIT_CONFIG_VALUE_1", value: "HTTP/1.1" },
    { op: "export", name: "GIT_CONFIG_COUNT", value: "2" },
  ]);
});
