import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import { tarEnd, tarHeader } from "../../src/files/tar.ts";
import { deadline, never, pause } from "../../src/time.ts";
import { fileName } from "../../src/workspace.ts";
import { runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { isRoot, sshdMissing } from "../support/sshd.ts";
import { openWire, type Wire, type WireOptions } from "../support/wire.ts";
import { openStand, type SshStand } from "./ssh-stand.ts";

const missing = sshdMissing();

/** Whether `condition` comes true within a generous time. */
async function soon(condition: () => boolean, seconds = 40): Promise<boolean> {
  for (let round = 0; round < seconds * 20; round++) {
    if (condition()) return true;
    await pause(50, never);
  }
  return condition();
}

function running(text: string): boolean {
  return execFileSync("ps", ["-axww", "-o", "args="]).toString().split("\n").includes(text);
}

describe.skipIf(missing !== null)("jobs over bad lines", { timeout: 180_000 }, () => {
  let stand: SshStand;
  beforeAll(async () => {
    stand = await openStand();
  });
  afterAll(() => stand?.close());

  /** Opens an executor that connects through a wire. */
  const overWire = async (
    options: WireOptions = {},
    table: Readonly<Record<string, unknown>> = {},
  ): Promise<{ wire: Wire; executor: Executor }> => {
    const wire = await openWire({ host: stand.sshd.host, port: stand.sshd.port }, options);
    const [type = "", key = ""] = stand.sshd.hostKey.split(" ");
    const known = join(stand.sshd.dir, `known-${wire.port}`);
    writeFileSync(known, `[127.0.0.1]:${wire.port} ${type} ${key}\n`);
    const executor = stand.open({}, { port: wire.port, known_hosts_file: known, ...table });
    onTestFinished(async () => {
      await executor.close(never);
      await wire.close();
    });
    return { wire, executor };
  };
  const prepared = async (executor: Executor, request = sampleRequest(), wire?: Wire): Promise<Environment> => {
    const environment = await executor.prepare(request, new Sink(), never);
    onTestFinished(async () => {
      wire?.heal();
      await environment.destroy(never).catch(() => {});
    });
    return environment;
  };
  const claims = (): string[] => {
    const dir = join(stand.user.home, "builds/0a1b2c3d/.claims");
    return existsSync(dir) ? readdirSync(dir).filter((name) => !name.startsWith(".")) : [];
  };

  test("a cut in mid-script is a failure of the system with the output so far, and the host ends the job by itself", async () => {
    const { wire, executor } = await overWire();
    const request = sampleRequest("cut/project");
    const environment = await prepared(executor, request, wire);
    const output = new Sink();
    const ended = environment.run(
      scriptOf(environment, source("setsid sleep 98761 & sleep 98762 & echo started; wait")),
      output,
      never,
    );
    await output.until(/started/);
    wire.refuse(true);
    wire.cut();
    const failure = await ended.catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(SystemFailure);
    expect(String(failure)).toMatch(/connection to .* is lost.*is not known/);
    expect(output.text).toContain("started\n");
    expect(await soon(() => !running("sleep 98761") && !running("sleep 98762"))).toBe(true);
    expect(await soon(() => !claims().some((name) => name.startsWith(request.jobKey)))).toBe(true);
    expect(existsSync(environment.workspace.tmpDir)).toBe(false);
    await expect(environment.run(scriptOf(environment, source("true")), new Sink(), never)).rejects.toThrow(/lost/);
  });

  test("after a cut the runner gets through again, and leaves nothing", async () => {
    const { wire, executor } = await overWire();
    const environment = await prepared(executor, sampleRequest("again/project"));
    const output = new Sink();
    const ended = environment.run(scriptOf(environment, source("echo started; sleep 98763")), output, never);
    await output.until(/started/);
    wire.cut();
    await expect(ended).rejects.toThrow(/lost/);
    await environment.destroy(never);
    expect(running("sleep 98763")).toBe(false);
    expect(existsSync(environment.workspace.tmpDir)).toBe(false);
  });

  test("cut after any number of bytes, no job ever succeeds without its end", async () => {
    const { wire, executor } = await overWire();
    for (let round = 0; round < 12; round++) {
      wire.cutAfter(3000 + Math.floor(Math.random() * 60_000));
      const request = sampleRequest("random/project");
      const result = await (async () => {
        const environment = await executor.prepare(request, new Sink(), AbortSignal.timeout(20_000));
        const output = new Sink();
        const exit = await environment
          .run(scriptOf(environment, source("seq 1 8000", "echo complete")), output, never)
          .finally(() => wire.cutAfter(Infinity));
        await environment.destroy(never);
        return { exit, complete: output.text.endsWith("complete\n") };
      })().catch((error: unknown) => error);
      if (result instanceof Error) expect(result).toBeInstanceOf(SystemFailure);
      else expect(result).toMatchObject({ exit: { code: 0 }, complete: true });
      wire.cutAfter(Infinity);
    }
  });

  test("a line that went silent is noticed, also while a cancel waits for it", async () => {
    const { wire, executor } = await overWire({}, { keepalive_interval: 1 });
    const environment = await prepared(executor, sampleRequest("silent/project"), wire);
    const output = new Sink();
    const stop = new AbortController();
    const ended = environment.run(scriptOf(environment, source("echo started; sleep 98764")), output, never);
    await output.until(/started/);
    wire.blackHole();
    await expect(ended).rejects.toThrow(/silent for \d+ s/);
    const other = await overWire({}, { keepalive_interval: 1 });
    const second = await prepared(other.executor, sampleRequest("silent/other"), other.wire);
    const said = new Sink();
    const canceled = second.run(scriptOf(second, source("echo started; sleep 98765")), said, stop.signal);
    await said.until(/started/);
    other.wire.blackHole();
    stop.abort(new Error("canceled"));
    await expect(canceled).rejects.toThrow("canceled");
    expect(said.text).toMatch(/could not be confirmed/);
    wire.cut();
    other.wire.cut();
    expect(await soon(() => !running("sleep 98764") && !running("sleep 98765"))).toBe(true);
  });

  test("a host that is frozen is noticed", async () => {
    const frozen = await openStand();
    onTestFinished(async () => {
      frozen.sshd.thaw();
      await frozen.close();
    });
    const executor = frozen.open({}, { keepalive_interval: 1 });
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    const output = new Sink();
    const ended = environment.run(scriptOf(environment, source("echo started; sleep 600")), output, never);
    await output.until(/started/);
    frozen.sshd.freeze();
    await expect(ended).rejects.toThrow(/silent for/);
    using limit = deadline(never, 3000, new Error("enough"));
    await environment.destroy(limit.signal).catch(() => {});
  });

  test("a killed session is a failure, not the script's status", async () => {
    const executor = stand.open();
    const environment = await prepared(executor, sampleRequest("killed/project"));
    const before = new Set(stand.sshd.sessions());
    const output = new Sink();
    const ended = environment.run(scriptOf(environment, source("echo $PPID started; sleep 600")), output, never);
    await output.until(/started/);
    expect(before.size).toBeGreaterThan(0);
    const names = execFileSync("ps", ["-axww", "-o", "pid=,args="]).toString().split("\n");
    for (const pid of stand.sshd.sessions()) {
      if (names.some((line) => line.trim().startsWith(`${pid} sshd:`))) process.kill(pid, "SIGKILL");
    }
    await expect(ended).rejects.toBeInstanceOf(SystemFailure);
  });

  test("a slow and late line is no reason to fail", async () => {
    const { executor } = await overWire({ delayMs: 40, bytesPerSecond: 100_000 }, { keepalive_interval: 1 });
    const environment = await prepared(executor, sampleRequest("slow/project"));
    const { code, text } = await runOps(environment, source("seq 1 60000", "exit 3"));
    expect(code).toBe(3);
    expect(text.endsWith("60000\n")).toBe(true);
  });

  test("a runner that died leaves nothing, and two runners of one token never share a working copy", async () => {
    const { wire, executor } = await overWire();
    const request = sampleRequest("shared/project");
    const first = await prepared(executor, request, wire);
    const other = stand.open();
    const second = await prepared(other, sampleRequest("shared/project"));
    expect([first.projectSlot, second.projectSlot]).toEqual([0, 1]);
    wire.refuse(true);
    wire.cut();
    expect(await soon(() => !claims().some((name) => name.startsWith(request.jobKey)))).toBe(true);
    const third = await prepared(other, sampleRequest("shared/project"));
    expect(third.projectSlot).toBe(0);
  });

  test("recovery of a host that is away says so, in bounded time", async () => {
    const executor = stand.open({}, { port: 1, connect_timeout: 2 });
    const note = {
      kind: "ssh-job",
      host: "127.0.0.1",
      port: 1,
      user: stand.user.name,
      buildsDir: "builds",
      runnerId: "0a1b2c3d",
    };
    const said = await executor.recover("some-job", [note, { kind: "other" }], never);
    expect(said.left.join()).toMatch(/could not look after what it left on .*ECONNREFUSED/);
    const moved = await executor.recover("some-job", [{ ...note, host: "elsewhere" }], never);
    expect(moved.left.join()).toMatch(/because the entry names/);
  });
});

describe.skipIf(missing !== null)("hosts with limits", { timeout: 240_000 }, () => {
  test("where sessions are few, jobs take turns or log in again, and can still be stopped", async () => {
    for (const most of [1, 2]) {
      const stand = await openStand({ config: `MaxSessions ${most}` });
      try {
        const executor = stand.open();
        const environment = await executor.prepare(sampleRequest(), new Sink(), never);
        const texts = await Promise.all(
          [1, 2, 3, 4].map((number) => runOps(environment, source(`echo ${number}`)).then(({ text }) => text)),
        );
        expect(texts).toEqual(["1\n", "2\n", "3\n", "4\n"]);
        const output = new Sink();
        const stop = new AbortController();
        const ended = environment.run(scriptOf(environment, source("echo started; sleep 98766")), output, stop.signal);
        await output.until(/started/);
        stop.abort(new Error("canceled"));
        await expect(ended).rejects.toThrow("canceled");
        expect(running("sleep 98766")).toBe(false);
        await environment.destroy(never);
      } finally {
        await stand.close();
      }
    }
  });

  test("fifty jobs at once wait for MaxStartups instead of failing", { timeout: 240_000 }, async () => {
    const stand = await openStand({ config: "MaxStartups 4:50:6\nMaxSessions 3" });
    try {
      const executor = stand.open();
      const results = await Promise.all(
        Array.from({ length: 50 }, async (_, index) => {
          const environment = await executor.prepare(sampleRequest(), new Sink(), never);
          const { code } = await runOps(environment, source(`exit ${index}`));
          await environment.destroy(never);
          return { code, slot: environment.projectSlot };
        }),
      );
      expect(results.map(({ code }) => code)).toEqual(Array.from({ length: 50 }, (_, index) => index));
    } finally {
      await stand.close();
    }
  });

  test.skipIf(!isRoot)("a full disk is said, and what was there stays", async () => {
    const stand = await openStand();
    const small = join(stand.sshd.dir, "small");
    mkdirSync(small);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k,mode=0777", "tmpfs", small]);
    try {
      const executor = stand.open({ buildsDir: small });
      const environment = await executor.prepare(sampleRequest(), new Sink(), never);
      const { code } = await runOps(environment, source(`head -c 1000000 /dev/zero > ${small}/filler`));
      expect(code).not.toBe(0);
      await runOps(environment, source(`rm ${small}/filler`));
      const large = [
        tarHeader({
          name: fileName("large"),
          kind: "file",
          size: 1_048_576,
          mode: 0o644,
          mtimeSeconds: 1,
          target: fileName(""),
        }),
        Buffer.alloc(1_048_576),
        tarEnd,
      ];
      const limits = { bytes: 1e9, entries: 100, freeBytes: 0 };
      const unpacking = environment.workspace.unpack(Readable.from(large, { objectMode: false }), limits, never);
      await expect(unpacking).rejects.toThrow(/disk|space/i);
      expect(existsSync(join(environment.workspace.root, "large"))).toBe(false);
      await environment.destroy(never);
      execFileSync("sh", ["-c", `cat /dev/zero >${small}/rest 2>/dev/null || :`]);
      const failure = await executor.prepare(sampleRequest(), new Sink(), never).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(SystemFailure);
      expect(String(failure)).toMatch(/No space left on device.*Make room there/);
    } finally {
      await stand.close().catch(() => {});
      execFileSync("umount", ["-l", small]);
      await stand.close();
    }
  });
});

describe.skipIf(missing !== null || !isRoot)("accounts of all kinds", { timeout: 180_000 }, () => {
  const shells = ["/bin/bash", "/bin/dash", "/usr/bin/zsh", "/bin/csh", "/usr/bin/fish"];
  test("bash, dash, busybox, zsh and others as login shells, with noisy profiles", async () => {
    const stand = await openStand();
    try {
      const ash = join(stand.sshd.dir, "ash");
      execFileSync("cp", ["/usr/bin/busybox", ash]);
      for (const shell of [...shells.filter((path) => existsSync(path)), ash]) {
        const user = stand.sshd.addUser({ shell });
        for (const file of [".bashrc", ".zshenv", ".cshrc"]) {
          writeFileSync(join(user.home, file), "echo noise of a profile; echo more >&2\n");
        }
        const executor = stand.open({ buildsDir: undefined, shell: "sh" }, { user: user.name });
        const environment = await executor.prepare(sampleRequest(), new Sink(), never);
        expect(environment.buildsDir).toBe(join(user.home, "builds"));
        const { code, text } = await runOps(environment, source("id -un", "exit 9"));
        expect({ shell, code, text }).toEqual({ shell, code: 9, text: `${user.name}\n` });
        await environment.destroy(never);
      }
    } finally {
      await stand.close();
    }
  });

  test("without a shell, bound to a command, or with an endless profile: the message says what it is", async () => {
    const stand = await openStand();
    try {
      const failureOf = async (user: string): Promise<string> => {
        const executor = stand.open({}, { user });
        const failure = await executor.prepare(sampleRequest(), new Sink(), never).catch((error: unknown) => error);
        expect(failure).toBeInstanceOf(SystemFailure);
        return String(failure);
      };
      expect(await failureOf(stand.sshd.addUser({ shell: "/usr/sbin/nologin" }).name)).toMatch(
        /did not start a program but ended with status 1, saying: This account is currently not available/,
      );
      const endless = stand.sshd.addUser();
      writeFileSync(join(endless.home, ".bashrc"), "exec yes\n");
      expect(await failureOf(endless.name)).toMatch(/prints without end/);
      await stand.sshd.restart({ config: "ForceCommand echo only this" });
      expect(await failureOf(stand.user.name)).toMatch(/saying: only this.*ForceCommand/);
    } finally {
      await stand.close();
    }
  });
});

test("the wire of these tests cuts", async () => {
  const wire = await openWire({ host: "127.0.0.1", port: 1 });
  const { connect } = await import("node:net");
  const socket = connect({ host: "127.0.0.1", port: wire.port });
  await once(socket, "close");
  await wire.close();
});
