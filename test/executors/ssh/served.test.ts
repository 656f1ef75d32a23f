import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import { Client } from "ssh2";
import { expect, onTestFinished, test } from "vitest";
import { serve } from "../../../executors/ssh/connection/served.ts";
import { never } from "../../../src/time.ts";
import { loginUser, sshdMissing, startSshd } from "../../support/sshd.ts";

test.skipIf(sshdMissing() !== null).each(["a program", "a connection onwards", "a socket"])(
  "a line that has just ended in one direction is a lost connection for %s, and no fault of the host's",
  async (what) => {
    const sshd = await startSshd();
    onTestFinished(() => sshd.close());
    const line = connect({ host: sshd.host, port: sshd.port, allowHalfOpen: true });
    onTestFinished(() => void line.destroy());
    const client = new Client();
    const ready = once(client, "ready");
    client.connect({ sock: line, username: loginUser(sshd).name, privateKey: readFileSync(sshd.keyFile) });
    await ready;
    const connection = serve(client, line, { name: "host", keepAliveMs: 60_000, maxSessions: 10 });
    line.end();
    const asked =
      what === "a program"
        ? connection.exec("true", never)
        : what === "a socket"
          ? connection.forwardSocket("/nowhere", never)
          : connection.forward("127.0.0.1", 1, never);
    await expect(asked).rejects.toMatchObject({
      message: "The connection to host is lost: the host hung up",
      retry: true,
    });
  },
);
