import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, lstat, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { LocalJob } from "../../src/local/coordinator/coordinator.ts";
import { program, type Running, runProgram, start } from "../support/program.ts";
import { openSite, type Site } from "../support/site.ts";

const SECRET = "hunter2-hunter2-hunter2";

/** Drops every request from here on. */
const away: Site["coordinator"]["intercept"] = () => ({ kind: "drop" });

let site: Site;
beforeEach(async () => {
  site = await openSite({
    dialect: "alloy",
    entries: 2,
    global: 'concurrent = 4\nlisten_address = "127.0.0.1:0"',
    entry: "limit = 2",
  });
  await listens();
});
afterEach(async () => await site.close());

/** Waits long, because each look starts a program. */
const eventually = (look: () => Promise<void>): Promise<void> => vi.waitFor(look, { timeout: 20_000, interval: 100 });
const flags = (): string[] => ["--config", site.configFile];
const call = (...args: string[]) => runProgram([...args, ...flags()], { home: site.dir });
/** The socket is opened at about the time of the first request for a job. */
const listens = () => eventually(async () => expect((await lstat(socket())).isSocket()).toBe(true));
const socket = (): string => join(site.stateDir, "control", "socket");

async function answer(...args: string[]) {
  const { code, stdout, stderr } = await call(...args, "--json");
  expect(stderr, stdout).toBe("");
  expect(code).toBe(0);
  return JSON.parse(stdout);
}

/** A job that prints its lines, and goes on once the file that is its gate exists. */
function gated(name: string, more: { afterScript?: string[] } = {}): { job: LocalJob; open: () => Promise<void> } {
  const gate = join(site.dir, `gate-${name}`);
  const job = site.coordinator.enqueue({
    name,
    runnerToken: site.tokens[0] ?? "",
    variables: [{ key: "SECRET", value: SECRET, masked: true }],
    script: [`echo begun with $SECRET; while [ ! -e ${gate} ]; do sleep 0.05; done; echo finished`],
    ...more,
  });
  return { job, open: () => writeFile(gate, "") };
}

