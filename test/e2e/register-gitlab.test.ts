import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { emptyHome, registering, runProgram } from "../support/program.ts";

let home: Awaited<ReturnType<typeof emptyHome>>;
let coordinator: LocalCoordinator;
let file: string;

beforeEach(async () => {
  home = await emptyHome();
  coordinator = await startCoordinator({ dialect: "gitlab" });
  file = join(home.dir, "config.toml");
});
afterEach(async () => {
  await coordinator.close();
  await home.dispose();
});

const run = (args: readonly string[], env: Record<string, string> = {}) => runProgram(args, { home: home.dir, env });
const flags = (...more: readonly string[]) =>
  registering({ config: file, url: coordinator.url, token: coordinator.registrationToken }, ...more);
const sent = () =>
  coordinator.requests.filter(({ endpoint }) => endpoint === "register").map(({ body }) => JSON.parse(String(body)));

/** Writes a template and names it. */
async function template(text: string): Promise<string> {
  const path = join(home.dir, "template.toml");
  await writeFile(path, text);
  return path;
}

describe("settings of the runner at its coordinator", () => {
  const SETTINGS = [
    "--access-level",
    "ref_protected",
    "--maximum-timeout",
    "600",
    "--paused",
    "--maintenance-note",
    "by night",
  ];

  test("go with a registration token", async () => {
    const result = await run(flags(...SETTINGS, "--name", "x"));
    expect(result.code, result.stderr).toBe(0);
    expect(sent()).toMatchObject([
      { access_level: "ref_protected", maximum_timeout: 600, paused: true, maintenance_note: "by night", locked: true },
    ]);
    const byEnvironment = await run(flags("--name", "y"), { REGISTER_PAUSED: "true", REGISTER_MAXIMUM_TIMEOUT: "60" });
    expect(byEnvironment.code, byEnvironment.stderr).toBe(0);
    expect(sent()[1]).toMatchObject({ paused: true, maximum_timeout: 60 });
    const wrong = await run(flags("--access-level", "all"));
    expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining("not_protected or ref_protected")]);
  });

  test("are refused with --token, and have no effect where such a token comes as one for registration", async () => {
    const { token } = coordinator.addRunner();
    const made = (flag: string, ...more: readonly string[]) =>
      run([
        "register",
        "-n",
        "-c",
        file,
        "-u",
        coordinator.url,
        flag,
        token,
        "--executor",
        "shell",
        "--name",
        "z",
        ...more,
      ]);
    for (const more of [SETTINGS, ["--tag-list", "a"], ["--run-untagged"], ["--locked=false"]]) {
      const refused = await made("--token", ...more);
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(`${more[0]?.replace(/=.*/, "")}`)]);
    }
    const warned = await made("--registration-token", ...SETTINGS);
    expect([warned.code, warned.stderr]).toEqual([
      0,
      expect.stringMatching(/warning: --access-level, .*has no effect/),
    ]);
    expect(sent()).toEqual([]);
    const text = await readFile(file, "utf8");
    // Once more the same: it is there, and nothing is wrong with that.
    const again = await made("--token", "--locked");
    expect([again.code, again.stderr]).toEqual([0, expect.stringContaining("nothing to do")]);
    expect(await readFile(file, "utf8")).toBe(text);
  });
});

