import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, expect, onTestFinished, test } from "vitest";
import { launchd, launchdPlist } from "../../../src/commands/service/launchd.ts";
import { readService, readServiceName } from "../../../src/commands/service/options.ts";
import type { RestartWay, Service } from "../../../src/commands/service/service.ts";
import { describeStep, MARKER } from "../../../src/commands/service/step.ts";
import { isStopping, systemd } from "../../../src/commands/service/systemd.ts";
import { systemdUnit } from "../../../src/commands/service/systemd-unit.ts";
import { windows, windowsCommandLine } from "../../../src/commands/service/windows.ts";
import type { Argv } from "../../../src/shell.ts";
import { never } from "../../../src/time.ts";

const service: Service = {
  name: "alloy-runner",
  scope: "system",
  program: ["/usr/local/bin/alloy-runner"],
  configFile: "/etc/alloy-runner/config.toml",
  workingDirectory: "/srv/builds",
  jobsUser: "builder",
  runnerUser: undefined,
  password: undefined,
  syslog: false,
  drainTimeoutMs: 5_400_000,
};

describe("a systemd unit", () => {
  test("drains on stop, hands over on restart and says who wrote it", () => {
    const unit = systemdUnit(service);
    expect(unit).toContain(MARKER);
    for (const line of [
      "Type=notify",
      "KillSignal=SIGQUIT",
      "RestartKillSignal=SIGUSR2",
      "KillMode=process",
      "ExecStopPost=-/usr/local/bin/alloy-runner end-jobs --config /etc/alloy-runner/config.toml --unit %n",
      "TimeoutStopSec=5400",
      "Restart=always",
    ]) {
      expect(unit.split("\n")).toContain(line);
    }
    expect(unit).toContain("\nNotifyAccess=main\n");
    expect(unit).toContain("\nWantedBy=multi-user.target\n");
  });

  test("keeps spaces, quotes, percent and dollar signs of paths", () => {
    const odd: Service = { ...service, program: ["/opt/my tools/100%/run"], workingDirectory: '/srv/a "b" $HOME %h\\' };
    const unit = systemdUnit(odd);
    expect(unit).toContain(
      'ExecStart="/opt/my tools/100%%/run" run --working-directory "/srv/a \\"b\\" $$HOME %%h\\\\" ',
    );
    expect(unit).toContain("ConditionFileIsExecutable=/opt/my tools/100%%/run\n");
  });

  test("gives a runner that is not root a directory in memory, which is no other service's", () => {
    const ofCi = systemdUnit({ ...service, runnerUser: "ci", jobsUser: undefined }).split("\n");
    expect(ofCi).toContain("RuntimeDirectory=alloy-runner-ci");
    expect(ofCi).toContain("RuntimeDirectoryPreserve=restart");
    for (const one of [service, { ...service, runnerUser: "root" }, { ...service, scope: "user" as const }]) {
      expect(systemdUnit(one)).not.toContain("RuntimeDirectory");
    }
  });

  test("of a user, or of a runner that is not root, sets nothing that takes sudo from jobs", () => {
    for (const one of [
      { ...service, scope: "user" as const, jobsUser: undefined },
      { ...service, runnerUser: "ci", jobsUser: undefined },
    ]) {
      const unit = systemdUnit(one);
      expect(unit).not.toContain("CapabilityBoundingSet");
      expect(unit).toContain("\nNotifyAccess=all\n");
      expect(unit).toContain(`${one.scope === "user" ? " --user-service" : "config.toml"} --unit %n\n`);
    }
    expect(systemdUnit({ ...service, runnerUser: "ci", jobsUser: undefined })).toContain("\nUser=ci\n");
  });
});

