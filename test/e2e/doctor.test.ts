import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { createServer as createSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type LocalCoordinator, startCoordinator } from "../../src/local/coordinator/coordinator.ts";
import { testEngine } from "../support/docker.ts";
import { openMachineStand } from "../support/docker-machine/stand.ts";
import { machinesMissing, openMachines } from "../support/machines/machines.ts";
import { runProgram } from "../support/program.ts";
import { registryMissing, startRegistry } from "../support/registry.ts";
import { loginUser, sshdMissing, startSshd } from "../support/sshd.ts";

let coordinator: LocalCoordinator;
let token: string;
let dir: string;
let shared: string;
let certificate: { key: string; cert: string };
const servers: Server[] = [];

beforeAll(async () => {
  coordinator = await startCoordinator({ dialect: "gitlab" });
  token = coordinator.addRunner().token;
  shared = await mkdtemp(join(tmpdir(), "alloy-doctor-"));
  const [key, cert] = [join(shared, "key.pem"), join(shared, "cert.pem")];
  const made = spawnSync("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
    ...["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
  ]);
  if (made.status !== 0) throw new Error(String(made.stderr));
  certificate = { key, cert };
});
afterAll(async () => {
  for (const server of servers) server.close();
  await coordinator.close();
  await rm(shared, { recursive: true, force: true });
});
beforeEach(async () => {
  dir = await mkdtemp(join(shared, "one-"));
  await mkdir(join(dir, "state"), { mode: 0o700 });
});

/** An HTTP server that answers with `listener`. */
async function answering(listener: RequestListener, tls?: { key: string; cert: string }): Promise<string> {
  const server = tls === undefined ? createServer(listener) : createSecureServer(tls, listener);
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return `${tls === undefined ? "http" : "https"}://127.0.0.1:${typeof address === "object" ? address?.port : 0}`;
}

interface SetUp {
  readonly global?: string;
  readonly url?: string;
  readonly executor?: string;
  readonly entry?: string;
  readonly env?: Record<string, string>;
  /** The whole text of the file, instead of the fields above. */
  readonly text?: string;
}

const configFile = (): string => join(dir, "config.toml");

async function configure({ global = "", url = coordinator.url, executor = "shell", entry = "", text }: SetUp) {
  const whole = `state_dir = "${join(dir, "state")}"\n${global}\n[[runners]]\nname = "one"\nurl = "${url}"\ntoken = "${token}"\nexecutor = "${executor}"\n${entry}\n`;
  await writeFile(configFile(), text ?? whole, { mode: 0o600 });
}

const run = (command: string, env: Record<string, string> = {}, ...flags: string[]) =>
  runProgram([command, "--config", configFile(), ...flags], { home: dir, env });

/** A `PATH` with these programs and no others. */
async function only(...programs: string[]): Promise<Record<string, string>> {
  const bin = join(dir, "bin");
  await mkdir(bin);
  for (const program of programs) await symlink(`/usr/bin/${program}`, join(bin, program));
  return { PATH: bin };
}

