import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { CHACHA } from "../../executors/common/ssh2/chacha20-poly1305.ts";
import { connectSsh, type SshConnection } from "../../executors/ssh/connection/connection.ts";
import { sshComplaint, sshSettings, sshTable } from "../../executors/ssh/settings.ts";
import { SystemFailure } from "../../src/errors.ts";
import type { Log } from "../../src/log.ts";
import { deadline, never } from "../../src/time.ts";
import { authorize, isRoot, loginUser, type Sshd, type SshUser, sshdMissing, startSshd } from "../support/sshd.ts";
import { openWire } from "../support/wire.ts";

const missing = sshdMissing();
const missingPutty = programMissing("puttygen", "putty-tools");
const warnings: string[] = [];
const log: Log = {
  debug: () => {},
  info: () => {},
  warn: (text) => warnings.push(text),
  error: () => {},
  child: () => log,
};

/** Why a test of a program is skipped. With CI=true a missing one is a failure. */
function programMissing(name: string, debianPackage: string): string | null {
  if ((process.env.PATH ?? "").split(":").some((dir) => existsSync(join(dir, name)))) return null;
  if (process.env.CI === "true") throw new Error(`no ${name} (Debian: ${debianPackage}): run scripts/setup-tests.sh`);
  return `no ${name}`;
}

