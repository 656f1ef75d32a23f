import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, onTestFinished, test } from "vitest";
import type { Environment, Script } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Note } from "../../src/executor/prepare.ts";
import { never } from "../../src/time.ts";
import { cutSessions, throughCuts, WHOLE } from "../support/cuts.ts";
import { runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { isRoot, type SshdOptions, sshdMissing } from "../support/sshd.ts";
import { toolDirectory } from "./remote/local.ts";
import { openStand, type SshStand } from "./ssh-stand.ts";

const missing = sshdMissing() ?? (isRoot ? null : "needs root");
let stand: SshStand;
afterEach(() => stand?.close());

async function begin(options: SshdOptions & { lease?: number; table?: object } = {}): Promise<{
  readonly executor: Executor;
  readonly request: ReturnType<typeof sampleRequest>;
  readonly environment: Environment;
}> {
  const { lease = 600_000, table = {}, ...sshd } = options;
  stand = await openStand(sshd);
  const executor = stand.open({ durable: true, resumeTimeoutMs: lease, shell: "bash" }, { ...table });
  const request = sampleRequest();
  const environment = await executor.prepare(request, new Sink(), never);
  return { executor, request, environment };
}

const cut = (): void => cutSessions(stand.sshd.pid);

/** One that nobody has waited for yet does not. */
const runs = (pid: string): boolean => {
  try {
    return !readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z ");
  } catch {
    return false;
  }
};

const claims = (): string[] => {
  const dir = join(stand.user.home, "builds", "0a1b2c3d", ".claims");
  return existsSync(dir) ? readdirSync(dir).filter((name) => !name.startsWith(".")) : [];
};

/** What keeps a script, as far as an executor is told. */
const kept = { settled: () => 0, say: () => {}, ended: async () => {} };

describe.skipIf(missing !== null)(`a durable job over ssh${missing === null ? "" : ` (not here: ${missing})`}`, () => {
  test("goes on however often its connections are cut: each byte once, and its status", {
    timeout: 120_000,
  }, async () => {
    const { environment, executor } = await begin();
    const { cuts, code, text } = await throughCuts(environment, cut);
    expect(cuts).toBeGreaterThan(3);
    expect(code).toBe(7);
    expect(text).toBe(WHOLE);
    const next = await runOps(environment, source("echo and the next"));
    expect(next).toMatchObject({ code: 0, text: "and the next\n" });
    await environment.destroy(never);
    expect(claims()).toEqual([]);
    await executor.close?.(never);
  });

  test("goes on when sshd was restarted, and where a connection has room for one session", {
    timeout: 60_000,
  }, async () => {
    const { environment } = await begin({ config: "MaxSessions 1" });
    const output = new Sink();
    const go = join(stand.user.home, "go");
    const running = runOps(environment, source(`echo begun; until [ -e ${go} ]; do sleep 0.05; done; echo ended`), {
      output,
    });
    await output.until(/begun/);
    await stand.sshd.restart();
    writeFileSync(go, "");
    expect(await running).toMatchObject({ code: 0, text: "begun\nended\n" });
    await environment.destroy(never);
    expect(claims()).toEqual([]);
  });

  test("a stop reaches it over a new connection", { timeout: 60_000 }, async () => {
    const { environment } = await begin();
    const output = new Sink();
    const stop = new AbortController();
    const running = runOps(environment, source("echo pid $$; sleep 600"), { output, signal: stop.signal });
    const [, pid = ""] = await output.until(/pid (\d+)/);
    cut();
    stop.abort(new Error("enough"));
    await expect(running).rejects.toThrow("enough");
    expect(runs(pid)).toBe(false);
    await environment.destroy(never);
    expect(claims()).toEqual([]);
  });

  test("nobody comes in time: the host ends it by itself, and its runner says so", { timeout: 60_000 }, async () => {
    const { environment } = await begin({ lease: 2000, table: { connect_timeout: 1 } });
    const output = new Sink();
    const running = runOps(environment, source("echo pid $$; sleep 600"), { output });
    running.catch(() => {});
    const [, pid = ""] = await output.until(/pid (\d+)/);
    // Nobody can log in any more.
    process.kill(stand.sshd.pid, "SIGSTOP");
    cut();
    await expect(running).rejects.toThrow(/could not be reached for 2 s; what ran there is ended there by itself/);
    await expect.poll(() => runs(pid), { timeout: 20_000 }).toBe(false);
    await expect.poll(claims, { timeout: 20_000 }).toEqual([]);
    await environment.destroy(never).catch(() => {});
  });

  test("the runner's next process goes on with it; nothing is started twice", { timeout: 60_000 }, async () => {
    const { environment, request, executor } = await begin();
    const { handle } = environment;
    if (handle === undefined) throw new Error("there is no handle");
    const [go, starts] = [join(stand.user.home, "go"), join(stand.user.home, "starts")];
    const output = new Sink();
    const places: Note[] = [];
    const text = `echo x >>${starts}; echo begun; until [ -e ${go} ]; do sleep 0.05; done; seq 1 2000; exit 3`;
    const script: Script = {
      ...scriptOf(environment, source(text)),
      keeping: { ...kept, begins: (place) => void places.push(place) },
    };
    const first = environment.run(script, output, never);
    first.catch(() => {});
    await output.until(/begun/);
    const from = Buffer.byteLength(output.text);
    const [place] = places.slice(-1);
    if (place === undefined) throw new Error("its place was not noted");
    const next = stand.open({ durable: true, shell: "bash" });
    onTestFinished(async () => void (await next.close?.(never)));
    const adopted = await next.adopt?.({ ...request }, handle, never);
    if (adopted === undefined) throw new Error("it adopts nothing");
    writeFileSync(go, "");
    const rest = new Sink();
    const resumed = { ...script, keeping: { ...kept, begins: () => {}, resume: { place, from } } };
    expect((await adopted.run(resumed, rest, never)).code).toBe(3);
    const whole = Array.from({ length: 2000 }, (_, index) => `${index + 1}\n`).join("");
    expect(output.text.slice(0, from) + rest.text).toBe(`the-proof\nbegun\n${whole}`);
    expect(readFileSync(starts, "utf8")).toBe("x\n");
    await adopted.destroy(never);
    expect(claims()).toEqual([]);
    await environment.destroy(never).catch(() => {});
    await executor.close?.(never);
  });

  test("a place that is gone is not adopted", { timeout: 60_000 }, async () => {
    const { environment, request, executor } = await begin();
    const { handle } = environment;
    await environment.destroy(never);
    await expect(executor.adopt?.({ ...request }, handle ?? {}, never)).rejects.toThrow(/the job is gone on/);
    await expect(executor.adopt?.({ ...request }, { ...handle, host: "other.example" }, never)).rejects.toThrow(
      /the job is on \S+@other\.example:\d+, and the entry names/,
    );
  });

  test("a host that lacks a program for it is named, and its jobs end with their connection", {
    timeout: 60_000,
  }, async () => {
    stand = await openStand();
    const bin = toolDirectory(join(stand.user.home, "bin"), "busybox", ["dd"]);
    writeFileSync(join(stand.user.home, ".bashrc"), `PATH=${bin}\n`);
    const executor = stand.open({ durable: true, shell: "sh" });
    const notes = new Sink();
    const environment = await executor.prepare(sampleRequest(), notes, never);
    expect(notes.text).toMatch(/A lost connection ends this job: \S+ has no dd\. Install what is missing there/);
    expect(environment.handle).toBeUndefined();
    await environment.destroy(never);
    const found = await executor.diagnose?.({ environment: sampleRequest().environment }, never);
    expect(found?.doubts).toMatchObject([{ cause: expect.stringMatching(/a restart of the runner: \S+ has no dd$/) }]);
  });

  test("a preparation that fails leaves no claim for the host to wait with", { timeout: 60_000 }, async () => {
    stand = await openStand();
    const bin = toolDirectory(join(stand.user.home, "bin"), "busybox", []);
    writeFileSync(join(stand.user.home, ".bashrc"), `PATH=${bin}\n`);
    const executor = stand.open({ durable: true, shell: "pwsh" });
    await expect(executor.prepare(sampleRequest(), new Sink(), never)).rejects.toThrow(/has no pwsh/);
    await expect.poll(claims, { timeout: 5000 }).toEqual([]);
  });

  test("a connection that cannot be made again is named by its cause at once", { timeout: 60_000 }, async () => {
    const { environment } = await begin();
    const output = new Sink();
    const running = runOps(environment, source("echo begun; sleep 600"), { output });
    running.catch(() => {});
    await output.until(/begun/);
    await stand.sshd.restart({ newHostKey: true });
    await expect(running).rejects.toThrow(/host key/i);
    await environment.destroy(never).catch(() => {});
  });
});
