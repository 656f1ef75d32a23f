import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { type Booted, boot, cannotBoot } from "../support/booted.ts";

const run = promisify(execFile);
const top = join(import.meta.dirname, "../..");
const arch = process.arch === "arm64" ? { deb: "arm64", rpm: "aarch64" } : { deb: "amd64", rpm: "x86_64" };
const DEB = `alloy-runner_2.0.0-1_${arch.deb}.deb`;
const RPM = `alloy-runner-2.0.0-1.${arch.rpm}.rpm`;

const missing = ["/usr/bin/dpkg-deb", "/usr/bin/rpmbuild"].find((program) => !existsSync(program));
const why = missing === undefined ? cannotBoot() : `needs ${missing}`;
if (why !== null && process.env.CI === "true") throw new Error(`the tests of the packages cannot run: ${why}`);

describe.skipIf(why !== null)(`packages${why === null ? "" : ` (skipped: ${why})`}`, () => {
  let dir: string;
  let coordinator: LocalCoordinator;
  let system: Booted | undefined;

  const make = (out: string) =>
    run(process.execPath, ["scripts/packages.mjs", process.arch, "--fast", "--out", out], { cwd: top });

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "alloy-packages-"));
    coordinator = await startCoordinator({ dialect: "gitlab" });
    await make(dir);
  }, 300_000);
  afterEach(async () => {
    await system?.close();
    system = undefined;
  });
  afterAll(async () => {
    await coordinator?.close();
    await rm(dir, { recursive: true, force: true });
  });

  async function booted(): Promise<Booted> {
    system = await boot();
    await copyFile(join(dir, DEB), join(system.root, "root", DEB));
    await copyFile(join(dir, RPM), join(system.root, "root", RPM));
    return system;
  }

  test("the same sources give the same bytes", async () => {
    const again = await mkdtemp(join(tmpdir(), "alloy-packages-"));
    try {
      await make(again);
      const names = (await readdir(dir)).filter((name) => name.endsWith(".sha256"));
      expect(names).toHaveLength(2);
      for (const name of names)
        expect(await readFile(join(again, name), "utf8")).toBe(await readFile(join(dir, name), "utf8"));
    } finally {
      await rm(again, { recursive: true, force: true });
    }
  }, 300_000);

  test("they bring the program, its unit and completions, and belong to root", async () => {
    const deb = (await run("dpkg-deb", ["-c", join(dir, DEB)])).stdout;
    const rpm = (await run("rpm", ["-qlpv", join(dir, RPM)])).stdout;
    for (const list of [deb, rpm]) {
      expect(list).toMatch(/-rwxr-xr-x .*\/usr\/bin\/alloy-runner$/m);
      expect(list).toMatch(/\/usr\/lib\/systemd\/system\/alloy-runner\.service$/m);
      expect(list).toMatch(/\/usr\/share\/bash-completion\/completions\/alloy-runner$/m);
      expect(list).toMatch(/\/zsh\/(?:vendor-completions|site-functions)\/_alloy-runner$/m);
      expect(list).toMatch(/\/alloy-runner\.fish$/m);
      for (const line of list.trim().split("\n")) expect(line).toMatch(/root[ /]+root/);
    }
    const scripts = (await run("rpm", ["-qp", "--scripts", join(dir, RPM)])).stdout;
    expect(scripts).toContain('cut -d: -f5)" = "$COMMENT"');
  });

  /** Adds another product's service on the same machine, and checks what came with the package. */
  async function withNeighbour({ root, must }: Booted): Promise<() => Promise<void>> {
    await writeFile(
      join(root, "etc/systemd/system/gitlab-runner.service"),
      "[Service]\nExecStart=/bin/sleep infinity\n",
    );
    await must(["systemctl", "daemon-reload"]);
    await must(["systemctl", "start", "gitlab-runner"]);
    const pid = await must(["systemctl", "show", "-p", "MainPID", "gitlab-runner"]);
    return async () => expect(await must(["systemctl", "show", "-p", "MainPID", "gitlab-runner"])).toBe(pid);
  }

  async function until(what: string, look: () => Promise<boolean>): Promise<void> {
    const end = Date.now() + 60_000;
    while (!(await look())) {
      if (Date.now() > end) {
        const journal = await system?.exec(["journalctl", "--no-pager", "-n", "60"]);
        throw new Error(`${what}: not in time\n${journal?.stdout}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async function register({ root }: Booted): Promise<string> {
    const { token } = coordinator.addRunner();
    const entry = `[[runners]]\nname = "one"\nurl = "${coordinator.url}"\ntoken = "${token}"\nexecutor = "shell"\n`;
    await writeFile(join(root, "etc/alloy-runner/config.toml"), entry, { mode: 0o600 });
    return token;
  }

  /**
   * Installs and starts the package; a job runs as the package's account, and goes on through an upgrade in the middle of it.
   */
  async function live(it: Booted, install: readonly string[], upgrade: readonly string[]): Promise<void> {
    const { must, exec } = it;
    await must(install);
    expect((await must(["systemctl", "is-enabled", "alloy-runner"])).trim()).toBe("enabled");
    expect((await exec(["alloy-runner", "status"])).stdout).toContain("active (running), no runner is configured");
    expect((await must(["stat", "-c", "%a %U", "/etc/alloy-runner", "/home/alloy-runner"])).trim()).toBe(
      "700 root\n750 alloy-runner",
    );
    const token = await register(it);
    const job = coordinator.enqueue({ script: ["id -un; pwd"], runnerToken: token });
    expect((await job.finished()).status).toBe("success");
    expect(job.trace).toContain("alloy-runner\n/home/alloy-runner/builds/");
    const refused = await exec(["alloy-runner", "uninstall"]);
    expect(refused.stderr).toContain("comes with a package");

    const before = (await must(["systemctl", "show", "-p", "MainPID", "alloy-runner"])).trim();
    const slow = coordinator.enqueue({
      script: ["echo started >>/tmp/starts", "until [ -e /tmp/go-on ]; do sleep 0.1; done", "echo ended"],
      runnerToken: token,
    });
    await until("the job runs", async () => existsSync(join(it.root, "tmp/starts")));
    await must(upgrade);
    await until("restarted", async () => {
      const now = await must(["systemctl", "show", "-p", "MainPID,ActiveState", "alloy-runner"]);
      return now.includes("ActiveState=active") && !now.includes(before);
    });
    expect(slow.status).toBe("running");
    await must(["touch", "/tmp/go-on"]);
    expect((await slow.finished()).status).toBe("success");
    expect(slow.trace).toMatch(/The runner was restarted[\s\S]*ended\n/);
    expect(await readFile(join(it.root, "tmp/starts"), "utf8")).toBe("started\n");
    const last = coordinator.enqueue({ runnerToken: token });
    expect((await last.finished()).status).toBe("success");
  }

  async function leftovers({ must }: Booted): Promise<string> {
    const look = `find / -xdev -iname '*alloy*' -not -path '/proc/*' -not -path '/root/*' -not -path '/var/log/*' -not -path '/tmp/*' -not -path '/var/lib/dpkg/info/*'
find /usr -iname '*alloy-runner*'
getent passwd alloy-runner; getent group alloy-runner; ps ax -o args | grep '^/usr/bin/alloy'; true`;
    return await must(["sh", "-c", look]);
  }

  test("the deb installs, upgrades under a running job, and leaves nothing when purged", async () => {
    const it = await booted();
    const unharmed = await withNeighbour(it);
    const install = ["dpkg", "--install", "--force-depends", `/root/${DEB}`];
    await live(it, install, install);

    const killed = coordinator.enqueue({
      script: ["echo begun", "sleep 600"],
      ...(coordinator.runners.at(-1) === undefined ? {} : { runnerToken: coordinator.runners.at(-1)?.token ?? "" }),
    });
    await killed.traceContains("begun\n");
    await it.must(["dpkg", "--remove", "alloy-runner"]);
    expect((await killed.finished()).status).toBe("failed");
    expect(existsSync(join(it.root, "etc/alloy-runner/config.toml"))).toBe(true);
    expect((await it.exec(["systemctl", "cat", "alloy-runner"])).code).not.toBe(0);
    await it.must(["dpkg", "--purge", "alloy-runner"]);
    expect(await leftovers(it)).toBe("");
    await unharmed();
  }, 180_000);

  test("the rpm installs, upgrades under a running job, and keeps the configuration when removed", async () => {
    const it = await booted();
    const unharmed = await withNeighbour(it);
    await it.must(["rpm", "--initdb"]);
    const flags = ["--nodeps", "--force-debian"];
    await live(it, ["rpm", "-i", ...flags, `/root/${RPM}`], ["rpm", "-U", "--replacepkgs", ...flags, `/root/${RPM}`]);
    expect((await it.must(["rpm", "-V", "--nodeps", "alloy-runner"])).trim()).toBe("");
    await it.must(["rpm", "-e", "--force-debian", "alloy-runner"]);
    expect(existsSync(join(it.root, "etc/alloy-runner/config.toml"))).toBe(true);
    expect(existsSync(join(it.root, "usr/bin/alloy-runner"))).toBe(false);
    expect((await it.exec(["systemctl", "cat", "alloy-runner"])).code).not.toBe(0);
    await unharmed();
  }, 180_000);

  test("an upgrade from a version that does not know how to hand over lets its jobs finish", async () => {
    const it = await booted();
    const old = join(it.root, "root/old");
    const put = async (path: string, text: string, mode: number) => {
      await mkdir(join(old, dirname(path)), { recursive: true });
      await writeFile(join(old, path), text, { mode });
    };
    // Another signal than that for draining would end it, as it did the old versions.
    const program = `#!/bin/sh
trap 'until [ -e /tmp/go-on ]; do sleep 0.05; done; echo drained >/tmp/drained; exit 0' QUIT
systemd-notify --ready
while :; do sleep 0.05; done`;
    await put("usr/bin/alloy-runner", program, 0o755);
    const unit = `[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/alloy-runner
Restart=always
KillSignal=SIGQUIT
KillMode=mixed
[Install]
WantedBy=multi-user.target
`;
    await put("usr/lib/systemd/system/alloy-runner.service", unit, 0o644);
    const control = `Package: alloy-runner\nVersion: 1.9.0-1\nArchitecture: ${arch.deb}\nMaintainer: nobody\nDescription: old\n`;
    await put("DEBIAN/control", control, 0o644);
    await it.must(["dpkg-deb", "--build", "/root/old", "/root/old.deb"]);
    await it.must(["dpkg", "--install", "--force-depends", "/root/old.deb"]);
    await it.must(["systemctl", "daemon-reload"]);
    await it.must(["systemctl", "start", "alloy-runner"]);

    await it.must(["dpkg", "--install", "--force-depends", `/root/${DEB}`]);
    // Whoever restarts it meanwhile, as needrestart does, waits like the package.
    const restarted = it.must(["systemctl", "restart", "alloy-runner"]);
    expect((await it.must(["systemctl", "show", "-p", "ActiveState", "alloy-runner"])).trim()).toBe(
      "ActiveState=deactivating",
    );
    await it.must(["touch", "/tmp/go-on"]);
    await restarted;
    expect(await readFile(join(it.root, "tmp/drained"), "utf8")).toBe("drained\n");
    expect((await it.must(["systemctl", "show", "-p", "KillMode,ActiveState", "alloy-runner"])).trim()).toBe(
      "KillMode=process\nActiveState=active",
    );
    expect((await it.exec(["alloy-runner", "status"])).stdout).toContain("active (running), no runner is configured");
  }, 120_000);

  test("a service that was installed by hand stays in force", async () => {
    const it = await booted();
    await writeFile(
      join(it.root, "etc/systemd/system/alloy-runner.service"),
      "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n",
    );
    await it.must(["systemctl", "daemon-reload"]);
    await it.must(["systemctl", "start", "alloy-runner"]);
    const pid = await it.must(["systemctl", "show", "-p", "MainPID", "alloy-runner"]);
    const { stderr, code } = await it.exec(["dpkg", "--install", "--force-depends", `/root/${DEB}`]);
    expect(code).toBe(0);
    expect(stderr).toContain("is in force instead of this package's unit");
    await it.must(["dpkg", "--purge", "alloy-runner"]);
    expect(await it.must(["systemctl", "show", "-p", "MainPID", "alloy-runner"])).toBe(pid);
  }, 120_000);
});
