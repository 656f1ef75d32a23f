import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { footprint } from "../support/memory.ts";
import { isAlive } from "../support/processes.ts";
import { emptyHome, type Running, runProgram, start } from "../support/program.ts";
import { openSite, type Site, type SiteOptions } from "../support/site.ts";

const open: Site[] = [];
async function site(options: SiteOptions): Promise<Site> {
  const opened = await openSite(options);
  open.push(opened);
  return opened;
}
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

/** A job that writes its pid, prints `ready`, and works until it is stopped. */
function endless(file: string): string[] {
  return [`echo $$ > ${file}; echo ready; while :; do sleep 0.2; done`];
}

describe("signals", () => {
  test("SIGQUIT lets the running job finish, takes no other and ends with 0", async () => {
    const { coordinator, runner, dir } = await site({ dialect: "alloy" });
    const gate = join(dir, "gate");
    const job = coordinator.enqueue({
      script: [`echo ready; while [ ! -e ${gate} ]; do sleep 0.05; done; echo finished`],
    });
    await job.traceContains("ready");
    runner.child.kill("SIGQUIT");
    await runner.seen(/asking for no more jobs/);
    const later = coordinator.enqueue({ script: ["true"] });
    await writeFile(gate, "");
    const { code } = await runner.exit;
    expect(code).toBe(0);
    expect(job.status).toBe("success");
    expect(job.trace).toContain("finished");
    expect(later.status).toBe("pending");
  });

  test.each(["SIGTERM", "SIGINT"] as const)(
    "%s stops jobs, reports them with their trace and leaves",
    async (signal) => {
      const { coordinator, runner, dir } = await site({ dialect: "gitlab" });
      const file = join(dir, "pid");
      const job = coordinator.enqueue({ script: ["trap 'echo cleaned up' TERM EXIT", ...endless(file)] });
      await job.traceContains("ready");
      const { code } = await runner.stop(signal);
      expect(code).toBe(0);
      expect(job.status).toBe("failed");
      expect(job.updates.at(-1)?.failureReason).toMatch(/runner_system_failure|runner_interrupted/);
      expect(job.trace).toContain("cleaned up");
      expect(isAlive((await readFile(file, "utf8")).trim())).toBe(false);
    },
  );

  test("a second signal ends it at once; the next start ends and reports what was left", async () => {
    const one = await site({ dialect: "alloy" });
    const file = join(one.dir, "pid");
    const job = one.coordinator.enqueue({ script: [`trap '' TERM; ${endless(file)[0]}`] });
    await job.traceContains("ready");
    one.runner.child.kill("SIGTERM");
    await one.runner.seen(/stopping/);
    const { code } = await one.runner.stop("SIGTERM");
    expect(code).toBe(1);
    expect(job.status).toBe("running");
    await one.start();
    await job.reported();
    expect(job.status).toBe("failed");
    expect(job.trace).toContain("ready");
    expect(isAlive((await readFile(file, "utf8")).trim())).toBe(false);
  });

  test("a job that is handed out while the runner stops is answered", async () => {
    const one = await site({ dialect: "alloy", stopped: true, jobRequestDelayMs: 800 });
    const job = one.coordinator.enqueue({ script: ["echo NEVER"] });
    const runner = await one.start();
    const { code } = await runner.stop("SIGTERM");
    expect(code).toBe(0);
    expect(job.pickedUpAt).toBeDefined();
    expect(job.status, runner.stderr()).toBe("failed");
    expect(job.trace).not.toMatch(/^NEVER/m);
    expect(job.trace.trimEnd().split("\n").at(-1)).toMatch(/runner was stopped/);
    expect(await readdir(join(one.stateDir, "jobs"))).toEqual([]);
  });
});

