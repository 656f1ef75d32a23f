import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFailed, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { type Booted, boot, cannotBoot } from "../support/booted.ts";
import { program } from "../support/program.ts";

const missing = cannotBoot();
if (missing !== null && process.env.CI === "true") throw new Error(`the tests of systemd cannot run: ${missing}`);

const RUNNER = "/usr/local/bin/alloy-runner";

describe.skipIf(missing !== null)(`under systemd${missing === null ? "" : ` (skipped: ${missing})`}`, () => {
  let coordinator: LocalCoordinator;
  let system: Booted;

  beforeAll(async () => {
    coordinator = await startCoordinator({ dialect: "gitlab" });
    system = await boot(`mkdir -p root/usr/local/bin; cp ${program()[0]} root${RUNNER}`);
    // No account of the machine has this number: the machine sees these processes, and ends those of accounts that go.
    await system.must(["useradd", "--uid", "61000", "--create-home", "--shell", "/bin/bash", "builder"]);
  });
  afterAll(async () => {
    await system?.close();
    await coordinator?.close();
  });

  const inside = (path: string): string => join(system.root, path);
  const runner = (...args: string[]) => system.exec([RUNNER, ...args]);
  const show = async (property: string, unit = "alloy-runner"): Promise<string> =>
    (await system.must(["systemctl", "show", "--value", `--property=${property}`, unit])).trim();
  const until = async (what: string, look: () => Promise<boolean>): Promise<void> => {
    const end = Date.now() + 60_000;
    while (!(await look())) {
      if (Date.now() > end) {
        const { stdout } = await system.exec(["journalctl", "--no-pager", "-n", "50"]);
        throw new Error(`${what}: not in time\n${stdout}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };

  async function configure(file: string, stateDir: string, more = ""): Promise<string> {
    const { token } = coordinator.addRunner();
    const entry = `name = "one"\nurl = "${coordinator.url}"\ntoken = "${token}"\nexecutor = "shell"\n${more}`;
    await writeFile(inside(file), `state_dir = "${stateDir}"\n[[runners]]\n${entry}\n`, { mode: 0o600 });
    return token;
  }

  test("nothing happens without --user, with an unknown account, or with --dry-run", async () => {
    const none = await runner("install", "--working-directory", "/home/builder");
    expect(none.code).toBe(1);
    expect(none.stderr).toContain("--user builder");
    const unknown = await runner("install", "--user", "nobody-here", "--working-directory", "/home/builder");
    expect(unknown.stderr).toContain('There is no account "nobody-here"');
    const dry = await runner("install", "--user", "builder", "--working-directory", "/home/builder", "--dry-run");
    expect(dry.code).toBe(0);
    expect(dry.stdout).toContain("ExecStart=/usr/local/bin/alloy-runner run --working-directory /home/builder");
    expect(dry.stdout).toContain("run systemctl daemon-reload");
    expect(existsSync(inside("/etc/systemd/system/alloy-runner.service"))).toBe(false);
    expect(existsSync(inside("/etc/alloy-runner"))).toBe(false);
    const start = await runner("start");
    expect(start.code).toBe(1);
    expect(start.stderr).toContain('run "alloy-runner install" first');
    expect((await runner("stop")).code).toBe(0);
    const status = await runner("status");
    expect(status).toEqual({ code: 1, stdout: "", stderr: "alloy-runner: not installed\n" });
  });

  // systemd waits 10 s before it starts the service again, and a busy machine takes several times as long for the rest.
  test("a service is installed, works, drains, and is uninstalled without a trace", { timeout: 180_000 }, async () => {
    // The next try must find the machine in the state of the first.
    onTestFailed(async () => {
      await system.exec(["touch", "/tmp/go-on"]);
      await runner("uninstall");
      await system.exec(["rm", "-rf", "/etc/alloy-runner", "/var/lib/alloy-runner", "/tmp/go-on"]);
    }, 60_000);
    const install = ["install", "--user", "builder", "--working-directory", "/home/builder"];
    const first = await runner(...install);
    expect(first.stderr).toContain("wrote /etc/systemd/system/alloy-runner.service");
    expect(first.code).toBe(0);
    const second = await runner(...install);
    expect(second.code).toBe(0);
    expect(second.stderr).not.toContain("wrote");
    expect(await show("UnitFileState")).toBe("enabled");
    expect((await runner("status")).code).toBe(1);

    await configure("/etc/alloy-runner/config.toml", "/var/lib/alloy-runner");
    expect((await runner("start")).code).toBe(0);
    const status = await runner("status");
    expect(status.code).toBe(0);
    expect(status.stdout).toMatch(/^alloy-runner: active \(running\), asking for jobs of 1 runner, pid \d+\n$/);
    expect(existsSync(inside("/var/lib/alloy-runner"))).toBe(true);
    expect((await runner("doctor")).stdout).toMatch(/^ok {6}service alloy-runner: active \(running\)/m);

    const job = coordinator.enqueue({
      script: ["id -un", "pwd", "grep CapBnd /proc/self/status", "ulimit -u", "echo core $(ulimit -Sc) $(ulimit -Hc)"],
    });
    expect((await job.finished()).status).toBe("success");
    expect(job.trace).toContain("builder\n");
    expect(job.trace).toMatch(/\/home\/builder\/builds\//);
    // The runner may write no core file, because its memory holds secrets; a job may write its own.
    expect(job.trace).toContain("core 0 unlimited");
    const bounding = BigInt(`0x${/CapBnd:\s*([0-9a-f]+)/.exec(job.trace)?.[1] ?? "0"}`);
    const [CAP_SETUID, CAP_SYS_MODULE, CAP_SYS_BOOT, CAP_SYS_TIME] = [7n, 16n, 22n, 25n];
    expect(bounding & (1n << CAP_SETUID)).not.toBe(0n);
    for (const capability of [CAP_SYS_MODULE, CAP_SYS_BOOT, CAP_SYS_TIME])
      expect(bounding & (1n << capability)).toBe(0n);

    // The same process takes up the reload.
    const pid = await show("MainPID");
    await system.must(["systemctl", "reload", "alloy-runner"]);
    await until("running again", async () => (await show("ActiveState")) === "active");
    expect(await show("MainPID")).toBe(pid);

    // A crash is followed by a new start.
    await system.must(["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "alloy-runner"]);
    await until("started again", async () => {
      const now = await show("MainPID");
      return now !== "0" && now !== pid && (await show("ActiveState")) === "active";
    });

    // A stop waits for the job that runs.
    const slow = coordinator.enqueue({
      script: ["echo started", "until [ -e /tmp/go-on ]; do sleep 0.1; done", "echo done"],
    });
    await until("the job runs", async () => slow.liveText.includes("started"));
    const stop = runner("stop");
    await until("draining", async () => (await show("ActiveState")) === "deactivating");
    expect((await runner("status")).stdout).toContain("1 job left");
    const late = coordinator.enqueue({});
    await system.must(["touch", "/tmp/go-on"]);
    const stopped = await stop;
    expect(stopped.stderr).toContain("running jobs may finish first");
    expect(stopped.code).toBe(0);
    expect(slow.status).toBe("success");
    expect(slow.liveText).toContain("done");
    expect(late.status).toBe("pending");
    expect(await show("Result")).toBe("success");
    expect((await runner("status")).code).toBe(1);
    expect((await runner("doctor")).stdout).toMatch(
      /^warning service alloy-runner: is installed and does not run: inactive \(dead\)\n +→ Run "alloy-runner start"/m,
    );

    expect((await runner("restart")).code).toBe(0);
    expect((await late.finished()).status).toBe("success");

    const removed = await runner("uninstall");
    expect(removed.stderr).toContain("uninstalled");
    expect(removed.code).toBe(0);
    expect(await show("LoadState")).toBe("not-found");
    const { stdout: left } = await system.exec([
      "sh",
      "-c",
      "find /etc/systemd /run/systemd/system | grep -i alloy; ps ax -o comm | grep alloy",
    ]);
    expect(left).toBe("");
    expect(existsSync(inside("/etc/alloy-runner/config.toml"))).toBe(true);
    expect((await runner("uninstall")).code).toBe(0);
  });

  test("a durable job goes on through restarts and a crash, its trace whole", { timeout: 120_000 }, async () => {
    await system.must(["mkdir", "-p", "/etc/alloy-runner"]);
    const own = `/tmp/kept-${randomBytes(4).toString("hex")}`;
    const file = "/etc/alloy-runner/kept.toml";
    const runnerToken = await configure(file, "/var/lib/alloy-runner/kept");
    const service = ["--service", "kept"];
    const where = ["--user", "builder", "--working-directory", "/home/builder", "--config", file];
    expect(await runner("install", ...where, ...service)).toMatchObject({ code: 0 });
    expect(await runner("start", ...service)).toMatchObject({ code: 0 });
    const job = coordinator.enqueue({
      script: [
        `echo once >>${own}-runs`,
        `for step in 1 2 3; do until [ -e ${own}-$step ]; do sleep 0.05; done; seq 1 $((step * 1000)); echo $SECRET $step; done`,
      ],
      afterScript: ["echo afterwards, $CI_JOB_STATUS"],
      variables: [{ key: "SECRET", value: "geheimnis-4711", masked: true }],
      artifacts: { paths: ["."], untracked: true },
      runnerToken,
    });
    await until("the script runs", async () => existsSync(inside(`${own}-runs`)));
    const steps: [string, () => Promise<unknown>][] = [
      ["systemctl restart", () => system.must(["systemctl", "restart", "kept"])],
      ["alloy-runner restart", () => runner("restart", ...service)],
      ["kill -9", () => system.must(["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "kept"])],
    ];
    for (const [index, [what, act]] of steps.entries()) {
      const before = await show("MainPID", "kept");
      const began = performance.now();
      await act();
      await until(`${what}: started again`, async () => {
        const now = await show("MainPID", "kept");
        return now !== before && now !== "0" && (await show("ActiveState", "kept")) === "active";
      });
      expect(performance.now() - began).toBeLessThan(20_000);
      await writeFile(inside(`${own}-${index + 1}`), "");
      await job.traceContains(`[MASKED] ${index + 1}\n`);
    }
    expect((await job.finished()).status).toBe("success");
    const numbers = [...job.trace.matchAll(/^(\d+)$/gm)].map(([, number]) => Number(number));
    const expected = [1, 2, 3].flatMap((step) => Array.from({ length: step * 1000 }, (_, index) => index + 1));
    expect(numbers).toEqual(expected);
    expect(job.trace).toContain("afterwards, success\n");
    expect(job.trace).not.toContain("geheimnis");
    expect(job.trace.match(/the job went on/g)).toHaveLength(3);
    expect(await readFile(inside(`${own}-runs`), "utf8")).toBe("once\n");
    expect(await runner("uninstall", ...service)).toMatchObject({ code: 0 });
  });

  test("a stop that has no more time for a durable job ends it, and the next start reports it", async () => {
    await system.must(["mkdir", "-p", "/etc/alloy-runner"]);
    const file = "/etc/alloy-runner/brief.toml";
    const runnerToken = await configure(file, "/var/lib/alloy-runner/brief", "durable = true");
    const where = ["--user", "builder", "--working-directory", "/home/builder", "--config", file];
    const service = ["--service", "brief"];
    expect(await runner("install", ...where, ...service, "--drain-timeout", "5s")).toMatchObject({ code: 0 });
    expect(await runner("start", ...service)).toMatchObject({ code: 0 });
    const job = coordinator.enqueue({ script: ["echo begun", "setsid sleep 6001 & sleep 6002"], runnerToken });
    await job.traceContains("begun\n");
    const doctor = async () => (await runner("doctor", "--config", file)).stdout;
    expect(await doctor()).toContain("durable jobs brief.service: a restart hands them over, a stop ends them");
    await system.must(["mkdir", "-p", "/run/systemd/system/brief.service.d"]);
    await writeFile(inside("/run/systemd/system/brief.service.d/old.conf"), "[Service]\nKillMode=mixed\n");
    await system.must(["systemctl", "daemon-reload"]);
    expect(await doctor()).toContain("durable jobs brief.service: a restart ends them: KillMode=mixed");
    await system.must(["rm", "-r", "/run/systemd/system/brief.service.d"]);
    await system.must(["systemctl", "daemon-reload"]);

    const processes = async () => (await system.exec(["pgrep", "-f", "sleep 600[12]|attends to a script"])).stdout;
    expect((await processes()).trim().split("\n").length).toBeGreaterThanOrEqual(4);

    await runner("stop", ...service);
    expect(await processes()).toBe("");
    const { stdout: left } = await system.exec([
      "sh",
      "-c",
      "find /run/alloy-runner -mindepth 2 ! -name 'pipe-*'; find /var/lib -name payload",
    ]);
    expect(left).toBe("");
    expect(job.status).toBe("running");

    expect(await runner("start", ...service)).toMatchObject({ code: 0 });
    expect(await job.finished()).toMatchObject({ status: "failed", failureReason: "runner_system_failure" });
    expect(await runner("uninstall", ...service)).toMatchObject({ code: 0 });
  });

  test("a runner of another account has its key in a directory of its unit", async () => {
    const file = "/home/builder/own.toml";
    const runnerToken = await configure(file, "/home/builder/own-state");
    await system.must(["chown", "builder:", file]);
    const account = ["--init-user", "builder", "--user", "builder"];
    const where = [...account, "--working-directory", "/home/builder", "--config", file];
    const service = ["--service", "own"];
    expect(await runner("install", ...where, ...service)).toMatchObject({ code: 0 });
    expect(await runner("start", ...service)).toMatchObject({ code: 0 });
    const go = `/tmp/own-${randomBytes(4).toString("hex")}`;
    const job = coordinator.enqueue({ script: ["echo begun", `until [ -e ${go} ]; do sleep 0.1; done`], runnerToken });
    await job.traceContains("begun\n");
    const key = inside("/run/own-builder/key");
    const before = await readFile(key, "hex");
    await system.must(["systemctl", "restart", "own"]);
    expect(await readFile(key, "hex")).toBe(before);
    await writeFile(inside(go), "");
    expect((await job.finished()).status).toBe("success");
    expect(job.trace).toContain("the job went on");
    await runner("stop", ...service);
    expect(existsSync(key)).toBe(false);
    expect(await runner("uninstall", ...service)).toMatchObject({ code: 0 });
  });

  test("several services live side by side, and those of others are left alone", async () => {
    const unit = "/etc/systemd/system/gitlab-runner.service";
    const foreign = "[Service]\nExecStart=/bin/sleep infinity\n";
    await writeFile(inside(unit), foreign);
    await system.must(["systemctl", "daemon-reload"]);
    await system.must(["systemctl", "start", "gitlab-runner"]);
    const common = ["--user", "builder", "--working-directory", "/home/builder"];
    for (const action of [["install", ...common], ["start"], ["stop"], ["restart"], ["uninstall"]]) {
      const { code, stderr } = await runner(...action, "--service", "gitlab-runner");
      expect(stderr).toContain("was not written by this program");
      expect(code).toBe(1);
    }
    expect(await readFile(inside(unit), "utf8")).toBe(foreign);
    expect(await show("ActiveState", "gitlab-runner")).toBe("active");

    await system.must(["mkdir", "-p", "/etc/alloy-runner"]);
    for (const name of ["build.a", "build-b"]) {
      await configure(`/etc/alloy-runner/${name}.toml`, `/var/lib/alloy-runner/${name}`);
      const args = ["--service", name, "--config", `/etc/alloy-runner/${name}.toml`];
      expect(await runner("install", ...common, ...args)).toMatchObject({ code: 0 });
      expect(await runner("start", "--service", name)).toMatchObject({ code: 0 });
    }
    const jobs = coordinator.runners.slice(-2).map(({ token }) => coordinator.enqueue({ runnerToken: token }));
    for (const job of jobs) expect((await job.finished()).status).toBe("success");
    expect(await runner("uninstall", "--service", "build.a")).toMatchObject({ code: 0 });
    expect(await show("ActiveState", "build-b")).toBe("active");
    expect(await runner("uninstall", "--service", "build-b")).toMatchObject({ code: 0 });
    await system.must(["systemctl", "stop", "gitlab-runner"]);
  });

  test("a user has a service without root", async () => {
    await system.must(["loginctl", "enable-linger", "builder"]);
    const uid = (await system.must(["id", "-u", "builder"])).trim();
    await until("the user's service manager", async () => existsSync(inside(`/run/user/${uid}/systemd/private`)));
    const env = { HOME: "/home/builder", USER: "builder", XDG_RUNTIME_DIR: `/run/user/${uid}` };
    const asUser = (...args: string[]) => system.exec(["runuser", "-u", "builder", "--", RUNNER, ...args], env);
    const refused = await asUser("install", "--user", "root", "--working-directory", "/home/builder");
    expect(refused.stderr).toContain("need root");
    const installed = await asUser("install", "--working-directory", "/home/builder");
    expect(installed.stderr).toContain("/home/builder/.config/systemd/user/alloy-runner.service");
    expect(installed.code).toBe(0);
    const token = await configure("/home/builder/.alloy-runner/config.toml", "/home/builder/state");
    await system.must(["chown", "-R", "builder:", "/home/builder/.alloy-runner"]);
    expect(await asUser("start")).toMatchObject({ code: 0 });
    const job = coordinator.enqueue({ script: ["id -un"], runnerToken: token });
    expect((await job.finished()).status).toBe("success");
    expect(job.trace).toContain("builder\n");
    expect((await asUser("status")).stdout).toContain("asking for jobs of 1 runner");
    expect(await asUser("uninstall")).toMatchObject({ code: 0 });
    expect(existsSync(inside("/home/builder/.config/systemd/user/alloy-runner.service"))).toBe(false);
    expect((await asUser("status")).code).toBe(1);
  });
});
