import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type Docker from "dockerode";
import { describe, expect, onTestFinished, test } from "vitest";
import { viewContainer } from "../../executors/docker/container/view.ts";
import { isElsewhere } from "../../executors/docker-ssh/address.ts";
import { hostKeyFingerprints } from "../../executors/docker-ssh/host-keys.ts";
import dockerSsh from "../../executors/docker-ssh/index.ts";
import { logInToContainer } from "../../executors/docker-ssh/login.ts";
import { sshSettings, sshTable } from "../../executors/ssh/settings.ts";
import { SystemFailure } from "../../src/errors.ts";
import { tarEnd, tarHeader, tarPadding } from "../../src/files/tar.ts";
import type { Log } from "../../src/log.ts";
import { never } from "../../src/time.ts";
import { fileNameOf } from "../../src/workspace.ts";
import { executorContract } from "../contract/executor.ts";
import { cutSessions, throughCuts, WHOLE } from "../support/cuts.ts";
import { imageName, noEngine, sshPassword, testEngine } from "../support/docker.ts";
import { runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import { connectTo, openDockerStand, standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

const engine = await testEngine("docker");
const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => log };
const ssh = { user: "root", password: sshPassword };

test("only the address of another machine is taken for a container's", () => {
  const own = ["192.0.2.7", "2001:db8::7"];
  for (const address of ["172.18.0.2", "10.1.2.3", "2001:db8::8"])
    expect(isElsewhere(address, own), address).toBe(true);
  const wrong = ["", "localhost", "127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "192.0.2.7"];
  for (const address of wrong) expect(isElsewhere(address, own), address).toBe(false);
});

describe("docker-ssh executor", () => {
  if (engine === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const { docker } = engine;
  const stand = standOfSuite(engine, ["git", "sshd"], { definition: dockerSsh, tables: { ssh }, image: "sshd" });

  executorContract("docker-ssh", {
    open: async (options) => stand().open({}, options),
    timeoutMs: TIMEOUT_MS,
    shared: true,
    jobsAtOnce: 8,
    skip: [
      {
        test: "the next job finds the checkout of the last one, and none of its temporary files",
        because: "each job has a container of its own, and its checkout lies in the account's home there",
      },
      {
        test: "jobs of different trust find nothing of one another, and have slots as those of one",
        because: "no job finds anything of another, whatever their trust",
      },
      {
        test: "a job builds its commit, whatever the last one left in the index and the objects",
        because: "the last one left nothing",
      },
    ],
  });

  const durably = async () => {
    const executor = stand().open({}, { durable: true });
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    const [id = ""] = (await docker.listContainers()).flatMap(({ Id }) =>
      environment.host.includes(Id.slice(0, 12)) ? Id : [],
    );
    return { executor, environment, container: docker.getContainer(id) };
  };

  test("with durable = true a lost connection ends no job", { timeout: TIMEOUT_MS }, async () => {
    const { executor, environment, container } = await durably();
    expect(environment.handle).toBeUndefined();
    const { Pid } = (await container.inspect()).State;
    const { cuts, code, text } = await throughCuts(environment, () => cutSessions(Pid));
    expect(cuts).toBeGreaterThan(3);
    expect([code, text]).toEqual([7, WHOLE]);
    await environment.destroy(never);
    await executor.close(never);
    expect(await stand().leftovers()).toEqual([]);
  });

  test("with durable = true a container that ends in mid-job is named at once", { timeout: TIMEOUT_MS }, async () => {
    const { executor, environment, container } = await durably();
    const output = new Sink();
    const running = runOps(environment, source("echo begun; sleep 600"), { output });
    running.catch(() => {});
    await output.until(/begun/);
    await container.kill();
    await expect(running).rejects.toThrow(/^The container of the image \S+ ended with status 137 in mid-job/);
    await environment.destroy(never);
    await executor.close(never);
    expect(await stand().leftovers()).toEqual([]);
  });

  test("a container that shares this machine's network is refused, and nothing is made", async () => {
    const executor = stand().open({ network_mode: "host" });
    await expect(executor.prepare(sampleRequest(), new Sink(), never)).rejects.toThrow(/remove network_mode = "host"/);
    await executor.close(never);
    expect(await stand().leftovers()).toEqual([]);
  });

  test("what has another host key than the operator named gets no login, and nothing is left", async () => {
    const named = { ...ssh, host_key_fingerprint: "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU" };
    const flavor = { definition: dockerSsh, tables: { ssh: named }, image: "sshd" } as const;
    const strict = openDockerStand(engine, flavor);
    try {
      const request = sampleRequest();
      const executor = strict.open();
      await expect(executor.prepare(request, new Sink(), never)).rejects.toThrow(
        /host key of \S+ is .*nothing was sent/,
      );
      await executor.recover(request.jobKey, request.notes, never);
      await executor.close(never);
      expect(await strict.leftovers()).toEqual([]);
    } finally {
      await strict.close();
    }
  });

  test("host keys are found where sshd_config says", async () => {
    const keys = join(stand().dir, "ssh");
    mkdirSync(join(keys, "own"), { recursive: true });
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(keys, "own/key")]);
    rmSync(join(keys, "own/key.pub"));
    writeFileSync(
      join(keys, "sshd_config"),
      "PermitRootLogin yes\nPasswordAuthentication yes\nHostKey /etc/ssh/own/key\n",
    );
    const executor = stand().open({ volumes: [`${keys}:/etc/ssh`] });
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    const { text } = await runOps(environment, source("echo ${SSH_CONNECTION:+ssh}; ls /etc/ssh/own"));
    expect(text).toBe("ssh\nkey\n");
    await environment.destroy(never);
    await executor.close(never);
  });

  test("an image that starts no sshd is named, with what it must do and what it said", async () => {
    await engine.images("broken");
    const executor = stand().open({ image: imageName("broken") });
    const notes = new Sink();
    await expect(executor.prepare(sampleRequest(), notes, never)).rejects.toThrow(
      /must start sshd in the foreground; its last output is above/,
    );
    expect(notes.text).toContain("cannot find my data");
    await executor.close(never);
    expect(await stand().leftovers()).toEqual([]);
  });

  async function idle(image: "sh" | "sshd"): Promise<Docker.Container> {
    await engine?.images(image);
    const container = await docker.createContainer({
      Image: imageName(image),
      Cmd: ["sh", "-c", "echo nothing to serve; sleep 600"],
      HostConfig: { NetworkMode: "none" },
    });
    onTestFinished(async () => void (await container.remove({ force: true })));
    return container;
  }

  test("an image without sshd is waited for once", async () => {
    const container = await idle("sh");
    await container.start();
    const connected = await connectTo(engine);
    onTestFinished(() => connected.close());
    const notes = new Sink();
    const started = { container: viewContainer(connected, { id: container.id, image: "an/image" }), notes };
    const target = sshSettings(sshTable.parse(ssh), { workingDirectory: "/", environment: {} }, { host: "192.0.2.1" });
    const failure = await logInToContainer(started, target, { log, patienceMs: 300 }, never).catch(
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(SystemFailure);
    expect(failure).toMatchObject({ retry: false });
    expect(String(failure)).toMatch(
      /No sshd answers in the container of the image an\/image within 0.3 s: its host keys are neither/,
    );
    expect(notes.text).toContain("nothing to serve");
  });

  test("an archive that another runner has left in a volume is found, and nothing of it stays", async () => {
    const base = `runner-${randomBytes(6).toString("hex")}`;
    const volume = `${base}-cache-${createHash("md5").update("/cache").digest("hex")}`;
    await docker.createVolume({ Name: volume });
    onTestFinished(async () => void (await docker.getVolume(volume).remove({ force: true })));
    const filler = await docker.createContainer({
      Image: imageName("git"),
      Entrypoint: ["sh", "-c", "mkdir -p /cache/group/project/a && echo theirs >/cache/group/project/a/cache.zip"],
      HostConfig: { NetworkMode: "none", Binds: [`${volume}:/cache`], AutoRemove: true },
    });
    const ended = filler.wait();
    await filler.start();
    expect(await ended).toMatchObject({ StatusCode: 0 });
    const executor = stand().open();
    onTestFinished(() => executor.close(never));
    const request = { ...sampleRequest(), formerNames: (slot: number) => (slot === 2 ? [base] : []) };
    const environment = await executor.prepare(request, new Sink(), never);
    onTestFinished(() => environment.destroy(never));
    const read = async (path: string): Promise<string | null> => {
      await using found = (await environment.formerCache?.(path, never)) ?? null;
      if (found === null) return null;
      let text = found.from;
      for await (const piece of found.content) text += `: ${String(piece)}`;
      return text;
    };
    expect(await read("group/project/a/cache.zip")).toBe("slot 2 of another runner: theirs\n");
    expect(await read("group/project/b/cache.zip")).toBeNull();
    await environment.destroy(never);
    expect(await stand().leftovers()).toEqual([]);
  });

  test("Dropbear's host keys are read, too, from a container that does not run", async () => {
    const container = await idle("sh");
    const connected = await connectTo(engine);
    onTestFinished(() => connected.close());
    const field = (bytes: Buffer): Buffer => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return Buffer.concat([length, bytes]);
    };
    const [secret, open] = [randomBytes(32), randomBytes(32)];
    const key = Buffer.concat([field(Buffer.from("ssh-ed25519")), field(Buffer.concat([secret, open]))]);
    const name = fileNameOf("etc/dropbear/dropbear_ed25519_host_key");
    const entry = {
      name,
      kind: "file",
      size: key.length,
      mode: 0o600,
      mtimeSeconds: 0,
      target: fileNameOf(""),
    } as const;
    await container.putArchive(Buffer.concat([tarHeader(entry), key, Buffer.alloc(tarPadding(key.length)), tarEnd]), {
      path: "/",
    });
    const blob = Buffer.concat([field(Buffer.from("ssh-ed25519")), field(open)]);
    const digest = createHash("sha256").update(blob).digest("base64").replace(/=+$/, "");
    const view = viewContainer(connected, { id: container.id, image: "an/image" });
    expect(await hostKeyFingerprints(view, never)).toEqual([`SHA256:${digest}`]);
  });
});