describe("reload", () => {
  test("entries come and go without touching the running job", async () => {
    const one = await site({ dialect: "alloy", entries: 2, global: "concurrent = 4" });
    const { coordinator, runner, dir, tokens } = one;
    const gate = join(dir, "gate");
    const job = coordinator.enqueue({
      script: [`echo ready; while [ ! -e ${gate} ]; do sleep 0.05; done`],
      runnerToken: tokens[1] ?? "",
    });
    await job.traceContains("ready");
    const from = runner.stderr().length;
    await one.configure({ entries: 1, global: "concurrent = 4" });
    await runner.seen(/configuration in force.*runners=1/, { from });
    await writeFile(gate, "");
    await job.finished();
    expect(job.status).toBe("success");
    const second = coordinator.enqueue({ script: ["true"], runnerToken: tokens[1] ?? "" });
    const first = coordinator.enqueue({ script: ["true"], runnerToken: tokens[0] ?? "" });
    await first.finished();
    expect(second.status).toBe("pending");
    await one.configure({ entries: 2, global: "concurrent = 4" });
    await second.finished();
    expect(second.status).toBe("success");
  });

  test("a broken file leaves the old one in force and says where it is broken; SIGHUP looks again", async () => {
    const { coordinator, runner, configFile } = await site({ dialect: "alloy" });
    const good = await readFile(configFile, "utf8");
    await writeFile(configFile, good.replace("state_dir", "concurrent = 0\nstate_dir"));
    runner.child.kill("SIGHUP");
    await runner.seen(/old one stays in force.*config\.toml:\d+.*concurrent/s);
    const job = coordinator.enqueue({ script: ["true"] });
    await job.finished();
    expect(job.status).toBe("success");
    for (const bad of ["concurrent = 0\n", "concurrent = [\n"]) {
      const from = runner.stderr().length;
      await writeFile(configFile, bad + good);
      runner.child.kill("SIGHUP");
      await runner.seen(/stays in force/, { from });
    }
    const from = runner.stderr().length;
    await writeFile(`${configFile}.new`, `log_level = "debug"\n${good}`, { mode: 0o600 });
    await rename(`${configFile}.new`, configFile);
    await runner.seen(/configuration in force/, { from });
  });

  test("connections are left when they are connection_max_age old, and when that changes", async () => {
    const one = await site({
      dialect: "alloy",
      global: 'check_interval = 1\nconnection_max_age = "1h"',
      idleTimeoutMs: 60_000,
    });
    const nextOf = async (count: number): Promise<Set<number>> => {
      const seen: number[] = [];
      while (seen.length < count) {
        const request = await one.coordinator.waitForRequest(({ endpoint }) => endpoint === "job_request", {
          future: true,
        });
        seen.push(request.connection);
        await one.coordinator.waitForRequest((other) => other === request && other.endedAt !== undefined);
      }
      return new Set(seen);
    };
    expect((await nextOf(6)).size).toBe(1);
    const from = one.runner.stderr().length;
    await one.configure({ global: 'check_interval = 1\nconnection_max_age = "1s"' });
    await one.runner.seen(/configuration in force/, { from });
    expect((await nextOf(12)).size).toBeGreaterThan(2);
  });

  test("limits change while it runs", async () => {
    const one = await site({ dialect: "alloy", global: "concurrent = 1" });
    const gate = join(one.dir, "gate");
    const script = [`echo ready; while [ ! -e ${gate} ]; do sleep 0.05; done`];
    const [a, b, c] = [0, 1, 2].map(() => one.coordinator.enqueue({ script }));
    await a?.traceContains("ready");
    await one.configure({ global: "concurrent = 2" });
    await b?.traceContains("ready");
    expect(c?.status).toBe("pending");
    await writeFile(gate, "");
    await c?.finished();
    expect(c?.status).toBe("success");
  });
});

