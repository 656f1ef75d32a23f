import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Reply, startServer } from "../poll/setting.ts";

let folder = "";
const children: ChildProcess[] = [];
const closers: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "run-")));
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  for (const close of closers.splice(0)) await close();
  await rm(folder, { recursive: true });
});

async function coordinator(reply: (count: number) => Reply) {
  const server = await startServer((_asked, count) => reply(count));
  closers.push(() => server.close());
  return server;
}

async function configure(settings: object | string, name = "config.json") {
  const file = join(folder, name);
  await writeFile(file, typeof settings === "string" ? settings : JSON.stringify(settings));
  return file;
}

/** Starts the program; the result has everything that it has written so far. */
function run(args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) {
  const child = spawn(process.execPath, [join(import.meta.dirname, "run-program.ts"), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    cwd: options.cwd ?? folder,
    env: { ...process.env, ...options.env },
  });
  children.push(child);
  let text = "";
  const looks = new Set<() => void>();
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (more) => {
      text += more;
      for (const look of looks) look();
    });
  }
  const ended = once(child, "close");
  return {
    child,
    get text() {
      return text;
    },
    /** Resolves once the output has this text; rejects if the program ended without it. */
    says(what: string | RegExp, times = 1) {
      return new Promise<void>((resolve, reject) => {
        const look = () => {
          if (text.split(what).length > times) resolve();
        };
        looks.add(look);
        look();
        ended.then(() => reject(new Error(`ended without ${what}:\n${text}`)));
      });
    },
    status: async () => (await ended)[0],
  };
}