describe.runIf(process.platform === "linux")("a restart under systemd", () => {
  const manager = systemd({ userConfigDir: "/nowhere" });
  /** What systemd would say of a unit whose process is `pid`. */
  const said = (pid: number, restarts: string) => async () => ({
    status: 0,
    stdout: `MainPID=${pid}\n${restarts}`,
    stderr: "",
  });

  test("is told to the process where the manager would end it, or cannot tell it from a stop", async () => {
    const knowing = spawn("sh", ["-c", "trap : USR2; echo; read line"], { stdio: ["pipe", "pipe", "inherit"] });
    const old = spawn("cat", { stdio: ["pipe", "ignore", "inherit"] });
    onTestFinished(() => void [knowing, old].map((child) => child.kill("SIGKILL")));
    await once(knowing.stdout, "data");
    const way = async (pid: number | undefined, restarts: string) =>
      await manager.restartWay?.(service, said(pid ?? 0, restarts), never);
    const [handsOver, drains, unknown] = ["RestartKillSignal=12\n", "RestartKillSignal=3\n", ""] as const;
    expect(await way(knowing.pid, handsOver)).toBe("by the manager");
    expect(await way(old.pid, handsOver)).toBe("drain");
    expect(await way(old.pid, drains)).toBe("by the manager");
    expect(await way(knowing.pid, unknown)).toBe("hand over");
    expect(await way(old.pid, unknown)).toBe("by the manager");
    expect(await way(0, handsOver)).toBe("by the manager");
  });

  test("is one call", () => {
    const call = (way: RestartWay): string[] => manager.restart(service, way).map(describeStep);
    expect(call("by the manager")).toEqual(["run systemctl restart alloy-runner.service"]);
    expect(call("hand over")).toEqual(["run systemctl kill --kill-who=main --signal=SIGUSR2 alloy-runner.service"]);
    expect(call("drain")).toEqual(["run systemctl kill --kill-who=main --signal=SIGQUIT alloy-runner.service"]);
  });

  test("is no stop, and neither is a crash", async () => {
    const jobs = (list: string) => async () => ({ status: 0, stdout: list, stderr: "" });
    const ask = async (list: string) =>
      await isStopping({ unit: "alloy-runner.service", scope: "system" }, jobs(list), never);
    expect(await ask("  7 alloy-runner.service stop running\n")).toBe(true);
    expect(await ask("  7 alloy-runner.service restart running\n")).toBe(false);
    expect(await ask("  7 other.service        stop running\n")).toBe(false);
    expect(await ask("")).toBe(false);
  });
});

describe("launchd", () => {
  const manager = launchd({ home: "/Users/ann", uid: 501 });

  test("gets a plist with each word escaped", () => {
    const plist = launchdPlist({ ...service, workingDirectory: "/Users/a&b/<ci>" }, "/var/log/alloy-runner.log");
    expect(plist).toContain(MARKER);
    expect(plist).toContain("<string>/Users/a&amp;b/&lt;ci&gt;</string>");
    expect(plist).toContain("<key>KeepAlive</key>\n  <true/>");
    expect(plist).toContain("<key>AbandonProcessGroup</key>\n  <true/>");
    expect(plist.match(/<key>ExitTimeOut<\/key>\s*<integer>(\d+)/)?.[1]).toBe("60");
  });

  test("is called for the system or for the user", () => {
    const commands = (name: Service): string[] =>
      [
        ...manager.install(name, false),
        ...manager.start(name),
        ...manager.stop(name),
        ...manager.restart(name, "by the manager"),
      ]
        .filter((step) => step.do === "run")
        .map(describeStep);
    expect(commands(service)).toEqual([
      "run launchctl enable system/alloy-runner",
      "run launchctl bootstrap system /Library/LaunchDaemons/alloy-runner.plist",
      "run launchctl kickstart system/alloy-runner",
      "run launchctl bootout system/alloy-runner",
      "run launchctl bootstrap system /Library/LaunchDaemons/alloy-runner.plist",
      "run launchctl kill SIGUSR2 system/alloy-runner",
    ]);
    expect(commands({ ...service, scope: "user", name: "two" })[1]).toBe(
      "run launchctl bootstrap gui/501 /Users/ann/Library/LaunchAgents/two.plist",
    );
  });
});

