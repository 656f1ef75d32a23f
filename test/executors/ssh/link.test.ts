import { expect, onTestFinished, test } from "vitest";
import { connectSsh } from "../../../executors/ssh/connection/connection.ts";
import { createLink } from "../../../executors/ssh/connection/link.ts";
import { sshSettings, sshTable } from "../../../executors/ssh/settings.ts";
import type { Log } from "../../../src/log.ts";
import { never } from "../../../src/time.ts";
import { loginUser, sshdMissing, startSshd } from "../../support/sshd.ts";

const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => log };

test.skipIf(sshdMissing() !== null)(
  "whoever is stopped does not take from others the login that all wait for",
  async () => {
    const sshd = await startSshd();
    onTestFinished(() => sshd.close());
    const table = sshTable.parse({
      host: sshd.host,
      port: sshd.port,
      user: loginUser(sshd).name,
      identity_file: sshd.keyFile,
      known_hosts_file: sshd.knownHostsFile,
      max_sessions: 1,
    });
    const settings = sshSettings(table, { workingDirectory: sshd.dir, environment: {} });
    const gate = Promise.withResolvers<void>();
    const another = async (signal: AbortSignal) => {
      await gate.promise;
      return await connectSsh(settings, { log }, signal);
    };
    const link = createLink(await connectSsh(settings, { log }, never), another);
    onTestFinished(() => link.close());
    const first = await link.exec("exec cat", never);
    const stop = new AbortController();
    const stopped = link.exec("exit 1", stop.signal);
    const other = link.exec("exit 7", never);
    stop.abort(new Error("canceled"));
    gate.resolve();
    await expect(stopped).rejects.toThrow("canceled");
    const channel = await other;
    channel.stdout.resume();
    expect((await channel.status).code).toBe(7);
    first.close();
  },
);