describe.skipIf(missing !== null)("logging in over SSH", { timeout: 120_000 }, () => {
  let sshd: Sshd;
  let user: SshUser;
  beforeAll(async () => {
    sshd = await startSshd();
    user = loginUser(sshd);
  });
  afterAll(() => sshd?.close());

  const settingsOf = (table: Readonly<Record<string, unknown>>, environment: NodeJS.ProcessEnv = {}) =>
    sshSettings(
      sshTable.parse({
        host: sshd.host,
        port: sshd.port,
        user: user.name,
        identity_file: sshd.keyFile,
        known_hosts_file: sshd.knownHostsFile,
        ...table,
      }),
      { workingDirectory: sshd.dir, environment },
    );
  const connect = async (
    table: Readonly<Record<string, unknown>> = {},
    { signal = never, environment = {} }: { signal?: AbortSignal; environment?: NodeJS.ProcessEnv } = {},
  ): Promise<SshConnection> => {
    const connection = await connectSsh(settingsOf(table, environment), { log }, signal);
    onTestFinished(() => connection.close());
    return connection;
  };
  const failureOf = async (...args: Parameters<typeof connect>): Promise<SystemFailure> => {
    const result = await connect(...args).catch((error: unknown) => error);
    expect(result).toBeInstanceOf(SystemFailure);
    if (!(result instanceof SystemFailure)) throw result;
    return result;
  };
  const whoami = async (connection: SshConnection): Promise<string> => {
    const channel = await connection.exec("id -un", never);
    let text = "";
    for await (const chunk of channel.stdout) text += String(chunk);
    expect(await channel.status).toEqual({ code: 0, signal: null });
    return text.trim();
  };

  describe("by key", () => {
    const formats: readonly (readonly string[])[] = [
      ["-t", "ed25519"],
      ["-t", "rsa", "-b", "2048"],
      ["-t", "rsa", "-b", "2048", "-m", "PEM"],
      ["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
      ["-t", "ecdsa", "-b", "256"],
      ["-t", "ecdsa", "-b", "521", "-m", "PEM"],
      ["-t", "ecdsa", "-b", "384", "-m", "PKCS8"],
      ["-t", "ed25519", "-Z", "aes256-gcm@openssh.com"],
      ["-t", "ed25519", "-Z", CHACHA],
      ["-t", "rsa", "-b", "2048", "-Z", CHACHA],
    ];
    for (const [index, format] of formats.entries()) {
      for (const passphrase of ["", "päss wörd"]) {
        test(`${format.join(" ")}${passphrase === "" ? "" : " with a passphrase"}`, async () => {
          const file = join(sshd.dir, `key-${index}-${passphrase.length}`);
          execFileSync("ssh-keygen", ["-q", ...format, "-N", passphrase, "-f", file]);
          authorize(sshd, readFileSync(`${file}.pub`, "utf8"));
          const identity = { identity_file: file };
          expect(await whoami(await connect({ ...identity, identity_passphrase: passphrase }))).toBe(user.name);
          if (passphrase === "") return;
          expect((await failureOf(identity)).message).toMatch(/is encrypted. Set identity_passphrase/);
          const wrong = await failureOf({ ...identity, identity_passphrase: "tell-nobody" });
          expect(wrong.message).toContain("identity_passphrase does not open it");
          expect(wrong.message).not.toContain("tell-nobody");
        });
      }
    }

    test("a key under chacha20-poly1305 that is cut off or takes minutes to open is refused", async () => {
      const file = join(sshd.dir, "chacha");
      execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-Z", CHACHA, "-a", "600", "-N", "secret", "-f", file]);
      const identity = { identity_file: file, identity_passphrase: "secret" };
      const { message } = await failureOf(identity);
      const [, command = ""] = /Encrypt it anew: (.*)$/.exec(message) ?? [];
      expect(command).toContain(`-f ${file}`);
      execFileSync("sh", ["-c", `${command} -Z ${CHACHA} -P secret -N secret -q`]);
      authorize(sshd, readFileSync(`${file}.pub`, "utf8"));
      expect(await whoami(await connect(identity))).toBe(user.name);
      const [first = "", ...lines] = readFileSync(file, "utf8").trim().split("\n");
      const last = lines.pop();
      for (let kept = 0; kept < lines.length; kept++) {
        writeFileSync(`${file}-cut`, [first, ...lines.slice(0, kept), last].join("\n"));
        expect((await failureOf({ ...identity, identity_file: `${file}-cut` })).message).toMatch(
          /is no private key|does not open it/,
        );
      }
    });

    test.skipIf(missingPutty !== null)("a key of PuTTY is refused with the command that converts it", async () => {
      const file = join(sshd.dir, "putty");
      execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file]);
      authorize(sshd, readFileSync(`${file}.pub`, "utf8"));
      execFileSync("puttygen", [file, "-O", "private", "-o", `${file}.ppk`]);
      const { message } = await failureOf({ identity_file: `${file}.ppk` });
      const [, command = ""] = /Convert it: (.*)$/.exec(message) ?? [];
      execFileSync("sh", ["-c", command]);
      expect(await whoami(await connect({ identity_file: `${file}.ppk.openssh` }))).toBe(user.name);
    });

    test("a key that the host does not know is refused by its name, once", async () => {
      const file = join(sshd.dir, "stranger");
      execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file]);
      const failure = await failureOf({ identity_file: file });
      expect(failure.retry).toBe(false);
      expect(failure.message).toMatch(
        /Cannot log in to .*refused: the key .*stranger \(ssh-ed25519\).*The host offers: publickey,/,
      );
    });

    test("files that are no private keys are refused before anything is sent", async () => {
      writeFileSync(join(sshd.dir, "nonsense"), "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n");
      expect((await failureOf({ identity_file: "nonsense" })).message).toMatch(/nonsense .*is no private key/);
      expect((await failureOf({ identity_file: "nowhere" })).message).toMatch(/nowhere .*cannot be read/);
      expect((await failureOf({ identity_file: `${sshd.keyFile}.pub` })).message).toContain("is a public key");
    });
  });

  test.skipIf(!isRoot)("by password, and by keyboard-interactive where only that is offered", async () => {
    const table = { identity_file: "", password: user.password };
    expect(await whoami(await connect(table))).toBe(user.name);
    const failure = await failureOf({ ...table, password: "tell-nobody" });
    expect(failure.message).toMatch(/refused: the password/);
    expect(failure.message).not.toContain("tell-nobody");

    const pam = await startSshd({ config: "UsePAM yes\nPasswordAuthentication no\nKbdInteractiveAuthentication yes" });
    onTestFinished(() => pam.close());
    const other = pam.addUser();
    const there = { port: pam.port, user: other.name, known_hosts_file: pam.knownHostsFile, identity_file: "" };
    expect(await whoami(await connect({ ...there, password: other.password }))).toBe(other.name);
    expect((await failureOf({ ...there, password: "wrong" })).message).toMatch(/refused: keyboard-interactive/);
  });

  test.skipIf(!isRoot)("by a key and a password where the host wants both", async () => {
    const both = await startSshd({ config: "AuthenticationMethods publickey,password" });
    onTestFinished(() => both.close());
    const other = both.addUser();
    const there = {
      port: both.port,
      user: other.name,
      known_hosts_file: both.knownHostsFile,
      identity_file: both.keyFile,
    };
    expect(await whoami(await connect({ ...there, password: other.password }))).toBe(other.name);
    expect((await failureOf(there)).message).toMatch(/More than one proof is wanted/);
  });

  test("by an agent, and clearly not without one", async () => {
    const socket = join(sshd.dir, "agent");
    const agent = spawn("ssh-agent", ["-D", "-a", socket], { stdio: ["ignore", "pipe", "inherit"] });
    onTestFinished(async () => {
      agent.kill();
      await once(agent, "exit");
    });
    await once(agent.stdout, "data");
    execFileSync("ssh-add", ["-q", sshd.keyFile], { env: { ...process.env, SSH_AUTH_SOCK: socket } });
    expect(await whoami(await connect({ identity_file: "", agent: socket }))).toBe(user.name);
    expect(
      await whoami(await connect({ identity_file: "", agent: true }, { environment: { SSH_AUTH_SOCK: socket } })),
    ).toBe(user.name);
    expect((await failureOf({ identity_file: "", agent: true })).message).toContain("without SSH_AUTH_SOCK");
    expect((await failureOf({ identity_file: "", agent: join(sshd.dir, "none") })).message).toMatch(
      /refused: the agent at/,
    );
  });

  describe("host keys", () => {
    const fingerprint = (file: string): string =>
      /SHA256:\S+/.exec(execFileSync("ssh-keygen", ["-lf", file]).toString())?.[0] ?? "";

    test("an unknown one is shown with the ways to accept it, which work", async () => {
      const file = join(sshd.dir, "empty_hosts");
      writeFileSync(file, "");
      const failure = await failureOf({ known_hosts_file: file });
      expect(failure.retry).toBe(false);
      const print = fingerprint(join(sshd.dir, "host_key.pub"));
      expect(failure.message).toContain(`ssh-ed25519 ${print}`);
      expect(failure.message).toContain("disable_strict_host_key_checking = true");
      const [, shown = ""] = /host_key_fingerprint = "([^"]+)"/.exec(failure.message) ?? [];
      const [, line = ""] = /_hosts: (.*) \(disable/.exec(failure.message) ?? [];
      expect(await whoami(await connect({ known_hosts_file: file, host_key_fingerprint: shown }))).toBe(user.name);
      appendFileSync(file, `${line}\n`);
      expect(await whoami(await connect({ known_hosts_file: file }))).toBe(user.name);
    });

    test("hashed, wildcard, negated and revoked lines mean what they mean to ssh", async () => {
      const file = join(sshd.dir, "odd_hosts");
      const name = `[127.0.0.1]:${sshd.port}`;
      const write = (text: string): void => writeFileSync(file, `# a comment\nnonsense\n@other x y z\n${text}\n`);
      writeFileSync(file, `${name} ${sshd.hostKey}\n`);
      execFileSync("ssh-keygen", ["-q", "-H", "-f", file], { stdio: "ignore" });
      expect(readFileSync(file, "utf8")).toContain("|1|");
      await connect({ known_hosts_file: file });
      write(`[127.0.0.*]:${sshd.port} ${sshd.hostKey}`);
      await connect({ known_hosts_file: file });
      write(`127.0.0.1 ${sshd.hostKey}`);
      await connect({ known_hosts_file: file });
      write(`[127.0.0.?]:*,!${name} ${sshd.hostKey}`);
      expect((await failureOf({ known_hosts_file: file })).message).toMatch(
        /is not known.*"ssh-keygen -lf \/etc\/ssh\/ssh_host_ed25519_key.pub" there/,
      );
      write(`${name} ${sshd.hostKey}\n@revoked * ${sshd.hostKey}`);
      expect((await failureOf({ known_hosts_file: file })).message).toContain("marked as revoked");
    });

    test("a changed one is refused before any password is sent, and between two tries", async () => {
      const other = await startSshd();
      onTestFinished(() => other.close());
      const at = { port: other.port, known_hosts_file: other.knownHostsFile, identity_file: other.keyFile };
      const name = isRoot ? other.addUser().name : user.name;
      await connect({ ...at, user: name });
      await other.restart({ newHostKey: true });
      const failure = await failureOf({ ...at, user: name, password: "tell-nobody" });
      expect(failure.message).toMatch(/has changed: it is ssh-ed25519 SHA256:.*line 1, knows ssh-ed25519 SHA256:/);
      expect(failure.retry).toBe(false);
      expect(other.log()).not.toMatch(/Failed (password|publickey)/);
      const print = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
      expect((await failureOf({ ...at, host_key_fingerprint: print })).message).toContain(`names ${print}`);
      warnings.length = 0;
      await connect({ ...at, user: name, disable_strict_host_key_checking: true });
      expect(warnings.join()).toContain("was not checked");
    });

    test("the host is asked for the kind of key that is known", async () => {
      const ecdsa = join(sshd.dir, "ecdsa_host");
      execFileSync("ssh-keygen", ["-q", "-t", "ecdsa", "-N", "", "-f", ecdsa]);
      const two = await startSshd({ config: `HostKey ${ecdsa}` });
      onTestFinished(() => two.close());
      const file = join(two.dir, "only_ecdsa");
      writeFileSync(file, `[127.0.0.1]:${two.port} ${readFileSync(`${ecdsa}.pub`, "utf8")}`);
      const name = isRoot ? two.addUser().name : user.name;
      await connect({ port: two.port, user: name, known_hosts_file: file, identity_file: two.keyFile });
    });
  });

  test("by way of another host, with a host key and a login of its own", async () => {
    const target = await startSshd();
    onTestFinished(() => target.close());
    const name = isRoot ? target.addUser().name : user.name;
    const there = {
      port: target.port,
      user: name,
      known_hosts_file: target.knownHostsFile,
      identity_file: target.keyFile,
    };
    const jump = {
      host: sshd.host,
      port: sshd.port,
      user: user.name,
      identity_file: sshd.keyFile,
      known_hosts_file: sshd.knownHostsFile,
    };
    const connection = await connect({ ...there, jump });
    expect(await whoami(connection)).toBe(name);
    expect(sshd.log()).toContain("Accepted publickey");
    for (const pid of sshd.sessions()) process.kill(pid, "SIGKILL");
    if (!connection.lost.aborted) await once(connection.lost, "abort");
    expect(String(connection.lost.reason)).toMatch(/is lost/);
    expect((await failureOf({ ...there, jump: { ...jump, known_hosts_file: target.knownHostsFile } })).message).toMatch(
      new RegExp(`port ${sshd.port}, is not known`),
    );
    const closed = await failureOf({ ...there, port: 1, jump });
    expect(closed.message).toMatch(/cannot reach 127.0.0.1, port 1 /);
    expect(closed.retry).toBe(true);
  });

  describe("hosts that are away", () => {
    test("refuse, are unknown, say nothing, or speak something else: each is said, in bounded time", async () => {
      const refused = await failureOf({ port: 1 });
      expect(refused.message).toMatch(/Cannot reach 127.0.0.1, port 1: .*ECONNREFUSED/);
      expect(refused.retry).toBe(true);
      expect((await failureOf({ host: "no-such-host.invalid" })).message).toMatch(/no-such-host.invalid.*Check host/);

      const sockets = new Set<import("node:net").Socket>();
      const silent = createServer((socket) => void sockets.add(socket.on("error", () => {}))).listen(0, "127.0.0.1");
      await once(silent, "listening");
      onTestFinished(async () => {
        for (const socket of sockets) socket.destroy();
        silent.close();
        await once(silent, "close");
      });
      const address = silent.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      const late = await failureOf({ port, connect_timeout: 1 });
      expect(late.message).toMatch(/no answer within 1 s/);
      expect(late.retry).toBe(true);
      using limit = deadline(never, 200, new Error("canceled"));
      await expect(connect({ port }, { signal: limit.signal })).rejects.toThrow("canceled");
    });

    test("a host that hangs up because it is busy is asked again", async () => {
      const wire = await openWire({ host: sshd.host, port: sshd.port });
      onTestFinished(() => wire.close());
      wire.refuse(true);
      const connecting = connect({
        port: wire.port,
        host_key_fingerprint: [],
        known_hosts_file: "any",
        disable_strict_host_key_checking: true,
      });
      while (wire.count < 2) await new Promise((resolve) => setTimeout(resolve, 20));
      wire.refuse(false);
      expect(await whoami(await connecting)).toBe(user.name);
    });
  });
});