describe("an entry that cannot be used", () => {
  const BROKEN = 'alloy_runner_entry_configuration_errors_total{runner="';

  test("is said with line and reason, and costs the others nothing; mending it brings it back", async () => {
    const one = await site({ dialect: "alloy", entries: 2, global: 'concurrent = 4\nlisten_address = "127.0.0.1:0"' });
    const [token = "", second = ""] = one.tokens;
    const gate = join(one.dir, "gate");
    const wait = [`echo ready; while [ ! -e ${gate} ]; do sleep 0.05; done`];
    const jobs = [token, second].map((runnerToken) => one.coordinator.enqueue({ script: wait, runnerToken }));
    for (const job of jobs) await job.traceContains("ready");
    const good = await readFile(one.configFile, "utf8");
    const at = good.lastIndexOf('"shell"');
    const line = good.slice(0, at).split("\n").length;
    const [, url = ""] = await one.runner.seen(/serving metrics .*url=(\S+)/);
    const metrics = async (): Promise<string> => (await fetch(url)).text();

    await writeFile(one.configFile, `${good.slice(0, at)}"shel"${good.slice(at + 7)}`);
    await one.runner.seen(new RegExp(`an entry cannot be used.*name=runner-1.*config.toml:${line}: .*executor.*shell`));
    const [labels] = (await metrics()).match(/runner="\w+",runner_name="runner-1"/) ?? [""];
    expect(await metrics()).toMatch(new RegExp(`^alloy_runner_entry_healthy\\{${labels},.* 0$`, "m"));
    expect(await metrics()).toMatch(/^alloy_runner_entry_healthy\{.*runner_name="runner-0".* 1$/m);
    expect(await metrics()).toContain(BROKEN);
    // The jobs of both entries end as they would have; the broken entry asks for no more.
    await writeFile(gate, "");
    for (const job of jobs) await job.finished();
    expect(jobs.map(({ status }) => status)).toEqual(["success", "success"]);
    const none = one.coordinator.enqueue({ script: ["true"], runnerToken: second });
    const other = one.coordinator.enqueue({ script: ["true"], runnerToken: token });
    await other.finished();
    expect([other.status, none.status]).toEqual(["success", "pending"]);

    await writeFile(one.configFile, good);
    await none.finished();
    expect(none.status).toBe("success");
    expect(await metrics()).toMatch(new RegExp(`^alloy_runner_entry_healthy\\{${labels},.* 1$`, "m"));
  });

  test("and is the only one: run says so and waits for it to be mended", async () => {
    const one = await site({ dialect: "alloy", stopped: true });
    const good = await readFile(one.configFile, "utf8");
    const broken = {
      executor: good.replace('"shell"', '"kubernetes-in-space"'),
      url: good.replace("http://", ""),
      limit: `${good}limit = "2"\n`,
      token: good.replace(/token = .*/, ""),
    };
    await writeFile(one.configFile, broken.executor);
    const runner = start(["run", "-c", one.configFile], { home: one.dir });
    try {
      await runner.seen(/no runner can be used/);
      await runner.seen(/config\.toml:\d+: runners\.executor of .*runner-0/);
      for (const key of ["url", "limit", "token"] as const) {
        await writeFile(one.configFile, broken[key]);
        await runner.seen(new RegExp(`config\\.toml:\\d+: runners\\.${key} of .*runner-0`));
      }
      const job = one.coordinator.enqueue({ script: ["true"] });
      await writeFile(one.configFile, good);
      await job.finished();
      expect(job.status).toBe("success");
    } finally {
      await runner.stop();
    }
  });
});

describe("what is wrong at the start", () => {
  async function refuses(config: string, args: readonly string[] = []): Promise<string> {
    const home = await emptyHome();
    try {
      const file = join(home.dir, "config.toml");
      await writeFile(file, config.replaceAll("STATE", join(home.dir, "state")), { mode: 0o600 });
      const result = await runProgram(["run", "-c", file, ...args], { home: home.dir });
      expect(result.code, result.stderr).toBe(1);
      expect(result.stderr).not.toMatch(/\n\s+at /);
      return result.stderr;
    } finally {
      await home.dispose();
    }
  }
  const entry = '[[runners]]\nname = "a"\nurl = "https://ci.example.com"\ntoken = "t"\nexecutor = "shell"\n';

  test.each([
    ["concurrent = 0", `concurrent = 0\n${entry}`, /config\.toml:1: concurrent/],
    ["a bad log level", `log_level = "loud"\n${entry}`, /config\.toml:1:.*log_level/],
    ["broken TOML", "concurrent = = 2\n", /config\.toml:1/],
    [
      "a state directory that cannot be made",
      `state_dir = "/proc/nowhere/state"\n${entry}`,
      /state_dir|\/proc\/nowhere/,
    ],
    ["a metrics address that is none", `state_dir = "STATE"\nlisten_address = "a:b:c"\n${entry}`, /a:b:c/],
  ])("%s ends it with a message that names it", async (_, config, message) => {
    expect(await refuses(config)).toMatch(message);
  });

  test("a metrics port in use ends it with a message that names it", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise<void>((resolve) => server.once("listening", () => resolve()));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    try {
      expect(await refuses(`state_dir = "STATE"\n${entry}`, ["--listen-address", `127.0.0.1:${port}`])).toContain(
        String(port),
      );
    } finally {
      server.close();
    }
  });

  test("a working directory that does not exist ends it with a message that names it", async () => {
    expect(await refuses(`state_dir = "STATE"\n${entry}`, ["-d", "/nonexistent/dir"])).toContain("/nonexistent/dir");
  });

  test("a state directory in use ends it with the other's pid", async () => {
    const one = await site({ dialect: "alloy" });
    const result = await runProgram(["run", "-c", one.configFile], { home: one.dir });
    expect(result.code).toBe(1);
    expect(result.stderr).toContain(String(one.runner.pid));
  });

  test("two configurations without a state_dir do not meet, nor does run-single with its flags", async () => {
    const one = await site({ dialect: "alloy", stopped: true });
    const runners: { readonly running: Running; readonly stateDir: string }[] = [];
    try {
      for (const name of ["config", "other", "single", "single-too"]) {
        const { token } = one.coordinator.addRunner();
        const file = join(one.dir, `${name}.toml`);
        const lines = `name = "${name}"\nurl = "${one.coordinator.url}"\ntoken = "${token}"\nexecutor = "shell"`;
        await writeFile(file, `[[runners]]\n${lines}\n`, { mode: 0o600 });
        const flags = ["--url", one.coordinator.url, "--token", token, "--executor", "shell"];
        const words = name.startsWith("single") ? ["run-single", ...flags] : ["run", "--config", file];
        const env = { XDG_STATE_HOME: join(one.dir, "xdg") };
        const running = start([...words, "--working-directory", one.workDir], { home: one.dir, env });
        const [, stateDir = ""] = await running.seen(/ state_dir=(\S+)/);
        runners.push({ running, stateDir });
        await one.coordinator.waitForRequest(({ body }) => body.toString().includes(token));
      }
      expect(new Set(runners.map(({ stateDir }) => stateDir)).size).toBe(4);
    } finally {
      for (const { running, stateDir } of runners) {
        await running.stop();
        await rm(stateDir, { recursive: true });
      }
    }
  });

  test("a configuration that others can read is warned about, a misspelt key too", async () => {
    const one = await site({ dialect: "alloy", stopped: true, global: "concurent = 3" });
    await chmod(one.configFile, 0o644);
    const runner = await one.start();
    expect(runner.stderr()).toMatch(/chmod 600|0600/);
    expect(runner.stderr()).toMatch(/concurent.*concurrent/);
  });

  test("no configuration at all: it waits for one and says what to do", async () => {
    const one = await site({ dialect: "alloy", stopped: true });
    const text = await readFile(one.configFile, "utf8");
    await rm(one.configFile);
    const { start } = await import("../support/program.ts");
    const runner = start(["run", "-c", one.configFile], { home: one.dir });
    try {
      await runner.seen(/alloy-runner register/);
      const job = one.coordinator.enqueue({ script: ["true"] });
      await writeFile(one.configFile, text, { mode: 0o600 });
      await job.finished();
      expect(job.status).toBe("success");
    } finally {
      await runner.stop();
    }
  });
});

