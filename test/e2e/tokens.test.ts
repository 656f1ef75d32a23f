import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { lockFile } from "../../src/config/file/lock.ts";
import { lockPathOf } from "../../src/config/file/replace.ts";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { never } from "../../src/time.ts";
import { emptyHome, registering, runProgram, start } from "../support/program.ts";

const DAY_SECONDS = 86_400;

let home: Awaited<ReturnType<typeof emptyHome>>;
let coordinator: LocalCoordinator;
let file: string;

beforeEach(async () => {
  home = await emptyHome();
  coordinator = await startCoordinator({ dialect: "gitlab", tokenLifeSeconds: 4 * DAY_SECONDS });
  file = join(home.dir, "config.toml");
});
afterEach(async () => {
  await coordinator.close();
  await home.dispose();
});

const run = (...args: readonly string[]) => runProgram([...args, "-c", file], { home: home.dir });
const runnerFlags = (token: string, name: string) => [
  "register",
  "-n",
  "-u",
  coordinator.url,
  "-t",
  token,
  "--name",
  name,
  "--executor",
  "shell",
];
const readConfig = () => readFile(file, "utf8");
const asked = (endpoint: string) => coordinator.requests.filter((one) => one.endpoint === endpoint);
const tokensOf = (text: string): string[] => [...text.matchAll(/ token = "(.*)"/g)].flatMap(([, token]) => token ?? []);

/** Registers a runner that was made in the web pages, and has its token be two days old and dead in an hour. */
async function registerDue(): Promise<string> {
  const runner = coordinator.addRunner({ tokenExpiresAt: new Date(Date.now() + 3_600_000).toISOString() });
  const result = await run(...runnerFlags(runner.token, "ours"));
  expect(result.code, result.stderr).toBe(0);
  const old = new Date(Date.now() - 2 * 86_400_000).toISOString().slice(0, 19);
  const text = await readConfig();
  await writeFile(
    file,
    `listen_address = "127.0.0.1:0"\nstate_dir = "state"\n${text.replace("concurrent = 1", "concurrent = 2").replace(/(token_obtained_at = ).*/, `$1${old}Z # by hand`)}`,
  );
  return runner.token;
}

function startRunner() {
  const running = start(["run", "-c", file], { home: home.dir });
  onTestFinished(async () => {
    await running.stop("SIGKILL");
  });
  return running;
}

test("a runner's token is exchanged while it works on a job, which notices nothing", async () => {
  const old = await registerDue();
  const [verified] = asked("verify");
  expect(JSON.parse(String(verified?.body)).info).toMatchObject({
    executor: "shell",
    features: { cancel_gracefully: true },
  });
  expect(await readConfig()).toMatch(
    / id = 1\n {2}token = "glrt-.*"\n {2}token_obtained_at = .*\n {2}token_expires_at = .*Z\n/,
  );
  // What asks first is a request for a job with the old token.
  const gate = Promise.withResolvers<void>();
  coordinator.intercept = ({ endpoint, count }) => {
    if (endpoint === "verify" && count > 1) gate.resolve();
    return endpoint === "verify" && coordinator.jobs.every(({ trace }) => !trace.includes("begun"))
      ? { kind: "status", status: 500 }
      : undefined;
  };
  const job = coordinator.enqueue({
    script: ["echo begun", `while [ ! -e ${home.dir}/go ]; do sleep 0.1; done; echo ended`],
  });
  const running = startRunner();
  await running.seen(/was exchanged for a new one/);
  await coordinator.waitForRequest(
    (one) => one.endpoint === "job_request" && one.body.includes(coordinator.runners[0]?.token ?? "-"),
  );
  await writeFile(join(home.dir, "go"), "");
  await expect.poll(() => job.status, { timeout: 20_000 }).toBe("success");
  expect(job.trace).toContain("ended");
  const next = coordinator.enqueue({ script: ["echo of the new token"] });
  await expect.poll(() => next.status, { timeout: 20_000 }).toBe("success");
  const text = await readConfig();
  expect(tokensOf(text)).toEqual([coordinator.runners[0]?.token]);
  expect(text).toContain("Z # by hand");
  expect(asked("reset_token")).toHaveLength(1);
  const [, url = ""] = await running.seen(/serving metrics.*url=(\S+)/);
  const metrics = await (await fetch(url)).text();
  expect(metrics).toMatch(/alloy_runner_token_expires_timestamp_seconds\{[^}]*runner_name="ours"[^}]*\} [\d.e+]+\n/);
  expect(metrics).toMatch(/gitlab_runner_api_request_statuses_total\{[^}]*endpoint="reset_token",status="201"/);
  expect(metrics).toContain("gitlab_runner_configuration_saved_total 1");
  expect(metrics).toMatch(/alloy_runner_entry_healthy\{[^}]*runner_name="ours"[^}]*\} 1/);
  const said = running.stdout() + running.stderr();
  for (const token of [old, coordinator.runners[0]?.token ?? ""]) expect(said).not.toContain(token.slice(5));
});

