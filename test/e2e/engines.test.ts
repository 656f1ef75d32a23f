import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { runnerId } from "../../src/config/identity.ts";
import { imageName, noEngine, sshPassword, type TestEngine, testEngine } from "../support/docker.ts";
import { openSite, type Site } from "../support/site.ts";
import { isRoot, sshdMissing, startSshd } from "../support/sshd.ts";

const podman = await testEngine("podman");
const docker = await testEngine("docker");

/** Functions that undo a test's changes, called in reverse order. */
const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const one of undo.splice(0).reverse()) await one();
});

function temporary(): string {
  const dir = mkdtempSync(join(tmpdir(), "alloy-engines-"));
  undo.push(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

interface Place {
  readonly engine: TestEngine;
  readonly executor: "docker" | "docker-ssh";
  readonly host: string;
  readonly image: "git" | "sshd";
  /** Lines of `[runners.docker]`, and tables after it. */
  readonly more?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Starts the built runner with one entry for such a place; everything that it made is removed in the end. */
async function opened({ engine, executor, host, image, more = "", env }: Place): Promise<Site> {
  const site = await openSite({
    dialect: "gitlab",
    executor,
    global: "concurrent = 4",
    entry: `[runners.docker]
host = "${host}"
image = "${imageName(image)}"
helper_image = "${imageName("git")}"
pull_policy = "never"
${more}`,
    ...(env === undefined ? {} : { run: { env } }),
  });
  undo.push(async () => {
    await site.close();
    const filters = { label: [ours(site)] };
    for (const one of (await engine.docker.listVolumes({ filters })).Volumes) {
      await engine.docker.getVolume(one.Name).remove({ force: true });
    }
  });
  return site;
}

const ours = (site: Site): string => `com.gitlab.gitlab-runner.runner.id=${runnerId(site.tokens[0] ?? "")}`;

/** Containers and networks of the site's jobs. */
async function left(engine: TestEngine, site: Site): Promise<string[]> {
  const filters = { label: [ours(site)] };
  const containers = await engine.docker.listContainers({ all: true, filters });
  const networks = await engine.docker.listNetworks({ filters });
  return [...containers.map((one) => one.Names.join()), ...networks.map((one) => one.Name)];
}

const nothingIsLeft = async (engine: TestEngine, site: Site): Promise<void> =>
  await expect.poll(() => left(engine, site), { timeout: 90_000, interval: 200 }).toEqual([]);

/** Runs a job that hands a file to the next one, and reads a hundred thousand lines of its own. */
async function works(site: Site, engine: TestEngine): Promise<void> {
  const first = site.coordinator.enqueue({
    script: ["mkdir -p out; seq 1 100000 > out/numbers; cat out/numbers; echo is-$((1+1))-made"],
    artifacts: { paths: ["out/"] },
  });
  const made = await first.reported({ timeoutMs: 120_000 });
  expect(made.state, first.trace.slice(-2000)).toBe("success");
  expect(first.trace).toMatch(/99999\r?\n100000\r?\nis-2-made/);
  const second = site.coordinator.enqueue({
    script: ["tail -n 1 out/numbers; exit 42"],
    dependencies: [first],
  });
  const failed = await second.reported({ timeoutMs: 120_000 });
  expect([failed.state, failed.exitCode], second.trace.slice(-2000)).toEqual(["failed", 42]);
  expect(second.trace).toMatch(/\n100000\r?\n/);
  await nothingIsLeft(engine, site);
}

/** Cancels a job, and kills a runner. */
async function ends(site: Site, engine: TestEngine): Promise<void> {
  const canceled = site.coordinator.enqueue({ script: ["echo is-$((1+1))-ready; sleep 600 & wait"] });
  await canceled.traceContains("is-2-ready", { timeoutMs: 120_000 });
  canceled.cancel();
  await nothingIsLeft(engine, site);
  const orphan = site.coordinator.enqueue({ script: ["echo is-$((1+1))-ready; sleep 600"] });
  await orphan.traceContains("is-2-ready", { timeoutMs: 120_000 });
  await site.runner.stop("SIGKILL");
  expect((await left(engine, site)).length).toBeGreaterThan(1);
  await site.start();
  const update = await orphan.reported({ timeoutMs: 120_000 });
  expect(update).toMatchObject({ state: "failed", failureReason: "runner_system_failure" });
  await nothingIsLeft(engine, site);
}

describe("the built program with podman", { timeout: 400_000 }, () => {
  if (podman === null) {
    test.skip(noEngine("podman"), () => {});
    return;
  }
  const engine = podman;
  const place = { engine, executor: "docker", host: engine.host, image: "git" } as const;
  const socket = engine.host.slice("unix://".length);
  beforeAll(async () => await engine.images("git", "service"), 240_000);

  test("on its socket: services, sources, artifacts, cancel, a crash", async () => {
    const dir = temporary();
    execFileSync("sh", [
      "-c",
      `cd "$1" && git init -q -b main && echo hello > README && git add . && git -c user.name=t -c user.email=t@e.example commit -q -m one && chmod 755 .`,
      "sh",
      dir,
    ]);
    const sha = execFileSync("git", ["rev-parse", "HEAD"], { cwd: dir, encoding: "utf8" }).trim();
    const site = await opened({ ...place, more: `volumes = ["${dir}:/upstream:ro"]` });
    const job = site.coordinator.enqueue({
      git: { repoUrl: "file:///upstream", sha, ref: "main" },
      services: [{ name: imageName("service"), alias: "web" }],
      script: ["cat README", "exec 3<>/dev/tcp/web/8080; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3 | tail -n 1"],
    });
    const update = await job.reported({ timeoutMs: 120_000 });
    expect(update.state, job.trace).toBe("success");
    expect(job.trace.match(/^hello\r?$/gm)).toHaveLength(2);
    await works(site, engine);
    await ends(site, engine);
  });

  test("over TCP with TLS, where something in front of it speaks that", async () => {
    const dir = temporary();
    const port = await serveTls(dir, socket);
    await works(await opened({ ...place, host: `tcp://127.0.0.1:${port}`, more: `tls_cert_path = "${dir}"` }), engine);
  });

  const noSsh = !isRoot || sshdMissing() !== null;
  test.skipIf(noSsh)("over SSH, on a host without docker", async () => {
    const dir = temporary();
    mkdirSync(join(dir, "bin"));
    symlinkSync(execFileSync("sh", ["-c", "command -v podman"], { encoding: "utf8" }).trim(), join(dir, "bin/podman"));
    const sshd = await startSshd({ config: `SetEnv PATH=${join(dir, "bin")}\nMaxSessions 100\nMaxStartups 200` });
    undo.push(() => sshd.close());
    const ssh = execFileSync("sh", ["-c", "command -v ssh"], { encoding: "utf8" }).trim();
    writeFileSync(
      join(dir, "config"),
      `Host far\nHostName 127.0.0.1\nPort ${sshd.port}\nUser root\nIdentityFile ${sshd.keyFile}\nUserKnownHostsFile ${sshd.knownHostsFile}\nStrictHostKeyChecking yes\n`,
    );
    mkdirSync(join(dir, "own"));
    writeFileSync(join(dir, "own/ssh"), `#!/bin/sh\nexec ${ssh} -F ${join(dir, "config")} "$@"\n`);
    chmodSync(join(dir, "own/ssh"), 0o755);
    const env = { PATH: `${join(dir, "own")}:${process.env.PATH}` };
    await works(await opened({ ...place, host: `ssh://far${socket}`, env }), engine);
  });
});

describe("the built program with docker", { timeout: 400_000 }, () => {
  if (docker === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const engine = docker;
  beforeAll(async () => await engine.images("git"), 240_000);

  test("secrets that a job spells out in names of images and users are not in the log", async () => {
    const site = await opened({ engine, executor: "docker", host: engine.host, image: "git" });
    const variables = [{ key: "SEC", value: "geheimnis-1", masked: true }];
    for (const image of [
      { name: "127.0.0.1:1/$SEC/x" },
      { name: imageName("git"), executor_opts: { docker: { user: "nobody-$SEC" } } },
    ]) {
      const job = site.coordinator.enqueue({ image, variables, script: ["true"] });
      await job.finished({ timeoutMs: 120_000 });
      expect(job.status, job.trace).toBe("failed");
      expect(job.trace).toContain("[MASKED]");
      await site.runner.seen(new RegExp(`job failed .*job=${job.id} `));
    }
    expect(site.runner.stderr()).toContain("[MASKED]");
    expect(`${site.runner.stderr()}${site.runner.stdout()}`).not.toContain("geheimnis-1");
  });

  test("over TCP with TLS, where a client needs a certificate", async () => {
    const dir = temporary();
    const port = await serveTls(dir, engine.host.slice("unix://".length));
    const site = await opened({
      engine,
      executor: "docker",
      host: `tcp://127.0.0.1:${port}`,
      image: "git",
      more: `tls_cert_path = "${dir}"`,
    });
    await works(site, engine);
    // Warnings of the runtime or of a library must not appear among the lines of the runner.
    expect(site.runner.stderr()).not.toMatch(/warning:/i);
  });

  test("over plain TCP, past the proxies of the environment", async () => {
    const socket = engine.host.slice("unix://".length);
    const port = await listenFor(createServer({ allowHalfOpen: true }, (client) => joined(client, socket)));
    // These proxies lead nowhere.
    const env = { http_proxy: "http://127.0.0.1:1", HTTPS_PROXY: "http://127.0.0.1:1" };
    await works(
      await opened({ engine, executor: "docker", host: `tcp://127.0.0.1:${port}`, image: "git", env }),
      engine,
    );
  });
});

describe("the built program with containers that run sshd", { timeout: 400_000 }, () => {
  if (docker === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const engine = docker;
  beforeAll(async () => await engine.images("git", "sshd"), 240_000);

  test("jobs run in the container, nothing is left after a cancel or a crash", async () => {
    const site = await opened({
      engine,
      executor: "docker-ssh",
      host: engine.host,
      image: "sshd",
      more: `[runners.ssh]\nuser = "root"\npassword = "${sshPassword}"`,
    });
    const here = execFileSync("uname", ["-n"], { encoding: "utf8" }).trim();
    const job = site.coordinator.enqueue({
      script: ["echo on $(uname -n) in ${SSH_CONNECTION:+ssh}; [ -e /.dockerenv ]"],
    });
    const update = await job.reported({ timeoutMs: 120_000 });
    expect(update.state, job.trace).toBe("success");
    expect(job.trace).toMatch(/^on runner-\S+ in ssh/m);
    expect(job.trace).not.toContain(`on ${here} in`);
    await works(site, engine);
    await ends(site, engine);
  });
});

/** A proxy to `socket` that asks for certificates; what a client needs lies in `dir`. @returns its port */
async function serveTls(dir: string, socket: string): Promise<number> {
  const openssl = (args: string): void => {
    const { status, stderr } = spawnSync("openssl", args.split(" "), { cwd: dir, encoding: "utf8" });
    if (status !== 0) throw new Error(`openssl ${args}: ${stderr}`);
  };
  openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca-key.pem -out ca.pem");
  for (const [name, extension] of [
    ["server", "subjectAltName=IP:127.0.0.1"],
    ["client", "extendedKeyUsage=clientAuth"],
  ]) {
    writeFileSync(join(dir, "ext"), `${extension}\n`);
    openssl(`req -newkey rsa:2048 -nodes -subj /CN=${name} -keyout ${name}-key.pem -out ${name}.csr`);
    openssl(
      `x509 -req -in ${name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile ext -out ${name}.pem`,
    );
  }
  const read = (name: string): string => readFileSync(join(dir, name), "utf8");
  writeFileSync(join(dir, "cert.pem"), read("client.pem"));
  writeFileSync(join(dir, "key.pem"), read("client-key.pem"));
  const keys = { key: read("server-key.pem"), cert: read("server.pem"), ca: read("ca.pem") };
  const server: Server = createTlsServer(
    { ...keys, requestCert: true, rejectUnauthorized: true, allowHalfOpen: true },
    (client) => joined(client, socket),
  );
  return await listenFor(server);
}

/** Passes data between `client` and the Unix socket in both directions. */
function joined(client: Socket, socket: string): void {
  const there = connect({ path: socket, allowHalfOpen: true });
  for (const [from, to] of [
    [client, there],
    [there, client],
  ] as const) {
    from.pipe(to);
    from.on("error", () => to.destroy()).on("close", () => to.destroy());
  }
}

/** @returns its port; it closes with the test, whatever an engine still holds open of a runner that has gone */
async function listenFor(server: Server): Promise<number> {
  const clients = new Set<Socket>();
  server.on("connection", (client: Socket) => clients.add(client.on("close", () => clients.delete(client))));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  undo.push(async () => {
    for (const client of clients) client.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const address: AddressInfo | string | null = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}