describe("the service manager of Windows", () => {
  const manager = windows({ host: "C:\\Program Files\\ci\\alloy-runner-service.exe", programData: "C:\\ProgramData" });
  const there: Service = {
    ...service,
    program: ["C:\\ci\\alloy-runner.exe"],
    configFile: "C:\\ci\\config.toml",
    workingDirectory: "C:\\my builds\\",
    jobsUser: undefined,
  };

  test("is given one command line, an account, and what to do after a crash", () => {
    const steps = manager.install({ ...there, runnerUser: "NT SERVICE\\ci" }, false).map(describeStep);
    expect(steps[1]).toContain('"C:\\Program Files\\ci\\alloy-runner-service.exe" --name alloy-runner --log ');
    expect(steps[1]).toContain(
      '--drain-seconds 5400 -- C:\\ci\\alloy-runner.exe run --working-directory "C:\\my builds\\\\" ',
    );
    expect(steps[1]).toContain("start= auto obj= 'NT SERVICE\\ci'");
    expect(steps[3]).toContain("actions= restart/10000");
    expect(describeStep(manager.install(there, true)[1] ?? { do: "await-stopped" })).toContain("sc.exe config");
  });

  test("hears a password on a pipe only, and starts nothing that has no account yet", () => {
    const steps = (replaces: boolean) =>
      manager.install({ ...there, runnerUser: "builder", password: "pa ss" }, replaces).slice(1, -3);
    expect(steps(true)).toEqual(steps(false).slice(1));
    const [created, account, configured] = steps(false);
    expect(created).toMatchObject({ argv: expect.arrayContaining(["create", "disabled"]) });
    expect(account).toMatchObject({ input: "pa ss\n" });
    expect(configured).toMatchObject({ argv: expect.arrayContaining(["config", "auto"]) });
    const said = steps(false).map(describeStep).join("\n");
    expect(said).toContain("--set-account alloy-runner .\\builder (with a password on its standard input)");
    expect(said).not.toContain("pa ss");
    expect(said).not.toContain("obj=");
  });

  const lines: [Argv, string][] = [
    [["a", "b c"], 'a "b c"'],
    [["", 'q"q'], '"" "q\\"q"'],
    [["C:\\a b\\"], '"C:\\a b\\\\"'],
    [['x\\"'], '"x\\\\\\""'],
  ];
  test.each(lines)("takes %j as %s", (words, line) => {
    expect(windowsCommandLine(words)).toBe(line);
  });
});

describe("flags", () => {
  const context = (uid: number | undefined) => ({
    uid,
    cwd: "/here",
    env: { HOME: "/home/ann" },
  });
  const read = (values: Readonly<Record<string, unknown>>, uid: number | undefined = 0) =>
    readService({ workingDirectory: "/srv", user: "builder", ...values }, context(uid), ["/bin/r"]);

  test.each(["../x", "a/b", "-n", "x y", "", "a".repeat(101), "a\nb", "ä"])("refuse %j as a name", (name) => {
    if (name === "") expect(readServiceName({ service: name }, { uid: 0 }).name).toBe("alloy-runner");
    else expect(() => readServiceName({ service: name }, { uid: 0 })).toThrow("--service is up to 100");
  });

  test("make relative paths absolute, and times milliseconds", () => {
    const made = read({ workingDirectory: "builds", config: "c.toml", drainTimeout: "30m", service: "two.service" });
    expect(made).toMatchObject({
      name: "two",
      workingDirectory: "/here/builds",
      configFile: "/here/c.toml",
      drainTimeoutMs: 1_800_000,
    });
  });

  test("let a stop wait for a second at least, as 0 would mean for ever", () => {
    expect(read({ user: "builder", drainTimeout: "0" }).drainTimeoutMs).toBe(1000);
    expect(read({ user: "builder", drainTimeout: "1h30m" }).drainTimeoutMs).toBe(5_400_000);
  });

  test.each([
    [{ user: undefined }, 0, "As whom do jobs run?"],
    [{ user: "root; rm -rf /" }, 0, "--user is the name of an account"],
    [{ workingDirectory: "/a\nExecStartPre=/bin/evil" }, 0, "control character"],
    [{ drainTimeout: "soon" }, 0, "--drain-timeout is a time such as"],
    [{ user: "bob" }, 1000, "need root"],
    [{ initUser: "ci" }, 0, "leave out --init-user ci"],
  ])("refuse %j for uid %d", (values, uid, message) => {
    expect(() => read(values, uid)).toThrow(message);
  });
});