test("a healthy machine has no finding", async () => {
  await configure({});
  const { code, stdout, stderr } = await run("doctor");
  expect(stdout.trimEnd().split("\n").at(-1), stdout + stderr).toBe("nothing is wrong");
  expect(stdout).toMatch(/^ok {6}coordinator one: http:\S+ knows the token, answered in \d+ ms$/m);
  expect(stdout).toMatch(/^ok {6}programs git: git version /m);
  expect(stdout).toMatch(/^ok {6}programs git-lfs: /m);
  expect(stdout).toMatch(/^ok {6}executor shell one: bash runs as the runner's own account$/m);
  if (process.platform === "linux") expect(stdout).toMatch(/^ok {6}control groups: /m);
  expect(stdout + stderr).not.toContain(token);
  expect(code).toBe(0);
  const json = await run("doctor", {}, "--json");
  expect(JSON.parse(json.stdout)).toMatchObject({ errors: 0, warnings: 0 });
});

test("whose jobs end with the runner for want of a key is said, and is a warning where it was asked otherwise", async () => {
  const key = join(dir, "key");
  const durableLines = async (global: string) => {
    await configure({ global: `live_key_file = "${key}"\n${global}` });
    return (await run("doctor")).stdout.split("\n").filter((line) => line.includes("durable jobs"));
  };
  const absent = expect.stringMatching(
    /^ok {6}durable jobs one: they end with the runner: .*live_key_file \S+ is not there/,
  );
  expect(await durableLines("")).toEqual([absent]);
  expect(await durableLines("durable = true")).toEqual([
    expect.stringMatching(/^warning durable jobs one: they end with the runner: .*is not there/),
  ]);
  expect(await durableLines("durable = false")).toEqual([]);
  await writeFile(key, "7".repeat(64), { mode: 0o600 });
  expect((await durableLines(""))[0]).toMatch(/^ok {6}durable jobs one: they go on through a restart of the runner/);
});

/** What is broken → the sentence that names its cause, and the exit status. */
const BROKEN: readonly (readonly [what: string, make: () => Promise<SetUp>, says: RegExp, code: number])[] = [
  [
    "text that is no TOML",
    async () => ({ text: "concurrent = = 1\n" }),
    /^error {3}configuration: .*config\.toml:1/m,
    2,
  ],
  [
    "a wrong type",
    async () => ({ global: 'concurrent = "many"' }),
    /^error {3}configuration: .*config\.toml:2: concurrent/m,
    2,
  ],
  [
    "an entry without token",
    async () => ({ text: '[[runners]]\nname = "one"\nurl = "http://127.0.0.1:1"\nexecutor = "shell"\n' }),
    /^error {3}configuration: .*token/m,
    2,
  ],
  [
    "an unknown key",
    async () => ({ global: "concurent = 2" }),
    /^warning configuration: .*config\.toml:2: concurent.*concurrent/m,
    1,
  ],
  ["an unknown executor", async () => ({ executor: "dokcer" }), /^error {3}configuration: .*dokcer/m, 2],
  [
    "no entry",
    async () => ({ text: "concurrent = 1\n" }),
    /^warning configuration: .*has no \[\[runners\]\] entry\. Add one/m,
    1,
  ],
  [
    "a name that nobody knows",
    async () => ({ url: "http://nowhere.invalid" }),
    /^error {3}coordinator one: the name nowhere\.invalid cannot be resolved: /m,
    2,
  ],
  [
    "nobody at its address",
    async () => ({ url: "http://127.0.0.1:1" }),
    /^error {3}coordinator one: .*ECONNREFUSED/m,
    2,
  ],
  [
    "a web page at its address",
    async () => ({ url: await answering((_, answer) => answer.end("<!doctype html><p>hello")) }),
    /^error {3}coordinator one: .*web page.*Check the url/m,
    2,
  ],
  [
    "a token that is not known",
    async () => ({ url: await answering((_, answer) => answer.writeHead(403).end("{}")) }),
    /^error {3}coordinator one: [^\n]*403[^\n]*\n +→ Register the runner again/m,
    2,
  ],
  [
    "a coordinator in trouble",
    async () => ({ url: await answering((_, answer) => answer.writeHead(500).end("{}")) }),
    /^error {3}coordinator one: [^\n]*500[^\n]*\n +→ The coordinator is in trouble/m,
    2,
  ],
  [
    "a clock that is wrong",
    async () => ({
      url: await answering((_, answer) => {
        answer.setHeader("Date", new Date(Date.now() + 600_000).toUTCString());
        answer.end('{"id":1}');
      }),
    }),
    /^warning coordinator one: this machine's clock is (?:59|60)\d s behind the coordinator's/m,
    1,
  ],
  [
    "a certificate that nobody signed",
    async () => ({ url: await answering((_, answer) => answer.end("{}"), await pem()) }),
    /^error {3}coordinator one: .*certificate/m,
    2,
  ],
  [
    "a certificate that ends soon",
    async () => ({
      url: await answering((_, answer) => answer.end('{"id":1}'), await pem()),
      entry: `tls-ca-file = "${certificate.cert}"`,
    }),
    /^warning coordinator one: the certificate of 127\.0\.0\.1:\d+ expires within 2 days/m,
    1,
  ],
  [
    "a proxy that is none",
    async () => ({ url: "http://ci.example.org", env: { HTTP_PROXY: "ftp://proxy" } }),
    /^error {3}coordinator one: HTTP_PROXY: "ftp:" proxies are not supported/m,
    2,
  ],
  [
    "a file in place of the state directory",
    async () => {
      await rm(join(dir, "state"), { recursive: true });
      await writeFile(join(dir, "state"), "");
      return {};
    },
    /^error {3}state directory \S+: is no directory$/m,
    2,
  ],
  [
    "a state directory that others can write",
    async () => {
      await chmod(join(dir, "state"), 0o777);
      return {};
    },
    /^error {3}state directory \S+: can be written by other accounts[^\n]*\n +→ Run: chmod go-w /m,
    2,
  ],
  [
    "a disk that is too small",
    async () => ({ global: 'min_free_disk = "900TB"' }),
    /^error {3}state directory \S+: its disk has \d+ MiB free, less than min_free_disk/m,
    2,
  ],
  [
    "a disk with too few inodes",
    async () => ({ global: "[admission]\nmin_free_inodes = 900000000000" }),
    /^error {3}state directory \S+: its disk has \d+ inodes left, less than min_free_inodes/m,
    2,
  ],
  [
    "a builds directory on something that is a file",
    async () => {
      await writeFile(join(dir, "file"), "");
      return { entry: `builds_dir = "${dir}/file/builds"` };
    },
    /^error {3}executor shell one: .*\/file\/builds/m,
    2,
  ],
  [
    "no docker-machine",
    async () => ({
      executor: "docker+machine",
      entry:
        '[runners.docker]\nimage = "alpine"\n[runners.machine]\nMachineDriver = "none"\nMachineName = "m-%s"\nIdleCount = 0',
      env: await only("bash", "git"),
    }),
    /^error {3}configuration: .*the program "docker-machine" is not in PATH/m,
    2,
  ],
  [
    "a docker-machine that does not work",
    async () => {
      const env = await only("bash", "cat", "git");
      await writeFile(join(dir, "bin", "docker-machine"), "#!/bin/bash\necho broken library >&2\nexit 3\n", {
        mode: 0o755,
      });
      return {
        executor: "docker+machine",
        entry:
          '[runners.docker]\nimage = "alpine"\n[runners.machine]\nMachineDriver = "none"\nMachineName = "m-%s"\nIdleCount = 0',
        env,
      };
    },
    /^error {3}executor docker\+machine one: "docker-machine --version" ended with status 3: broken library$/m,
    2,
  ],
  ["no git", async () => ({ env: await only("bash") }), /^error {3}programs git: the program "git" is not in PATH/m, 2],
  [
    "an account that does not exist",
    async () => ({ global: 'user = "nobody-of-that-name"' }),
    /^error {3}account nobody-of-that-name: does not exist/m,
    2,
  ],
  [
    "an engine that does not run",
    async () => ({ executor: "docker", entry: `[runners.docker]\nimage = "alpine"\nhost = "unix://${dir}/no.sock"` }),
    /^error {3}executor docker one: .*no\.sock/m,
    2,
  ],
  [
    "a runner that was killed",
    async () => {
      await mkdir(join(dir, "state", "control"), { mode: 0o700 });
      const path = join(dir, "state", "control", "socket");
      const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
      spawnSync(process.execPath, ["-e", script]);
      return {};
    },
    /^warning runner: it has ended without ending its work: nobody listens at \S+\/control\/socket$/m,
    1,
  ],
  [
    "something else on its socket",
    async () => {
      await mkdir(join(dir, "state", "control"), { mode: 0o700 });
      const other = createSocket((client) => client.end("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
      other.unref().listen(join(dir, "state", "control", "socket"));
      await once(other, "listening");
      return {};
    },
    /^warning runner: .*speaks version \? of the control protocol/m,
    1,
  ],
  [
    "a coordinator that takes its time",
    async () => ({
      url: await answering((_, answer) => void setTimeout(() => answer.end('{"id":1}'), 2100)),
    }),
    /^warning coordinator one: \S+ took 2\d\d\d ms to answer$/m,
    1,
  ],
  [
    "a token that ends soon",
    async () => {
      const token_expires_at = new Date(Date.now() + 3 * 86_400_000).toISOString();
      return { url: await answering((_, answer) => answer.end(JSON.stringify({ id: 1, token_expires_at }))) };
    },
    /^warning coordinator one: its token expires on 2\d\d\d-[^\n]*\n +→ Renew it/m,
    1,
  ],
  [
    "metrics at an address that is taken",
    async () => ({ global: `listen_address = "${new URL(coordinator.url).host}"` }),
    /^error {3}metrics address 127\.0\.0\.1:\d+: cannot be had: .*EADDRINUSE/m,
    2,
  ],
  [
    "metrics at what is no address",
    async () => ({ global: 'listen_address = "nonsense:port"' }),
    /^error {3}metrics address nonsense:port: cannot be had: .*expected ":port"/m,
    2,
  ],
  [
    "a page at an address that is taken",
    async () => ({ global: `[web]\nlisten_address = "${new URL(coordinator.url).host}"` }),
    /^warning page address 127\.0\.0\.1:\d+: cannot be had: .*EADDRINUSE/m,
    1,
  ],
  [
    "a page for everybody",
    async () => ({ global: '[web]\nlisten_address = "0.0.0.0:9253"' }),
    /^error {3}configuration: .*web\.listen_address: would show jobs and traces to everybody/m,
    2,
  ],
  [
    "a git of long ago",
    async () => {
      const env = await only("bash");
      await writeFile(join(dir, "bin", "git"), "#!/bin/bash\necho git version 1.8.3.1\n", { mode: 0o755 });
      return { env };
    },
    /^error {3}programs git: is 1\.8, with which sources cannot be fetched\n +→ Install git 2\.17 or newer/m,
    2,
  ],
  [
    "a host that lets nobody log in",
    async () => ({
      executor: "ssh",
      entry:
        '[runners.ssh]\nhost = "127.0.0.1"\nport = "1"\nuser = "ci"\npassword = "p"\ndisable_strict_host_key_checking = true',
    }),
    /^error {3}executor ssh one: .*127\.0\.0\.1.*ECONNREFUSED/m,
    2,
  ],
  [
    "a cluster that does not answer",
    async () => ({
      executor: "kubernetes",
      entry: '[runners.kubernetes]\nhost = "http://127.0.0.1:1"\nbearer_token = "t"\nimage = "alpine"',
    }),
    /^error {3}executor kubernetes one: .*127\.0\.0\.1:1/m,
    2,
  ],
];

async function pem() {
  const { readFile } = await import("node:fs/promises");
  const [key, cert] = await Promise.all([certificate.key, certificate.cert].map((file) => readFile(file, "utf8")));
  return { key: key ?? "", cert: cert ?? "" };
}

test.each(BROKEN)("doctor names %s", async (_, make, says, code) => {
  const setUp = await make();
  await configure(setUp);
  const found = await run("doctor", setUp.env);
  expect(found.stdout, found.stderr).toMatch(says);
  expect(found.code, found.stdout).toBe(code);
  expect(found.stdout + found.stderr).not.toContain(token);
});

test.skipIf(sshdMissing() !== null)("doctor logs in to a host of ssh, and names a login that is refused", async () => {
  const sshd = await startSshd();
  try {
    const { name } = loginUser(sshd);
    const host = `[runners.ssh]\nhost = "${sshd.host}"\nport = "${sshd.port}"\nuser = "${name}"\nknown_hosts_file = "${sshd.knownHostsFile}"`;
    await configure({ executor: "ssh", entry: `${host}\nidentity_file = "${sshd.keyFile}"` });
    const fine = await run("doctor");
    expect(fine.stdout).toMatch(/^ok {6}executor ssh one: \S+ lets it log in$/m);
    expect(fine.code, fine.stdout).toBe(0);
    await configure({ executor: "ssh", entry: `${host}\npassword = "not the password"` });
    const refused = await run("doctor");
    expect(refused.stdout).toMatch(/^error {3}executor ssh one: /m);
    expect(refused.stdout + refused.stderr).not.toContain("not the password");
    expect(refused.code).toBe(2);
    const hosts = (...names: string[]): string =>
      names
        .map(
          (key, index) =>
            `[runners.autoscaler.plugin_config.instances.h${index}]\ninternal_addr = "${sshd.host}:${sshd.port}"\nusername = "${name}"\nkey_path = "${key}"\n`,
        )
        .join("");
    const autoscaler = '[runners.autoscaler]\nplugin = "static"\n';
    await configure({ executor: "instance", entry: `${autoscaler}${hosts(sshd.keyFile, sshd.keyFile)}` });
    const instances = await run("doctor");
    expect(instances.stdout, instances.stdout).toMatch(/^ok {6}executor instance one: 2 hosts let it log in$/m);
    await configure({ executor: "instance", entry: `${autoscaler}${hosts(sshd.keyFile, "/does/not/exist")}` });
    const wrong = await run("doctor");
    expect(wrong.stdout).toMatch(/^error {3}executor instance one: h1: .*\/does\/not\/exist/m);
    const program =
      '[runners.autoscaler]\nplugin = "exec"\n[runners.autoscaler.plugin_config]\ncommand = "/bin/false"\n';
    await configure({ executor: "docker-autoscaler", entry: `[runners.docker]\nimage = "x"\n${program}` });
    expect((await run("doctor")).stdout).toMatch(/^error {3}executor docker-autoscaler one: .*init/m);
  } finally {
    await sshd.close();
  }
});

test("doctor asks docker-machine for its version, and its store for machines", async () => {
  await using stand = await openMachineStand();
  await configure({
    executor: "docker+machine",
    entry:
      '[runners.docker]\nimage = "alpine"\n[runners.machine]\nMachineDriver = "none"\nMachineName = "m-%s"\nIdleCount = 0',
  });
  const { stdout, code } = await run("doctor", stand.env);
  expect(stdout).toMatch(
    /^ok {6}executor docker\+machine one: docker-machine version 0\.16\.2, build HEAD, 0 machines in /m,
  );
  expect(code, stdout).toBe(0);
});

test.skipIf(machinesMissing() !== null)(
  "doctor asks a hypervisor for its version and the machine to be copied",
  async () => {
    const machines = openMachines("virtualbox", "7.0.18r162988");
    const hypervisor = (base: string): SetUp => ({
      executor: "virtualbox",
      entry: `[runners.ssh]\nuser = "root"\nidentity_file = "${machines.keyFile}"\ndisable_strict_host_key_checking = true\n[runners.virtualbox]\nbase_name = ${JSON.stringify(base)}`,
    });
    try {
      await configure(hypervisor(machines.base.name));
      const fine = await run("doctor", machines.env);
      expect(fine.stdout).toMatch(
        /^ok {6}executor virtualbox one: VirtualBox 7\.0\.18\S*, the virtual machine "Debian "12" base" is there$/m,
      );
      await configure(hypervisor("of another name"));
      const wrong = await run("doctor", machines.env);
      expect(wrong.stdout).toMatch(/^error {3}executor virtualbox one: .*"of another name"/m);
      expect(wrong.code).toBe(2);
      expect(machines.copies()).toEqual([]);
    } finally {
      machines.close();
    }
  },
);

const docker = await testEngine("docker");
test.skipIf(docker === null || registryMissing() !== null)(
  "doctor has the engine try the login for the entry's image",
  async () => {
    if (docker === null) return;
    const registry = await startRegistry();
    const auths = (password: string): string =>
      JSON.stringify({ auths: { [registry.address]: { username: registry.username, password } } });
    const image = `${registry.address}/team/app`;
    try {
      await configure({ executor: "docker", entry: `[runners.docker]\nimage = "${image}"\nhost = "${docker.host}"` });
      const fine = await run("doctor", { DOCKER_AUTH_CONFIG: auths(registry.password) });
      expect(fine.stdout.trimEnd().split("\n").at(-1), fine.stdout).toBe("nothing is wrong");
      const refused = await run("doctor", { DOCKER_AUTH_CONFIG: auths("not-the-password") });
      expect(refused.stdout).toMatch(
        /^warning executor docker one: the login for 127\S+ in DOCKER_AUTH_CONFIG of the runner, for the image \S+\/team\/app, does not work: .*401/m,
      );
      expect(refused.stdout).toContain(`→ Log in again ("docker login ${registry.address}"`);
      expect(refused.stdout + refused.stderr).not.toContain("not-the-password");
      expect(refused.code).toBe(1);
      const unread = await run("doctor", { DOCKER_AUTH_CONFIG: "{secret-thing" });
      expect(unread.stdout).toMatch(
        /^warning executor docker one: DOCKER_AUTH_CONFIG of the runner is no docker configuration/m,
      );
      expect(unread.stdout).not.toContain("secret-thing");
    } finally {
      await registry.close();
    }
  },
);

const TESTED = [
  "sources",
  "variables",
  "exit status",
  "big output",
  "masking",
  "artifacts and cache",
  "time limit",
  "cancel",
];

test("selftest runs jobs by the entry's executor, beside a healthy one's other checks, and leaves nothing", async () => {
  await configure({});
  const before = await readdir(tmpdir());
  const { code, stdout, stderr } = await run("doctor", {}, "--selftest");
  const passed = [...stdout.matchAll(/^ok {6}selftest one: (.*), in \d+\.\d s$/gm)].map(([, name]) => name);
  expect(passed, stdout + stderr).toEqual(TESTED);
  expect(stdout.trimEnd().split("\n").at(-1)).toBe("nothing is wrong");
  expect(code).toBe(0);
  const left = (await readdir(tmpdir())).filter((name) => !before.includes(name));
  expect(left.filter((name) => name.startsWith("alloy-selftest-"))).toEqual([]);
}, 120_000);

test("selftest names what does not work, with the last lines of its trace", async () => {
  await configure({ entry: 'output_limit = 30\npre_build_script = "case $CI_JOB_NAME in sources) exit 9;; esac"' });
  const { code, stdout } = await run("doctor", {}, "--selftest", "one");
  expect(stdout).toMatch(
    /^error {3}selftest one: sources: ended with status 9, not 0\n(?: +│ .*\n)*? +│ .*ERROR: Job failed: exit status 9/m,
  );
  expect(stdout).toMatch(/^error {3}selftest one: big output: its trace is cut: see output_limit$/m);
  expect([...stdout.matchAll(/^ok {6}selftest one: /gm)]).toHaveLength(TESTED.length - 2);
  expect(code).toBe(2);
  const unknown = await run("doctor", {}, "--selftest", "nobody");
  expect(unknown).toMatchObject({ code: 1, stderr: expect.stringContaining('has no runner "nobody"') });
}, 120_000);

test("lint looks at the file alone: errors fail, warnings with --strict", async () => {
  await configure({ url: "http://127.0.0.1:1" });
  expect(await run("lint")).toMatchObject({ code: 0, stdout: expect.stringMatching(/1 runner\nnothing is wrong\n$/) });
  await configure({ global: "concurent = 2" });
  expect(await run("lint")).toMatchObject({ code: 0, stdout: expect.stringContaining("0 errors, 1 warning\n") });
  expect((await run("lint", {}, "--strict")).code).toBe(1);
  await configure({ global: 'concurrent = "many"' });
  const { code, stdout } = await run("lint", {}, "--json");
  expect(code).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ errors: 1, notes: [{ severity: "error", check: "configuration" }] });
  const named = await runProgram(["lint", configFile()], { home: dir });
  expect(named.stdout).toMatch(/config\.toml:2: concurrent/);
  const missing = await runProgram(["lint", "no.toml"], { home: dir });
  expect(missing).toMatchObject({
    code: 1,
    stdout: expect.stringMatching(/^error {3}configuration: .*no\.toml does not exist/),
  });
});