test("a runner that is killed between the new token and the file uses it at its next start and repairs the file", async () => {
  const old = await registerDue();
  const before = await readConfig();
  const running = startRunner();
  {
    // Nobody gets at the file meanwhile.
    await using _lock = await lockFile(lockPathOf(file), {}, never);
    await coordinator.waitForRequest((one) => one.endpoint === "reset_token" && one.status === 201);
    const notes = async () =>
      (await readdir(join(home.dir, "state"), { recursive: true })).filter((name) => /tokens\/.*\.json$/.test(name));
    await expect.poll(notes).toHaveLength(1);
    await running.stop("SIGKILL");
  }
  expect(await readConfig()).toBe(before);
  const job = coordinator.enqueue({ script: ["true"] });
  const again = startRunner();
  await expect.poll(() => job.status, { timeout: 20_000 }).toBe("success");
  expect(tokensOf(await readConfig())).toEqual([coordinator.runners[0]?.token]);
  expect(coordinator.runners[0]?.token).not.toBe(old);
  expect(asked("reset_token")).toHaveLength(1);
  expect(again.stderr()).toContain("is in the configuration now");
  expect(again.stderr() + running.stderr()).not.toMatch(/glrt-(?!…)\w/);
});

test("reset-token exchanges the tokens that are meant, and touches no file where it cannot", async () => {
  const first = coordinator.addRunner();
  const second = coordinator.addRunner();
  expect((await run(...runnerFlags(first.token, "first"))).code).toBe(0);
  expect((await run(...runnerFlags(second.token, "second"))).code).toBe(0);
  const text = await readConfig();
  const old = [first.token, second.token];

  for (const [args, message] of [
    [[], "say which: --name NAME"],
    [["--name", "third"], "has no runner with --name third"],
    [["--url", coordinator.url], "say which: --name NAME"],
    [["--name", "first", "--pat", "glpat-wrong"], "403"],
  ] as const) {
    const refused = await run("reset-token", ...args);
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining(message)]);
    expect(refused.stderr).not.toContain("glpat-wrong");
  }
  await writeFile(file, text.replace(/ {2}id = 1\n/, ""));
  const nameless = await run("reset-token", "--name", "first", "--pat", "glpat-x");
  expect([nameless.code, nameless.stderr]).toEqual([1, expect.stringContaining('needs the key "id"')]);
  await writeFile(file, text);
  expect([first.token, second.token]).toEqual(old);

  expect(await run("reset-token", "--name", "first")).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("has a new token, which expires"),
  });
  expect(tokensOf(await readConfig())).toEqual([first.token, old[1]]);
  coordinator.switches.personalToken = "glpat-right";
  const byPerson = await run("reset-token", "--url", coordinator.url, "--id", "2", "--pat", "glpat-right");
  expect(byPerson.code, byPerson.stderr).toBe(0);
  expect(tokensOf(await readConfig())).toEqual([first.token, second.token]);
  expect(second.token).not.toBe(old[1]);

  // One that the coordinator does not know any more keeps nobody from the others.
  first.token = "glrt-somebody-elses";
  const half = await run("reset-token", "--all-runners");
  expect([half.code, half.stderr]).toEqual([1, expect.stringContaining('"first"')]);
  expect(tokensOf(await readConfig())[1]).toBe(second.token);
  expect(half.stdout + half.stderr).not.toMatch(/glrt-\w/);
});

test("register saves whose token it is and how long it lives, and nothing of a token that is nobody's", async () => {
  const made = await run(
    ...registering(
      { config: file, url: coordinator.url, token: coordinator.registrationToken },
      "--name",
      "old fashion",
    ),
  );
  expect(made.code, made.stderr).toBe(0);
  expect(await readConfig()).toMatch(
    /id = 1\n {2}token = "glrtr-.*"\n {2}token_obtained_at = .*\n {2}token_expires_at = /,
  );
  expect(JSON.parse(String(asked("register")[0]?.body)).info.features).toMatchObject({ cancel_gracefully: true });
  const text = await readConfig();
  coordinator.switches.verifyAsText = true;
  const { token } = coordinator.addRunner();
  const refused = await run(...runnerFlags(token, "x"));
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining("did not say whose it is")]);
  expect(await readConfig()).toBe(text);
});
