import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { CHACHA } from "../../executors/common/ssh2/chacha20-poly1305.ts";
import { connectSsh, type SshConnection } from "../../executors/ssh/connection/connection.ts";
import { sshSettings, sshTable } from "../../executors/ssh/settings.ts";
import type { Log } from "../../src/log.ts";
import { never } from "../../src/time.ts";
import { loginUser, type Sshd, type SshUser, sshdMissing, startSshd } from "../support/sshd.ts";
import { openWire } from "../support/wire.ts";

const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => log };
const KEX = /(?:client->server|server->client) cipher: (\S+)/g;

describe.skipIf(sshdMissing() !== null)("a host that speaks chacha20-poly1305", { timeout: 120_000 }, () => {
  const only = `LogLevel DEBUG1\nCiphers ${CHACHA}`;
  let sshd: Sshd;
  let user: SshUser;
  beforeAll(async () => {
    sshd = await startSshd({ config: `${only}\nRekeyLimit 1M` });
    user = loginUser(sshd);
  });
  afterAll(() => sshd?.close());

  const tableOf = (port: number) => ({
    host: sshd.host,
    port,
    user: user.name,
    identity_file: sshd.keyFile,
    disable_strict_host_key_checking: true,
    known_hosts_file: "/dev/null",
  });
  const connect = async (port = sshd.port): Promise<SshConnection> => {
    const settings = sshSettings(sshTable.parse(tableOf(port)), { workingDirectory: sshd.dir, environment: {} });
    const connection = await connectSsh(settings, { log }, never);
    onTestFinished(() => connection.close());
    return connection;
  };

  test("and nothing else: 20 MB there and back, while keys change", async () => {
    const connection = await connect();
    const from = sshd.log().length;
    const channel = await connection.exec(`tee ${join(user.home, "copy")}`, never);
    // The pieces have all kinds of lengths, and no part of them repeats.
    const pieces = Array.from({ length: 2_500 }, (_, index) =>
      createHash("shake256", { outputLength: 1 + ((index * 7919) % 16_000) })
        .update(String(index))
        .digest(),
    );
    const whole = Buffer.concat(pieces);
    expect(whole.length).toBeGreaterThan(19_000_000);
    const write = async (): Promise<void> => {
      for (const piece of pieces) {
        if (!channel.stdin.write(piece)) await new Promise((resolve) => channel.stdin.once("drain", resolve));
      }
      channel.stdin.end();
    };
    const read = async (): Promise<Buffer[]> => {
      const chunks: Buffer[] = [];
      for await (const chunk of channel.stdout) chunks.push(chunk);
      return chunks;
    };
    const [back] = await Promise.all([read(), write()]);
    expect(await channel.status).toEqual({ code: 0, signal: null });
    expect(Buffer.concat(back).equals(whole)).toBe(true);
    const said = sshd.log();
    expect(new Set([...said.matchAll(KEX)].map(([, cipher]) => cipher))).toEqual(new Set([CHACHA]));
    expect(said.slice(from).match(/rekeying in progress|rekeying out/g)?.length).toBeGreaterThan(10);
  });

  test("is reached in the binaries' runtime, which has no ChaCha20, when an engine's library has loaded ssh2 before", () => {
    const program = `
      import { connectEngine } from "./executors/docker/engine/engine.ts";
      import { connectSsh } from "./executors/ssh/connection/connection.ts";
      import { sshSettings, sshTable } from "./executors/ssh/settings.ts";
      import { never } from "./src/time.ts";
      const dir = ${JSON.stringify(sshd.dir)};
      const away = { host: "unix://" + dir + "/away", tlsCertPath: "", tlsVerify: false };
      await connectEngine({ settings: away, env: {}, scratchDir: dir }, never).catch(() => {});
      const table = sshTable.parse(${JSON.stringify(tableOf(sshd.port))});
      const log = { debug() {}, info() {}, warn() {}, error() {}, child: () => log };
      const connection = await connectSsh(sshSettings(table, { workingDirectory: dir, environment: {} }), { log }, never);
      const channel = await connection.exec("echo in-$((1+1))", never);
      for await (const chunk of channel.stdout) process.stdout.write(chunk);
      connection.close();`;
    const top = join(import.meta.dirname, "../..");
    const bun = join(top, "node_modules/bun/bin/bun.exe");
    const options = { cwd: top, encoding: "utf8", timeout: 60_000 } as const;
    expect(
      execFileSync(bun, ["--eval", "console.log(require('crypto').getCiphers().includes('chacha20'))"], options),
    ).toBe("false\n");
    expect(execFileSync(bun, ["--eval", program], options)).toBe("in-2\n");
  });

  test("one bit that is not the host's ends the connection", async () => {
    const wire = await openWire({ host: sshd.host, port: sshd.port });
    onTestFinished(() => wire.close());
    const connection = await connect(wire.port);
    // The garbled byte lies behind the encrypted length.
    wire.garbleAfter(20);
    const channel = connection.exec("echo never", never);
    await expect(channel.then(({ status }) => status)).rejects.toThrow(/Invalid MAC/);
  });

  test("is asked for another cipher where it has one", async () => {
    await sshd.restart({ config: `LogLevel DEBUG1\nCiphers ${CHACHA},aes256-ctr` });
    await connect();
    const said = [...sshd.log().matchAll(KEX)].map(([, cipher]) => cipher);
    expect(said.slice(-2)).toEqual(["aes256-ctr", "aes256-ctr"]);
  });
});