describe("a running runner", () => {
  test("shows its entries, jobs and the last that ended, also while the coordinator is away", async () => {
    const first = gated("first");
    await first.job.traceContains("begun");
    site.coordinator.intercept = away;
    const status = await answer("jobs");
    expect(status).toMatchObject({
      state: "running",
      concurrent: 4,
      config: site.configFile,
      pid: site.runner.pid,
      jobs: [{ id: first.job.id, runner: "runner-0", state: "running", stage: "build_script" }],
      finished: [],
    });
    expect(status.runners).toMatchObject([
      { name: "runner-0", executor: "shell", limit: 2, jobs: 1 },
      { name: "runner-1", executor: "shell", limit: 2, jobs: 0 },
    ]);
    await eventually(async () =>
      expect((await call("jobs")).stdout).toMatch(/^runner-1 +shell +0\/2 +backing off until /m),
    );
    await first.open();
    await eventually(async () => {
      const { stdout } = await call("jobs");
      expect(stdout).toMatch(new RegExp(`^${first.job.id} +runner-0 +reports \\(success\\) `, "m"));
    });
    // The coordinator does not know of the end yet, so the trace can still be read here.
    const { stdout: trace } = await call("logs", first.job.id);
    expect(trace).toContain("begun with [MASKED]");
    expect(trace).toContain("\nfinished\n");
    site.coordinator.intercept = undefined;
    // A reload ends the pause after a failed request.
    await answer("reload");
    await first.job.reported();
    await eventually(async () => {
      expect(await answer("jobs")).toMatchObject({
        jobs: [],
        finished: [
          {
            state: "ended",
            outcome: { result: "success" },
            stages: [
              { name: "prepare_executor" },
              { name: "get_sources" },
              { name: "build_script" },
              { name: "cleanup_file_variables" },
            ],
          },
        ],
      });
    });
    expect((await call("jobs")).stdout).toMatch(new RegExp(`^${first.job.id} +runner-0 +success `, "m"));
    const gone = await call("logs", first.job.id);
    expect(gone).toMatchObject({ code: 1, stdout: "" });
    expect(gone.stderr).toMatch(/^alloy-runner: Job \d+ has ended and its coordinator has its trace/);
    expect(JSON.stringify(status) + trace).not.toContain(SECRET);
  });

  test("follows a trace to its end, masked, and as JSON", async () => {
    const { job, open } = gated("followed");
    await job.traceContains("begun");
    const follower = start(["logs", job.id, "-f", ...flags()], { home: site.dir });
    const pieces = start(["logs", job.id, "--follow", "--json", ...flags()], { home: site.dir });
    await Promise.all([follower.seen(/begun with \[MASKED\]/), pieces.seen(/begun with \[MASKED\]/)]);
    await open();
    expect(await follower.exit).toMatchObject({ code: 0 });
    expect(follower.stdout()).toContain("\nfinished\n");
    expect(follower.stderr()).toMatch(new RegExp(`^job ${job.id}: success, after \\d+s$`, "m"));
    await pieces.exit;
    const lines = pieces
      .stdout()
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(
      lines
        .slice(0, -1)
        .map(({ text }) => text)
        .join(""),
    ).toBe(follower.stdout());
    expect(lines.at(-1)).toMatchObject({
      end: Buffer.byteLength(follower.stdout()),
      job: { outcome: { result: "success" } },
    });
    await job.reported();
    expect(job.trace).toBe(follower.stdout());
    expect(follower.stdout()).not.toContain(SECRET);
  });

  test("cancels a job, whose after_script still runs", async () => {
    const { job } = gated("canceled", { afterScript: ["echo after $SECRET"] });
    await job.traceContains("begun");
    expect((await call("cancel", job.id)).stdout).toMatch(
      new RegExp(`^job ${job.id} \\(.*canceled\\) is being stopped; its after_script still runs$`, "m"),
    );
    await job.reported();
    expect(job.trace).toContain("after [MASKED]");
    expect(job.trace).toContain("by the operator of this runner");
    await eventually(async () =>
      expect((await answer("jobs")).finished).toMatchObject([{ outcome: { result: "canceled" } }]),
    );
    expect((await call("cancel", job.id)).stderr).toBe(`alloy-runner: Job ${job.id} has ended already\n`);
    expect((await call("cancel", "no/such job")).stderr).toContain("There is no job no/such job here");
  });

  test("pauses and resumes entries; drains; what runs goes on", async () => {
    const { job, open } = gated("long");
    await job.traceContains("begun");
    expect((await call("pause", "runner-1")).stdout).toBe("runner-1: paused\n");
    expect((await call("pause")).stdout).toBe("runner-0: paused; 1 job goes on\nrunner-1: paused\n");
    expect((await call("pause", "runner-7")).stderr).toBe(
      'alloy-runner: There is no runner "runner-7" at work; there is "runner-0", "runner-1"\n',
    );
    const [, metrics] = await site.runner.seen(/serving metrics +url=(\S+)\/metrics/);
    const ready = await fetch(`${metrics}/readyz`);
    expect(ready.status).toBe(503);
    expect(await ready.text()).toBe("not ready: no entry takes jobs\n- runner-0: paused\n- runner-1: paused\n");
    expect(await (await fetch(`${metrics}/metrics`)).text()).toMatch(/runner_name="runner-1".*state="paused"} 1/);
    await answer("resume", "runner-1");
    const other = site.coordinator.enqueue({ script: ["true"], runnerToken: site.tokens[1] ?? "" });
    await other.finished();
    expect((await answer("jobs")).runners).toMatchObject([{ state: "paused" }, {}]);
    expect((await call("drain")).stdout).toMatch(
      /^the runner asks for no more jobs and ends after its last (?:job|2 jobs)$/m,
    );
    await eventually(async () =>
      expect(await answer("jobs")).toMatchObject({ state: "draining", jobs: [{ id: job.id }] }),
    );
    await open();
    expect(await site.runner.exit).toEqual({ code: 0, signal: null });
    expect(job.status).toBe("success");
    const { code, stderr } = await call("jobs");
    expect(code).toBe(1);
    expect(stderr).toContain(`No runner is running for ${site.configFile} (nobody listens at ${socket()})`);
    await expect(lstat(socket())).rejects.toThrow("ENOENT");
  });

  test("draining a runner that is told to stop does not end it at once", async () => {
    const gate = join(site.dir, "gate-stopped");
    const job = site.coordinator.enqueue({
      runnerToken: site.tokens[0] ?? "",
      script: [`trap '' TERM; echo begun; while [ ! -e ${gate} ]; do sleep 0.05; done`],
    });
    await job.traceContains("begun");
    process.kill(site.runner.pid, "SIGTERM");
    await eventually(async () => expect((await answer("jobs")).state).toBe("stopping"));
    expect(await answer("drain")).toEqual({ jobs: 1 });
    expect((await answer("jobs")).state).toBe("stopping");
    await writeFile(gate, "");
    expect(await site.runner.exit).toEqual({ code: 0, signal: null });
    expect(job.status).not.toBe("running");
  });

  test("loads the configuration, and says what is wrong with it", async () => {
    await site.configure({ entries: 1 });
    expect((await call("reload")).stdout).toBe("the configuration is in force: asking for jobs of 1 runner\n");
    const good = await readFile(site.configFile);
    await writeFile(site.configFile, `state_dir = "${site.stateDir}"\nconcurrent = "many"\n`, { mode: 0o600 });
    const broken = await runProgram(["reload", "--state-dir", site.stateDir], { home: site.dir });
    expect(broken.code).toBe(1);
    expect(broken.stderr).toMatch(
      /The new configuration cannot be used, the old one stays in force: .*config\.toml:2.*concurrent/,
    );
    // Where the state is can be told from such a file, too, but not from one that is no TOML.
    expect((await call("jobs")).code).toBe(0);
    await writeFile(site.configFile, `state_dir = "${site.stateDir}"\nconcurrent =\n`, { mode: 0o600 });
    expect((await call("jobs")).stderr).toMatch(/config\.toml:2.*\nThe runner can still be reached with --state-dir/);
    await writeFile(site.configFile, "state_dir = 7\n", { mode: 0o600 });
    expect((await call("jobs")).stderr).toContain("state_dir: expected a text");
    await writeFile(site.configFile, good);
  });
});