describe("a template", () => {
  test("fills what flags and answers leave open, tables and lists included; its token and its global keys do not count", async () => {
    const path = await template(
      `concurrent = 50
# of all our machines
[[runners]]
  name = "from the template"
  token = "glrt-not-this-one"
  executor = "docker"
  limit = 7
  environment = ["A=1", "B=2"]
  request_concurrency = 3
  debug_trace_disabled = true
  [runners.feature_flags]
    FF_MASK_ALL_DEFAULT_TOKENS = false
  [runners.docker]
    image = "debian:12"
    privileged = true
    volumes = ["/data"]
    [[runners.docker.services]]
      name = "redis:7"
  [runners.ssh]
    host = "dropped"
  [runners.cache]
    Type = "s3"
    [runners.cache.s3]
      BucketName = "b"
`,
    );
    const args = registering({ config: file, url: coordinator.url, token: coordinator.registrationToken })
      .filter((word) => word !== "--executor" && word !== "shell")
      .concat("--limit", "0", "--env", "C=3", "--docker-privileged=false", "--template-config", path);
    const result = await run(args);
    expect(result.code, result.stderr).toBe(0);
    const text = await readFile(file, "utf8");
    for (const line of [
      'name = "from the template"',
      'executor = "docker"',
      "limit = 0",
      'environment = ["C=3"]',
      "request_concurrency = 3",
      "debug_trace_disabled = true",
      "FF_MASK_ALL_DEFAULT_TOKENS = false",
      'image = "debian:12"',
      "privileged = false",
      '"/data"',
      "[[runners.docker.services]]",
      'name = "redis:7"',
      'Type = "s3"',
      'BucketName = "b"',
    ])
      expect(text).toContain(line);
    expect(text).not.toMatch(/not-this-one|dropped|concurrent = 50/);
    expect(text).toContain(coordinator.runners[0]?.token);
    expect((await run(["list", "-c", file])).code).toBe(0);
  });

  test.each([
    ["[[runners]\n", "template.toml:1"],
    ["concurrent = 2\n", "found none"],
    ["[[runners]]\nlimit = 1\n[[runners]]\nlimit = 2\n", "found 2"],
    ["[[runners]]\nlimit = 'many'\n", "limit"],
  ])("that is none registers nothing: %j", async (text, problem) => {
    const result = await run(flags("--name", "x"), { TEMPLATE_CONFIG_FILE: await template(text) });
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining(problem)]);
    expect(coordinator.runners).toEqual([]);
  });

  test("with a key that nobody knows is told so, with the line", async () => {
    const result = await run(flags("--name", "x", "--template-config", await template("[[runners]]\n\nlimitt = 3\n")));
    expect([result.code, result.stderr]).toEqual([
      0,
      expect.stringContaining('template.toml:3: runners.limitt is not a known key. Did you mean "limit"?'),
    ]);
  });

  test("that is not there is an error", async () => {
    const result = await run(flags("--template-config", "nowhere.toml"));
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("there is no file")]);
  });
});

test("further flags of GitLab Runner's fill the entry, by flag or environment", async () => {
  const result = await run(
    flags(
      "--name",
      "x",
      "--pre-get-sources-script",
      "echo a",
      "--prepare-timeout",
      "10m",
      "--debug-trace-disabled",
      "--strict-check-interval",
      "--feature-flags",
      "FF_MASK_ALL_DEFAULT_TOKENS=false",
      "--feature-flags",
      '{"FF_USE_FASTZIP": true}',
      "--cache-max_uploaded_archive_size",
      "77",
      "--unhealthy-interval",
      "30m",
    ),
    {
      RUNNER_UNHEALTHY_REQUESTS_LIMIT: "9",
      RUNNER_GET_SOURCES_TIMEOUT: "5m",
      RUNNER_POST_GET_SOURCES_SCRIPT: "echo b",
    },
  );
  expect(result.code, result.stderr).toBe(0);
  const text = await readFile(file, "utf8");
  for (const line of [
    'pre_get_sources_script = "echo a"',
    'post_get_sources_script = "echo b"',
    'prepare_timeout = "10m"',
    'get_sources_timeout = "5m"',
    "debug_trace_disabled = true",
    "strict_check_interval = true",
    "unhealthy_requests_limit = 9",
    'unhealthy_interval = "30m"',
    "FF_MASK_ALL_DEFAULT_TOKENS = false",
    "FF_USE_FASTZIP = true",
    "MaxUploadedArchiveSize = 77",
  ])
    expect(text).toContain(line);
  const wrong = await run(flags("--feature-flags", "FF_X=perhaps"));
  expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining("name=true or name=false")]);
});
