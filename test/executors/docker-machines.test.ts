import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { createDockerExecutor } from "../../executors/docker/index.ts";
import { settingsOf } from "../../executors/docker/settings/table.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { PrepareRequest } from "../../src/executor/prepare.ts";
import { never } from "../../src/time.ts";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import { executorDeps } from "../support/executor-deps.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

const engine = await testEngine("docker");

/** Makes the engine reachable under another address, as if it ran on a machine of its own. */
async function openMachine(path: string, host: string) {
  const open = new Set<Socket>();
  let quiet = (): void => {};
  const server = createServer({ allowHalfOpen: true }, (client) => {
    // The end of a program's stdin must not end its output.
    const there = connect({ path: host.slice("unix://".length), allowHalfOpen: true });
    open.add(client);
    client.on("close", () => {
      open.delete(client);
      there.destroy();
      if (open.size === 0) quiet();
    });
    for (const socket of [client, there]) socket.on("error", () => client.destroy());
    client.pipe(there).pipe(client);
  });
  server.listen(path);
  await once(server, "listening");
  return {
    host: `unix://${path}`,
    connections: () => open.size,
    /** Resolves when no connection is open any more. */
    left: () => new Promise<void>((resolve) => (open.size === 0 ? resolve() : (quiet = resolve))),
    close: () => server.close(),
  };
}

describe("docker on machines", () => {
  if (engine === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const stand = standOfSuite(engine, ["sh", "git"]);

  const open = (): Executor => {
    const table = { host: `unix://${stand().dir}/nobody.sock`, image: imageName("sh"), helper_image: imageName("git") };
    const executor = createDockerExecutor(
      settingsOf({ ...table, pull_policy: "never" }),
      executorDeps(stand().dir, { killGraceMs: 1000 }),
      {
        name: "docker+machine",
        title: "Docker Machine",
        connectionOf: ({ reservation }) => ({ host: reservation?.name ?? "", tlsCertPath: "", tlsVerify: false }),
      },
    );
    onTestFinished(() => executor.close(never));
    return executor;
  };
  const on = (host: string): PrepareRequest & { notes: unknown[] } => ({
    ...sampleRequest(),
    runnerId: stand().runner(),
    reservation: { name: host, [Symbol.asyncDispose]: async () => {} },
  });

  test(
    "each job's containers are at its own machine's engine, whose connections end with its last job",
    async () => {
      const [a, b] = await Promise.all(
        ["a", "b"].map((name) => openMachine(join(stand().dir, `${name}.sock`), engine.host)),
      );
      if (a === undefined || b === undefined) throw new Error("there are two");
      const executor = open();
      const first = await executor.prepare(on(a.host), new Sink(), never);
      const [second, third] = await Promise.all([
        executor.prepare(on(b.host), new Sink(), never),
        executor.prepare(on(b.host), new Sink(), never),
      ]);
      expect((await runOps(first, source("echo one"))).text).toBe("one\n");
      expect((await runOps(third, source("echo three"))).text).toBe("three\n");
      await first.destroy(never);
      await a.left();
      await second.destroy(never);
      expect((await runOps(third, source("echo still"))).text).toBe("still\n");
      await third.destroy(never);
      await b.left();
      // The machine may exist again, for another job.
      const again = await executor.prepare(on(a.host), new Sink(), never);
      await again.destroy(never);
      await a.left();
      a.close();
      b.close();
    },
    TIMEOUT_MS,
  );

  test(
    "what a dead job left is removed at the engine that its note names, and a machine that is away fails its job alone",
    async () => {
      const machine = await openMachine(join(stand().dir, "c.sock"), engine.host);
      onTestFinished(() => void machine.close());
      const request = on(machine.host);
      const before = open();
      const environment = await before.prepare(request, new Sink(), never);
      onTestFinished(() => environment.destroy(never));
      const notes = JSON.parse(JSON.stringify(request.notes));
      const { done, left } = await open().recover(request.jobKey, notes, never);
      expect(done).toEqual(expect.arrayContaining(["removed 2 containers"]));
      expect(left).toEqual([]);
      await expect(before.prepare(on(`unix://${stand().dir}/away.sock`), new Sink(), never)).rejects.toThrow(
        /away\.sock/,
      );
    },
    TIMEOUT_MS,
  );
});