describe("coordinators in trouble", () => {
  test("a result survives an outage, frees its slot at once and arrives whole", async () => {
    const { coordinator, dir } = await site({ dialect: "gitlab" });
    const gate = join(dir, "gate");
    const job = coordinator.enqueue({
      script: [`echo ready; while [ ! -e ${gate} ]; do sleep 0.05; done; seq 1 5000; echo LAST`],
    });
    await job.traceContains("ready");
    coordinator.intercept = ({ jobId }) => (jobId === job.id ? { kind: "status", status: 503 } : undefined);
    await writeFile(gate, "");
    // concurrent is 1: the second job can only run when the first has given its slot back.
    const second = coordinator.enqueue({ script: ["echo second"] });
    await second.finished();
    expect(job.status).toBe("running");
    coordinator.intercept = undefined;
    await job.finished({ timeoutMs: 90_000 });
    expect(job.status).toBe("success");
    expect(job.trace).toContain("\nLAST");
    expect(job.trace.split("\n").filter((line) => line.trim() === "2500")).toHaveLength(1);
  });

  test("a result that could not be delivered is delivered by the next process", async () => {
    const one = await site({ dialect: "alloy" });
    const job = one.coordinator.enqueue({ script: ["echo precious"] });
    one.coordinator.intercept = ({ endpoint }) => (endpoint === "job_request" ? undefined : { kind: "drop" });
    await job.running();
    await one.runner.seen(/job.*(success|succeeded)/i);
    await one.runner.stop("SIGTERM");
    one.coordinator.intercept = undefined;
    await one.start();
    await job.finished();
    expect(job.status).toBe("success");
    expect(job.trace).toContain("precious");
  });

  test("an unknown token is told once and asked about ever more rarely", async () => {
    const { coordinator, runner } = await site({ dialect: "alloy", global: "check_interval = 1" });
    coordinator.intercept = ({ endpoint }) =>
      endpoint === "job_request" ? { kind: "status", status: 401 } : undefined;
    await runner.seen(/token/);
    const errors = runner.stderr().match(/ERROR/g) ?? [];
    expect(errors.length).toBeLessThanOrEqual(1);
  });

  test("kill -9 in mid-job: the next start ends its processes, keeps its trace and reports it once", async () => {
    const one = await site({ dialect: "gitlab", global: "concurrent = 4\ncheck_interval = 1\ndurable = false" });
    const file = join(one.dir, "pid");
    const job = one.coordinator.enqueue({
      script: [
        "echo before the end",
        `setsid sh -c 'echo $$ > ${file}; exec sleep 600' & while [ ! -s ${file} ]; do sleep 0.05; done; echo ready; sleep 600`,
      ],
    });
    await job.traceContains("ready");
    await one.runner.stop("SIGKILL");
    const pid = (await readFile(file, "utf8")).trim();
    expect(isAlive(pid)).toBe(true);
    await one.start();
    await job.reported();
    expect(job.status).toBe("failed");
    expect(job.updates.filter(({ state }) => state !== "running")).toHaveLength(1);
    expect(job.updates.at(-1)?.failureReason).toBe("runner_system_failure");
    expect(job.trace).toContain("before the end");
    expect(job.trace.trimEnd().split("\n").at(-1)).toMatch(/runner/);
    expect(isAlive(pid)).toBe(false);
    const next = one.coordinator.enqueue({ script: ["true"] });
    await next.finished();
    expect(next.status).toBe("success");
  });
});