describe("run", () => {
  test("on SIGTERM ends jobs and says why, and itself with status 0", async () => {
    const { url } = await coordinator((count) => (count === 1 ? { job: "long" } : 204));
    const program = run([await configure({ url, tokens: ["a"], concurrent: 2 })]);
    await program.says("started long");
    program.child.kill("SIGTERM");
    expect(await program.status()).toBe(0);
    expect(program.text).toMatch(/ended long shutting_down\n[\s\S]*closed\n/);
  });

  test("on SIGQUIT waits for jobs and asks for no more; SIGTERM then ends them", async () => {
    const server = await coordinator((count) => (count === 1 ? { job: "short" } : count === 2 ? { job: "long" } : 204));
    const program = run([await configure({ url: server.url, tokens: ["a"], concurrent: 3 })]);
    await program.says("started long");
    await program.says("started short");
    program.child.kill("SIGQUIT");
    await program.says("asking for no more jobs");
    program.child.kill("SIGQUIT");
    await program.says("asking for no more jobs", 2);
    const asked = server.asked.length;
    await program.says("ended short by itself");
    expect(server.asked.length - asked).toBeLessThanOrEqual(1);
    program.child.kill("SIGINT");
    expect(await program.status()).toBe(0);
    expect(program.text).toContain("ended long shutting_down");
  });

  test("on SIGQUIT without jobs ends with status 0", async () => {
    const { url } = await coordinator(() => 204);
    const program = run([await configure({ url, tokens: ["a"] })]);
    await program.says("configuration in force");
    program.child.kill("SIGQUIT");
    expect(await program.status()).toBe(0);
  });

  test("on SIGUSR2 leaves what can be left to the next process, once the rest has ended", async () => {
    const server = await coordinator((count) =>
      count === 1 ? { job: "short" } : count === 2 ? { job: "durable" } : 204,
    );
    const program = run([await configure({ url: server.url, tokens: ["a"], concurrent: 3 })]);
    await program.says("started durable");
    await program.says("started short");
    program.child.kill("SIGUSR2");
    await program.says("asking for no more jobs");
    program.child.kill("SIGUSR2");
    expect(await program.status()).toBe(0);
    expect(program.text).toMatch(/ended short by itself\n[\s\S]*left durable\n[\s\S]*closed\n/);
  });

  test.each(["SIGTERM", "SIGQUIT"] as const)(
    "on %s hands over where a stop means that, and stops at the next",
    async (signal) => {
      const env = { ALLOY_RUNNER_STOP: "hand-over" };
      const reply = (count: number): Reply => (count === 1 ? { job: "long" } : count === 2 ? { job: "durable" } : 204);
      const { url } = await coordinator(reply);
      const program = run([await configure({ url, tokens: ["a"], concurrent: 3 })], { env });
      await program.says("started durable");
      await program.says("started long");
      program.child.kill(signal);
      await program.says("goes on with those that are durable");
      program.child.kill("SIGTERM");
      expect(await program.status()).toBe(0);
      expect(program.text).toContain("ended long shutting_down");
    },
  );

  test("does not start where a stop is to mean something that there is not", async () => {
    const { url } = await coordinator(() => 204);
    const program = run([await configure({ url, tokens: ["a"] })], { env: { ALLOY_RUNNER_STOP: "handover" } });
    expect(await program.status()).toBe(1);
    expect(program.text).toContain('ALLOY_RUNNER_STOP is "handover": it can be "hand-over", or absent');
  });

  test("on SIGTERM after SIGUSR2 ends all that has not been left by then", async () => {
    const { url } = await coordinator((count) =>
      count === 1 ? { job: "long" } : count === 2 ? { job: "durable" } : 204,
    );
    const program = run([await configure({ url, tokens: ["a"], concurrent: 3 })]);
    await program.says("started durable");
    await program.says("started long");
    program.child.kill("SIGUSR2");
    await program.says("asking for no more jobs");
    program.child.kill("SIGTERM");
    expect(await program.status()).toBe(0);
    for (const job of ["long", "durable"]) expect(program.text).toContain(`ended ${job} shutting_down`);
  });

  test("ends at once on a second signal", async () => {
    const { url } = await coordinator((count) => (count === 1 ? { job: "deaf" } : 204));
    const program = run([await configure({ url, tokens: ["a"] })]);
    await program.says("started deaf");
    program.child.kill("SIGTERM");
    await program.says("stopping");
    program.child.kill("SIGTERM");
    expect(await program.status()).toBe(1);
    expect(program.text).toContain("ending at once");
    expect(program.text).not.toContain("ended deaf");
  });

  test("ends with status 1 when shutdown_timeout passes", async () => {
    const { url } = await coordinator((count) => (count === 1 ? { job: "deaf" } : 204));
    const program = run([await configure({ url, tokens: ["a"], shutdownTimeoutMs: 200 })]);
    await program.says("started deaf");
    program.child.kill("SIGTERM");
    expect(await program.status()).toBe(1);
    expect(program.text).toContain("shutdown_timeout has passed");
  });

  test("stops cleanly when told so while it starts", async () => {
    const { url } = await coordinator(() => 204);
    const program = run([await configure({ url, tokens: ["a"] }), "", "slow"]);
    await program.says("starts");
    program.child.kill("SIGHUP");
    program.child.kill("SIGTERM");
    expect(await program.status()).toBe(0);
  });

  test("takes a new configuration on SIGHUP, and keeps the old one when the new one is broken", async () => {
    const one = await coordinator(() => 204);
    const two = await coordinator(() => 204);
    const program = run([await configure({ url: one.url, tokens: ["a"], metricsAddress: "127.0.0.1:0" })]);
    await program.says(/url=http:\/\/127.0.0.1:\d+\/metrics/);
    const before = /url=(http\S+\/metrics)/.exec(program.text)?.[1] ?? "";
    expect(await (await fetch(before)).text()).toContain('gitlab_runner_process_state_info{state="running"} 1');
    expect((await fetch(before.replace("metrics", "health/ready"))).status).toBe(200);

    await configure("nonsense");
    program.child.kill("SIGHUP");
    await program.says("the old one stays in force");
    const asked = one.asked.length;
    await one.until(() => one.asked.length > asked + 2);
    expect(await (await fetch(before)).text()).toContain("gitlab_runner_configuration_loading_error_total 1");

    await configure({ url: two.url, tokens: ["b"], metricsAddress: "localhost:0", warnings: ["mind the gap"] });
    program.child.kill("SIGHUP");
    await two.until(() => two.asked.length > 2);
    await program.says(/\/metrics/, 2);
    expect(program.text).toContain("<4>mind the gap");
    await expect(fetch(before)).rejects.toThrow();
    program.child.kill("SIGTERM");
    expect(await program.status()).toBe(0);
  });

  test("without any runner says what to do and waits for one", async () => {
    const { url } = await coordinator((count) => (count === 1 ? { job: "short" } : 204));
    const program = run([await configure({})]);
    await program.says("alloy-runner register");
    await configure({ url, tokens: ["a"] });
    program.child.kill("SIGHUP");
    await program.says("ended short by itself");
  });

  test("opens no debugger on SIGUSR1, but lists the jobs", async () => {
    const { url } = await coordinator((count) => (count === 1 ? { job: "long" } : 204));
    const program = run([await configure({ url, tokens: ["a"] })]);
    await program.says("started long");
    program.child.kill("SIGUSR1");
    await program.says(/jobs in progress {2}count=1/);
    await program.says(/job {2}job=long title="group\/project: job long" runner=id-a state=received seconds=\d/);
    expect(program.text).not.toContain("Debugger");
  });

  test("survives what nobody caught, and ends the job that it came from", async () => {
    const { url } = await coordinator((count) =>
      count === 1 ? { job: "stray" } : count === 2 ? { job: "short" } : 204,
    );
    const program = run([await configure({ url, tokens: ["a"], concurrent: 1 })]);
    await program.says("ended stray SystemFailure");
    await program.says("ended short by itself");
    expect(program.text).toMatch(/kind="uncaught exception" job=stray problem="stray exception"/);
    expect(program.text).toMatch(/kind="unhandled rejection" job=stray problem="stray rejection"/);
  });

  test("means a relative --config from where it was started, not from --working-directory", async () => {
    await configure({}, "mine.json");
    await mkdir(join(folder, "work"));
    const program = run(["mine.json", "work"]);
    await program.says(`opened in ${join(folder, "work")}`);
    expect(program.text).toContain(`config=${join(folder, "mine.json")}`);
  });

  test.each([
    [
      "a missing working directory",
      {},
      "nowhere",
      /^Cannot change into --working-directory "nowhere": ENOENT.*Create it/m,
    ],
    ["a broken configuration", "nonsense", "", /^\S+config\.json:1: concurrent: expected a number$/m],
    ["an address that cannot be read", { metricsAddress: "a:b:c" }, "", /^The metrics address "a:b:c" cannot be used/m],
  ])("ends with status 1 and one clear message for %s", async (_title, settings, directory, message) => {
    const program = run([await configure(settings), directory]);
    expect(await program.status()).toBe(1);
    expect(program.text).toMatch(message);
    expect(program.text).not.toMatch(/^ +at /m);
  });

  test("ends with status 1 when the metrics address is busy", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    closers.push(async () => other.close());
    const address = other.address();
    const port = address === null || typeof address === "string" ? 0 : address.port;
    const program = run([await configure({ metricsAddress: `127.0.0.1:${port}` })]);
    expect(await program.status()).toBe(1);
    expect(program.text).toMatch(
      new RegExp(`^Cannot serve metrics on 127.0.0.1:${port}: .*EADDRINUSE.* another listen_address$`, "m"),
    );
  });

  test("warns of a state_dir that is not the one in use, and not when it is set back", async () => {
    const { url } = await coordinator(() => 204);
    const settings = { url, tokens: ["a"] };
    const program = run([await configure({ ...settings, stateDir: "/one" })]);
    await program.says("configuration in force");
    for (const [round, stateDir] of ["/two", "/two", "/one"].entries()) {
      await configure({ ...settings, stateDir });
      program.child.kill("SIGHUP");
      await program.says("configuration in force", round + 2);
    }
    expect(program.text.match(/new state_dir.*/g)).toEqual([
      "new state_dir is used after a restart  state_dir=/two until_then=/one",
    ]);
  });
});
