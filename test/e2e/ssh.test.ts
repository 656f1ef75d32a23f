import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { never, pause } from "../../src/time.ts";
import { start } from "../support/program.ts";
import { openSite, type Site } from "../support/site.ts";
import { authorize, isRoot, loginUser, type Sshd, type SshUser, sshdMissing, startSshd } from "../support/sshd.ts";
import { openWire, type Wire } from "../support/wire.ts";

const missing = sshdMissing();

function running(args: string): boolean {
  return execFileSync("ps", ["-axww", "-o", "args="]).toString().split("\n").includes(args);
}

async function gone(args: string): Promise<boolean> {
  for (let round = 0; round < 400 && running(args); round++) await pause(100, never);
  return !running(args);
}

describe.skipIf(missing !== null)("the built program with jobs on a far host", { timeout: 180_000 }, () => {
  let sshd: Sshd;
  let user: SshUser;
  let wire: Wire;
  const open: Site[] = [];
  let git: { repoUrl: string; sha: string; ref: string };

  beforeAll(async () => {
    sshd = await startSshd();
    user = loginUser(sshd);
    wire = await openWire({ host: sshd.host, port: sshd.port });
    const dir = join(user.home, "upstream");
    const script = `git init -q -b main ${dir} && cd ${dir} && echo one > file && git add . && git -c user.name=t -c user.email=t@e commit -q -m one && git rev-parse HEAD`;
    // The directory belongs to the account that reads it, because git refuses other people's repositories.
    const out = isRoot
      ? execFileSync("setpriv", ["--reuid", user.name, "--regid", user.name, "--clear-groups", "sh", "-c", script], {
          env: { PATH: process.env.PATH, HOME: user.home },
        })
      : execFileSync("sh", ["-c", script]);
    git = { repoUrl: `file://${dir}`, sha: out.toString().trim(), ref: "main" };
  });
  afterEach(async () => {
    for (const site of open.splice(0)) await site.close();
  });
  afterAll(async () => {
    await wire?.close();
    await sshd?.close();
  });

  const opened = async (): Promise<Site> => {
    const site = await openSite({
      dialect: "gitlab",
      executor: "ssh",
      global: "concurrent = 4",
      entry: `builds_dir = "${join(user.home, "builds")}"
        [runners.ssh]
        host = "127.0.0.1"
        port = "${wire.port}"
        user = "${user.name}"
        identity_file = "${sshd.keyFile}"
        host_key_fingerprint = "${fingerprint()}"`,
    });
    open.push(site);
    return site;
  };
  /** Checks that a job runs there with these lines of `[runners.ssh]`. */
  const logsIn = async (lines: string, env: Readonly<Record<string, string>> = {}): Promise<void> => {
    const site = await openSite({
      dialect: "alloy",
      executor: "ssh",
      entry: `builds_dir = "${join(user.home, "builds")}"
        [runners.ssh]
        host = "127.0.0.1"
        port = ${sshd.port}
        user = "${user.name}"
        known_hosts_file = "${sshd.knownHostsFile}"
        ${lines}`,
      run: { env },
    });
    open.push(site);
    const job = site.coordinator.enqueue({ script: ["echo in-$((1+1)) as $(id -un)"] });
    await job.finished({ timeoutMs: 60_000 });
    expect(job.status, `${job.trace}\n${site.runner.stderr()}`).toBe("success");
    expect(job.trace).toMatch(new RegExp(`^in-2 as ${user.name}\r?$`, "m"));
    expect(job.trace).toMatch(/Used [\d.]+ s of processor time; took /);
  };
  const fingerprint = (): string => {
    const text = execFileSync("ssh-keygen", ["-lf", join(sshd.dir, "host_key.pub")]).toString();
    return /SHA256:\S+/.exec(text)?.[0] ?? "";
  };

  test("sources, artifacts and caches reach it and come back, and the working copy is kept", async () => {
    const site = await opened();
    const common = { git, cache: { key: "node", paths: ["node_modules/"] } };
    const first = site.coordinator.enqueue({
      ...common,
      name: "build",
      variables: [{ key: "SECRET", value: "tell-nobody-at-all", masked: true }],
      script: [
        "cat file; mkdir -p dist node_modules; seq 1 100000 > dist/numbers; echo cached > node_modules/a",
        'echo "$SECRET"; ps axww -o args= | grep -c "tell-nobody[-]at-all" || :',
        "env | grep -c SSH_AUTH_SOCK || :",
      ],
      artifacts: { paths: ["dist/"] },
    });
    await first.finished();
    expect(first.status, first.trace).toBe("success");
    expect(first.trace).toContain(`${user.name}@127.0.0.1:${wire.port}`);
    expect(first.trace).not.toContain("tell-nobody-at-all");
    expect(first.trace.match(/^0$/gm)).toHaveLength(2);
    expect(first.artifacts).toHaveLength(1);
    const second = site.coordinator.enqueue({
      ...common,
      name: "use",
      dependencies: [first],
      script: ["tail -n 1 dist/numbers; cat node_modules/a; whoami"],
    });
    await second.finished();
    expect(second.status, second.trace).toBe("success");
    expect(second.trace).toMatch(new RegExp(`100000\\ncached\\n${user.name}\\n`));
    expect(second.trace).toMatch(/Fetching changes/);
    const third = site.coordinator.enqueue({ git, script: ["exit 7"] });
    const update = await third.reported({ timeoutMs: 60_000 });
    expect(update, third.trace).toMatchObject({ state: "failed", exitCode: 7 });
  });

  test.each(["-t ed25519", "-t ecdsa -b 384", "-t rsa -b 2048 -m PEM", "-t rsa -b 2048 -m PKCS8"])(
    "it is reached by a key with a passphrase: %s",
    async (format) => {
      const file = join(sshd.dir, `key${format.replaceAll(" ", "")}`);
      execFileSync("ssh-keygen", ["-q", ...format.split(" "), "-N", "päss wörd", "-f", file]);
      authorize(sshd, readFileSync(`${file}.pub`, "utf8"));
      await logsIn(`identity_file = "${file}"\nidentity_passphrase = "päss wörd"`);
    },
  );

  test("it is reached where only chacha20-poly1305 is spoken, with a key under it, through changes of keys", async () => {
    const cipher = "chacha20-poly1305@openssh.com";
    const chacha = await startSshd({ config: `Ciphers ${cipher}\nRekeyLimit 1M` });
    try {
      const account = loginUser(chacha);
      const file = join(chacha.dir, "key");
      execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-Z", cipher, "-N", "secret", "-f", file]);
      authorize(chacha, readFileSync(`${file}.pub`, "utf8"));
      const site = await openSite({
        dialect: "gitlab",
        executor: "ssh",
        entry: `builds_dir = "${join(account.home, "builds")}"
          [runners.ssh]
          host = "127.0.0.1"
          port = ${chacha.port}
          user = "${account.name}"
          identity_file = "${file}"
          identity_passphrase = "secret"
          known_hosts_file = "${chacha.knownHostsFile}"`,
      });
      open.push(site);
      // No part of it repeats, so compression cannot keep it from going over the wire.
      const made = site.coordinator.enqueue({
        script: ["head -c 20000000 /dev/urandom > random; sha256sum random"],
        artifacts: { paths: ["random"] },
      });
      await made.finished({ timeoutMs: 120_000 });
      expect(made.status, `${made.trace}\n${site.runner.stderr()}`).toBe("success");
      const [sum = ""] = /^[0-9a-f]{64}/m.exec(made.trace) ?? [];
      const used = site.coordinator.enqueue({ dependencies: [made], script: [`echo "${sum}  random" | sha256sum -c`] });
      await used.finished({ timeoutMs: 120_000 });
      expect(used.trace).toContain("random: OK");
    } finally {
      await chacha.close();
    }
  });

  test("it is reached by an agent", async () => {
    const socket = join(sshd.dir, "agent");
    const agent = spawn("ssh-agent", ["-D", "-a", socket], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      await once(agent.stdout, "data");
      execFileSync("ssh-add", ["-q", sshd.keyFile], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
      await logsIn("agent = true", { SSH_AUTH_SOCK: socket });
    } finally {
      agent.kill();
      await once(agent, "exit");
    }
  });

  test.skipIf(!isRoot)("it is reached by a password, and by way of another host", async () => {
    await logsIn(`password = "${user.password}"`);
    const jump = await startSshd();
    try {
      const { name, password } = jump.addUser();
      await logsIn(`password = "${user.password}"
        [runners.ssh.jump]
        host = "127.0.0.1"
        port = ${jump.port}
        user = "${name}"
        password = "${password}"
        known_hosts_file = "${jump.knownHostsFile}"`);
      expect(jump.log()).toContain(`Accepted password for ${name}`);
    } finally {
      await jump.close();
    }
  });

  test("a cancel ends what runs there", async () => {
    const site = await opened();
    const job = site.coordinator.enqueue({ git, script: ["setsid sleep 87651 & echo started; sleep 87652"] });
    await job.traceContains("started\n");
    job.cancel();
    expect(await gone("sleep 87651")).toBe(true);
    expect(await gone("sleep 87652")).toBe(true);
  });

  test("a connection that is cut in mid-script fails the job by the system's fault, with its output", async () => {
    const site = await opened();
    const job = site.coordinator.enqueue({ git, script: ["echo started", "sleep 87653", "echo never"] });
    await job.traceContains("started\n");
    wire.cut();
    const update = await job.reported({ timeoutMs: 90_000 });
    expect(update.state).toBe("failed");
    expect(update.failureReason).toMatch(/runner_system_failure|runner_external_dependency_failure/);
    expect(job.trace).toMatch(/started\n[\s\S]*connection to .* is lost/);
    expect(job.trace).not.toContain("never\n");
    expect(await gone("sleep 87653")).toBe(true);
  });

  test("a runner that is killed is cleaned up after, there as well", async () => {
    const site = await opened();
    const job = site.coordinator.enqueue({ git, script: ["echo started; (setsid sleep 87654 &); sleep 87655"] });
    await job.traceContains("started\n");
    await site.runner.stop("SIGKILL");
    await site.start();
    const update = await job.reported({ timeoutMs: 90_000 });
    expect(update.state).toBe("failed");
    expect(await gone("sleep 87654")).toBe(true);
    expect(await gone("sleep 87655")).toBe(true);
    for (let round = 0; round < 200; round++) {
      const runners = readdirSync(join(user.home, "builds")).map((name) => join(user.home, "builds", name, ".claims"));
      if (runners.every((dir) => !existsSync(dir) || readdirSync(dir).length === 0)) break;
      await pause(100, never);
      expect(round).toBeLessThan(199);
    }
  });

  test("a host whose key is not known gets no job: none is asked for, and the log has the key", async () => {
    const site = await openSite({
      dialect: "gitlab",
      stopped: true,
      executor: "ssh",
      entry: `[runners.ssh]
        host = "127.0.0.1"
        port = ${wire.port}
        user = "${user.name}"
        identity_file = "${sshd.keyFile}"
        known_hosts_file = "/dev/null"`,
    });
    open.push(site);
    const job = site.coordinator.enqueue({ git, script: ["echo never"] });
    const words = ["run", "--config", site.configFile, "--working-directory", site.workDir];
    const runner = start(words, { home: site.dir });
    await runner.seen(/no job of this entry could run/);
    expect(runner.stderr()).toContain(`is not known: ssh-ed25519 ${fingerprint()}`);
    expect(job.status).toBe("pending");
    expect((await runner.stop()).code).toBe(0);
  });
});