describe("run-single and metrics", () => {
  test("run-single works by flags alone and ends after --max-builds", async () => {
    const one = await site({ dialect: "alloy", stopped: true });
    const jobs = [1, 2, 3].map((number) => one.coordinator.enqueue({ script: [`echo job ${number}`] }));
    const args = [
      "run-single",
      "-u",
      one.coordinator.url,
      `--token=${one.tokens[0]}`,
      "--executor",
      "shell",
      "--max-builds",
      "2",
      "--env",
      "GREETING=hi",
      "-d",
      one.workDir,
    ];
    const result = await runProgram(args, { home: one.dir });
    expect(result.code, result.stderr).toBe(0);
    expect(jobs.map((job) => job.status)).toEqual(["success", "success", "pending"]);
  });

  test("run-single takes an entry of a file and ends after --wait-timeout", async () => {
    const one = await site({ dialect: "alloy", stopped: true, entries: 2 });
    const result = await runProgram(
      ["run-single", "-c", one.configFile, "-r", "runner-1", "--wait-timeout", "2", "-d", one.workDir],
      { home: one.dir },
    );
    expect(result.code, result.stderr).toBe(0);
    expect(result.stderr).toContain("no job came");
    const missing = await runProgram(["run-single", "-c", one.configFile, "-r", "nobody"], { home: one.dir });
    expect(missing.code).toBe(1);
    expect(missing.stderr).toContain("runner-0");
  });

  test("metrics are served with known names and without tokens", async () => {
    const { coordinator, runner, tokens } = await site({ dialect: "alloy", global: 'listen_address = "127.0.0.1:0"' });
    const [, url] = await runner.seen(/serving metrics.*url=(\S+)/);
    const job = coordinator.enqueue({ script: ["exit 1"] });
    await job.finished();
    const text = await (await fetch(url ?? "")).text();
    for (const name of [
      "ci_runner_version_info",
      "ci_runner_failed_jobs_total",
      "gitlab_runner_jobs_total",
      "process_resident_memory_bytes",
      "alloy_runner_",
    ]) {
      expect(text).toContain(name);
    }
    expect(text).not.toContain(tokens[0]?.slice(0, 8));
    expect((await fetch((url ?? "").replace("/metrics", "/debug/pprof/"))).status).toBe(404);
    expect(await (await fetch((url ?? "").replace("/metrics", "/debug/process/state"))).text()).toBe("running\n");
  });

  test("a job that cannot be run here fails by its configuration, once, and stages are measured unless a job says no", async () => {
    const { coordinator, runner } = await site({ dialect: "gitlab", global: 'listen_address = "127.0.0.1:0"' });
    const [, url = ""] = await runner.seen(/serving metrics.*url=(\S+)/);
    const run = JSON.stringify([{ name: "one", script: "echo hello" }]);
    for (const reasons of [["runner_configuration_error"], ["script_failure"]]) {
      const features = { failure_reasons: reasons };
      const steps = coordinator.enqueue({ payload: (payload) => ({ ...payload, steps: [], run, features }) });
      expect(await steps.reported()).toMatchObject({ state: "failed", failureReason: reasons[0] });
      expect(steps.trace).toContain("This job is written as `run` steps, which this runner does not support");
    }
    const stages = async (): Promise<number> =>
      [
        ...(await (await fetch(url)).text()).matchAll(
          /^gitlab_runner_job_stage_duration_seconds_count.*step_script.* (\d+)$/gm,
        ),
      ]
        .map(([, times]) => Number(times))
        .reduce((sum, times) => sum + times, 0);
    const variables = { GIT_STRATEGY: "none", FF_EXPORT_HIGH_CARDINALITY_METRICS: "false" };
    await coordinator.enqueue({ script: ["true"], variables }).finished();
    expect(await stages()).toBe(0);
    await coordinator.enqueue({ script: ["true"], variables: { GIT_STRATEGY: "none" } }).finished();
    await expect.poll(stages, { timeout: 10_000 }).toBe(1);
  });

  test("metrics are served while strangers open connections as fast as they can", async () => {
    const { runner } = await site({ dialect: "alloy", global: 'listen_address = "127.0.0.1:0"' });
    const [, url = ""] = await runner.seen(/serving metrics.*url=(\S+)/);
    const before = footprint(runner.pid).residentMb;
    const flood = spawn(process.execPath, [join(import.meta.dirname, "../support/flood.mjs"), new URL(url).port], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      await once(flood.stdout, "data");
      const scrape = async (): Promise<string> => {
        const answer = await fetch(url, { signal: AbortSignal.timeout(5000) }).catch((error: unknown) => error);
        return answer instanceof Response ? await answer.text() : String(answer);
      };
      const isGood = (text: string): boolean => text.includes("ci_runner_version_info");
      const failed: string[] = [];
      for (let round = 0; round < 40; round++) {
        // The server may have closed the connection of a client that had no processor time for a while, so that client
        // asks again.
        const text = await scrape();
        const again = isGood(text) ? text : await scrape();
        if (!isGood(again)) failed.push(again);
      }
      expect(failed).toEqual([]);
      if (process.platform === "linux") expect(footprint(runner.pid).residentMb - before).toBeLessThan(30);
    } finally {
      flood.kill();
      await once(flood, "close");
    }
  });

  test("a scripts' account of its own: --user runs jobs as somebody else", async ({ skip }) => {
    if (process.getuid?.() !== 0) skip("only root can run jobs as somebody else");
    const one = await site({ dialect: "alloy", stopped: true });
    await chmod(one.dir, 0o755);
    const runner = await one.start({}, ["--user", "nobody-of-this-name"]);
    const refused = one.coordinator.enqueue({ script: ["true"] });
    await refused.finished();
    expect(refused.status).toBe("failed");
    expect(refused.trace).toContain("nobody-of-this-name");
    await runner.stop();
    await chmod(one.workDir, 0o777);
    await one.start({}, ["--user", "games"]);
    const job = one.coordinator.enqueue({ script: ["id -un", 'test "$HOME" != "/root"'], afterScript: ["id -u"] });
    await job.reported();
    if (job.status === "success") expect(job.trace).toMatch(/^games$/m);
    else expect(job.trace).toMatch(/nologin|shell/);
  });
});