describe("[runners.ssh]", () => {
  test("names a way to log in, and for a jump its host", () => {
    const complaint = (table: unknown): string | null => sshComplaint(sshTable.parse(table));
    expect(complaint({ host: "h" })).toMatch(/no way to log in/);
    expect(complaint({ host: "h", password: "" })).toMatch(/no way to log in/);
    expect(complaint({ host: "h", agent: false })).toMatch(/no way to log in/);
    expect(complaint({ host: "h", identity_file: "k", jump: {} })).toMatch(/runners.ssh.jump.*host/);
    expect(complaint({ host: "h", agent: true, jump: { host: "b" } })).toBeNull();
  });

  test("ports are texts or numbers, and numbers of ports", () => {
    const settings = (port: unknown) =>
      sshSettings(sshTable.parse({ host: "h", password: "p", port }), { workingDirectory: "/w", environment: {} });
    expect(settings("2222").port).toBe(2222);
    expect(settings(2222).port).toBe(2222);
    expect(settings("").port).toBe(22);
    for (const wrong of ["0", "65536", "ssh", -1, 1.5]) expect(sshTable.safeParse({ port: wrong }).success).toBe(false);
  });

  test("a jump takes over the key of its target, and never its password", () => {
    const table = sshTable.parse({
      host: "h",
      user: "u",
      identity_file: "k",
      password: "p",
      jump: { host: "b", port: 22 },
    });
    const { jump } = sshSettings(table, { workingDirectory: "/w", environment: {} });
    expect(jump).toMatchObject({ host: "b", user: "u", credentials: { identityFile: "/w/k", password: undefined } });
  });
});