describe("the socket", () => {
  test("is its account's alone, whatever became of the rights of its directories", async () => {
    expect((await lstat(socket())).mode & 0o777).toBe(0o600);
    expect((await lstat(join(site.stateDir, "control"))).mode & 0o777).toBe(0o700);
    if (process.geteuid?.() !== 0) return;
    for (const path of [site.dir, site.stateDir, join(site.stateDir, "control")]) await chmod(path, 0o755);
    const asNobody = (...args: string[]) =>
      spawnSync("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", ...args], {
        encoding: "utf8",
        env: { PATH: process.env.PATH, HOME: "/" },
      });
    const [command] = program();
    const told = asNobody(command, "jobs", "--state-dir", site.stateDir);
    expect(told.stderr).toBe(
      `alloy-runner: The runner of ${site.stateDir} belongs to root. Run this as that account, or as root\n`,
    );
    // Others may open the socket now, so the server checks the account of each client.
    await chmod(socket(), 0o666);
    const { stdout } = asNobody(
      process.execPath,
      "-e",
      `
      const socket = require("node:net").connect(${JSON.stringify(socket())});
      let text = "";
      socket.on("connect", () => socket.write("GET /v1/status HTTP/1.1\\r\\n\\r\\n"));
      socket.on("data", (bytes) => { text += bytes; });
      socket.on("error", () => {});
      socket.on("close", () => console.log("closed", JSON.stringify(text)));
    `,
    );
    expect(stdout).toBe('closed ""\n');
    await site.runner.seen(/another account reached the control socket and was turned away +uid=65534/);
  });

  test("answers at once beside clients that are silent, slow, many or talk nonsense", async () => {
    const chatty = site.coordinator.enqueue({ script: ["seq 400000", "sleep 60"], runnerToken: site.tokens[0] ?? "" });
    await chatty.traceContains("399999");
    const sockets: Socket[] = [];
    const open = async (text: string): Promise<void> => {
      const one = connect(socket());
      one.on("error", () => {});
      sockets.push(one);
      await once(one, "connect");
      one.write(text);
      one.pause();
    };
    for (let n = 0; n < 40; n++) await open("");
    for (let n = 0; n < 40; n++) await open(`GET /v1/jobs/${chatty.id}/trace?follow=1 HTTP/1.1\r\n\r\n`);
    for (let n = 0; n < 40; n++) await open(`GET /${"x".repeat(20_000)}`);
    const status = await answer("jobs");
    expect(status.jobs).toMatchObject([{ id: chatty.id }]);
    await Promise.all([answer("cancel", chatty.id), chatty.reported()]);
    for (const one of sockets) one.destroy();
    expect((await answer("jobs")).state).toBe("running");
  });

  test("of another version is named, and so is one that is no socket or left behind", async () => {
    await site.runner.stop("SIGTERM");
    const other = createServer((client) =>
      client.on("data", () =>
        client.end("HTTP/1.1 200 OK\r\nalloy-control: 7\r\nalloy-runner: 9.1.0 (feed)\r\nContent-Length: 2\r\n\r\n{}"),
      ),
    );
    other.listen(socket());
    await once(other, "listening");
    expect((await call("jobs")).stderr).toBe(
      `alloy-runner: The runner of ${site.configFile} is 9.1.0 (feed) and speaks version 7 of the control protocol, this program version 1. Use the program that the runner was started from, or restart the runner\n`,
    );
    await new Promise((resolve) => other.close(resolve));
    await writeFile(socket(), "");
    expect((await call("jobs")).stderr).toMatch(/control\/socket is no socket\. Remove it, and restart the runner/);
    const again: Running = await site.start();
    await listens();
    expect(await answer("jobs")).toMatchObject({ pid: again.pid });
    // SIGKILL leaves the socket's file in its place.
    await again.stop("SIGKILL");
    expect((await call("jobs")).stderr).toContain("No runner is running for");
    await site.start();
    await eventually(async () => expect((await answer("jobs")).state).toBe("running"));
  });

  test("says which methods a path has", async () => {
    const methods = async (path: string, method: string) =>
      await new Promise((resolve, reject) => {
        request({ socketPath: socket(), path: `/v1/${path}`, method, agent: false })
          .on("response", (response) => resolve([response.statusCode, response.headers.allow]))
          .on("error", reject)
          .end();
      });
    expect(await methods("drain", "GET")).toEqual([405, "POST"]);
    expect(await methods("jobs/1/cancel", "DELETE")).toEqual([405, "POST"]);
    expect(await methods("status", "POST")).toEqual([405, "GET"]);
    expect(await methods("status", "GET")).toEqual([200, undefined]);
    expect(await methods("nothing", "GET")).toEqual([404, undefined]);
  });

  test.skipIf(!existsSync("/dev/full"))("may answer what cannot be written: that is an error", async () => {
    const { job, open } = gated("unwritten");
    await job.traceContains("begun");
    for (const args of [["jobs"], ["jobs", "--json"], ["logs", job.id], ["top", "--json"]]) {
      const { status, stderr } = spawnSync("sh", ["-c", '"$@" >/dev/full', "sh", ...program(), ...args, ...flags()], {
        encoding: "utf8",
        env: { PATH: process.env.PATH, HOME: site.dir },
      });
      expect([args, status, stderr]).toEqual([
        args,
        1,
        "alloy-runner: Standard output cannot be written: ENOSPC: no space left on device, write\n",
      ]);
    }
    await open();
  });

  test("may lie deeper than the path of a socket may be long, and without it the runner still runs", async () => {
    await site.runner.stop("SIGTERM");
    const deep = join(site.dir, "d".repeat(120));
    const text = await readFile(site.configFile, "utf8");
    await writeFile(site.configFile, text.replace(site.stateDir, deep), { mode: 0o600 });
    await site.start();
    await eventually(async () => expect((await answer("jobs")).state).toBe("running"));
    await site.runner.stop("SIGTERM");
    await rm(join(deep, "control"), { recursive: true });
    await mkdir(join(site.dir, "elsewhere"));
    await writeFile(join(deep, "control"), "");
    const blocked = await site.start();
    await blocked.seen(/there is no control socket.*control is no directory\. Remove it/);
  });
});