test.skipIf(process.platform !== "linux")("the engine's settings are the runner's own, and reach no job", async () => {
  const { coordinator, runner } = await site({ dialect: "alloy" });
  const job = coordinator.enqueue({ script: ["env -0 | tr '\\0' '\\n' | sed 's/^/has /'"] });
  await job.reported({ timeoutMs: 30_000 });
  expect(job.status).toBe("success");
  const own = (await readFile(`/proc/${runner.pid}/environ`, "latin1")).split("\0").map((entry) => entry.split("=")[0]);
  // Under Node there are none.
  const wanted = (await readFile(`/proc/${runner.pid}/comm`, "latin1")).startsWith("alloy") ? 4 : 0;
  expect(own.filter((name) => name?.startsWith("BUN_JSC_"))).toHaveLength(wanted);
  expect(job.trace).toMatch(/^has PATH=/m);
  expect(job.trace).not.toMatch(/^has BUN_/m);
});

test("the demo works word for word, and leaves nothing", async () => {
  const home = await emptyHome();
  try {
    const result = await runProgram(["demo"], { home: home.dir });
    expect(result.code, result.stderr + result.stdout).toBe(0);
    expect(result.stdout).toMatch(/compile +build +success/);
    expect(result.stdout).toMatch(/lint +test +failed.*allowed/);
    expect(result.stdout).not.toContain("correct-horse-battery");
    expect(existsSync(join(home.dir, ".local"))).toBe(false);
  } finally {
    await home.dispose();
  }
});

test("the bundle does the same under Node", async () => {
  const home = await emptyHome();
  try {
    const result = await runProgram(["demo"], { home: home.dir, runtime: "node" });
    expect(result.code, result.stderr + result.stdout).toBe(0);
    expect(result.stdout).toMatch(/unit +test +success/);
  } finally {
    await home.dispose();
  }
});
