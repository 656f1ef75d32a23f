import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { autoscalerTable } from "../../executors/autoscaler/index.ts";
import instance from "../../executors/instance/index.ts";
import { SystemFailure } from "../../src/errors.ts";
import type { ExecutorDeps } from "../../src/executor/deps.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { PrepareRequest, Reservation } from "../../src/executor/prepare.ts";
import type { Log } from "../../src/log.ts";
import { never } from "../../src/time.ts";
import { type CloudStand, openCloudStand } from "../support/cloud/stand.ts";
import { cutSessions, throughCuts, WHOLE } from "../support/cuts.ts";
import { executorDeps } from "../support/executor-deps.ts";
import { runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { isAlive } from "../support/processes.ts";
import { sshdMissing } from "../support/sshd.ts";

const missing = sshdMissing();
const withDurable = (deps: ExecutorDeps): ExecutorDeps => ({ ...deps, entry: { ...deps.entry, durable: true } });
type Table = Readonly<Record<string, unknown>>;

describe("jobs on instances", { timeout: 60_000 }, () => {
  if (missing !== null) {
    test.skip(`needs sshd: ${missing}`, () => {});
    return;
  }
  let dir: string;
  let cloud: CloudStand;
  let logged: string[];
  const runnerId = randomBytes(4).toString("hex");
  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), "alloy-instances-"));
    for (const name of ["cloud", "scratch", "keep"]) mkdirSync(join(dir, name));
    cloud = await openCloudStand(join(dir, "cloud"), 2);
    logged = [];
  });
  afterEach(async () => {
    await cloud.close();
    rmSync(dir, { recursive: true, force: true });
  });

  const tablesOf = (table: Table = {}) => ({
    autoscaler: autoscalerTable.parse({
      plugin: "exec",
      plugin_config: cloud.config,
      update_interval: 1,
      update_interval_when_expecting: "100ms",
      policy: [{ idle_time: "10m" }],
      max_instances: 2,
      ...table,
    }),
  });
  const depsOf = () => {
    const take = (message: string, fields?: Table): void =>
      void logged.push(`${message} ${JSON.stringify(fields ?? {})}`);
    const log: Log = { debug: take, info: take, warn: take, error: take, child: () => log };
    const machines = { runnerId, shortTokens: [runnerId], limit: Number.POSITIVE_INFINITY };
    return executorDeps(dir, { log, keepDir: join(dir, "keep"), killGraceMs: 1000, machines });
  };
  const open = (table?: Table, durable = false): Executor =>
    instance.create(tablesOf(table), durable ? withDurable(depsOf()) : depsOf());
  const opened = (table?: Table, durable = false): Executor => {
    const executor = open(table, durable);
    onTestFinished(() => executor.close(never));
    return executor;
  };
  const reserved = async (executor: Executor): Promise<Reservation> => {
    for (;;) {
      const reservation = await executor.reserve?.(never);
      if (reservation === undefined) throw new Error("it reserves");
      if (reservation !== null) return reservation;
      await new Promise<void>((resolve) => executor.onRoom?.(resolve));
    }
  };
  const on = (reservation: Reservation): PrepareRequest => ({ ...sampleRequest(), runnerId, reservation });
  const job = async (executor: Executor, request: PrepareRequest, notes = new Sink()): Promise<Environment> => {
    const environment = await executor.prepare(request, notes, never);
    onTestFinished(() => environment.destroy(never));
    return environment;
  };
  const operations = (): string[] => cloud.calls().map(({ operation }) => operation);

  test("an instance is made for a job that has come, passes its ready command, and has the next one, too", async () => {
    const command = "echo ready >> ~/ready; echo much; cat ~/ready >&2";
    const executor = opened({ instance_ready_command: command, log_internal_ip: true });
    const reservation = await reserved(executor);
    expect(operations()).toEqual([
      "init",
      "list",
      ...operations()
        .slice(2)
        .map(() => "list"),
    ]);
    const notes = new Sink();
    const environment = await job(executor, on(reservation), notes);
    const [id = ""] = cloud.instances();
    expect(notes.text).toContain(`Using instance ${id} (127.0.0.1)`);
    expect(environment.host).toContain(id);
    const home = cloud.hostOf(id).user.home;
    expect((await runOps(environment, source("pwd; cat ~/ready"))).text).toContain("ready\n");
    await environment.destroy(never);
    await reservation[Symbol.asyncDispose]();
    const next = await reserved(executor);
    const second = await job(executor, on(next));
    expect(second.host).toContain(id);
    await second.destroy(never);
    await next[Symbol.asyncDispose]();
    expect(readFileSync(join(home, "ready"), "utf8")).toBe("ready\n");
    expect(cloud.instances()).toEqual([id]);
  });

  test("an instance whose ready command fails is removed, with what it said, and no job gets it", async () => {
    const executor = opened({ instance_ready_command: "echo 'no disk' >&2; exit 7" });
    const reservation = await reserved(executor);
    const stop = new AbortController();
    const waiting = executor.prepare(on(reservation), new Sink(), stop.signal).catch((error: unknown) => error);
    while (!operations().includes("shrink")) await wait(20);
    expect(logged.join("\n")).toMatch(/an instance is removed .*status 7: no disk/);
    stop.abort(new Error("canceled"));
    expect(await waiting).toMatchObject({ message: "canceled" });
    await reservation[Symbol.asyncDispose]();
  });

  test("directories for builds on an instance go by their last use, and are forgotten with their instance", async () => {
    const executor = opened();
    const tidy = async (builds: number, dry = false) =>
      await executor.tidy?.({ images: null, volumes: null, builds, free: null }, { dry }, never);
    expect(await tidy(0)).toEqual([]);
    const built = async (path: string) => {
      const reservation = await reserved(executor);
      const environment = await job(executor, { ...sampleRequest(path), runnerId, reservation });
      const { root } = environment.workspace;
      await runOps(environment, source(`mkdir -p ${root}; head -c 2097152 /dev/zero >${root}/large`));
      return {
        root,
        end: async () => {
          await environment.destroy(never);
          await reservation[Symbol.asyncDispose]();
        },
      };
    };
    const first = await built("group/first");
    const [id = ""] = cloud.instances();
    await first.end();
    const second = await built("group/second");
    const where = `instance ${id}`;
    const only = [{ kind: "builds", where, name: first.root }];
    expect(await tidy(3 << 20, true)).toMatchObject(only);
    expect(existsSync(first.root)).toBe(true);
    // The other one is a job's.
    expect(await tidy(0)).toMatchObject(only);
    expect([first, second].map(({ root }) => existsSync(root))).toEqual([false, true]);
    await second.end();
    // Another process goes by what this one has written down.
    await executor.close(never);
    const before = operations().length;
    const next = opened();
    expect(
      await next.tidy?.({ images: null, volumes: null, builds: 0, free: null }, { dry: true }, never),
    ).toMatchObject([{ where, name: second.root }]);
    // To look after them, none is made.
    expect(operations().slice(before)).not.toContain("init");
    const known = (): string => readFileSync(join(dir, "keep", "ssh-builds.json"), "utf8");
    expect(known()).toContain(second.root);
    await cloud.lose(id);
    expect(await next.tidy?.({ images: null, volumes: null, builds: 0, free: null }, { dry: false }, never)).toEqual(
      [],
    );
    expect(known()).not.toContain(second.root);
  });

  test("an instance that dies under a job fails it with its output so far, and the next job gets another one", async () => {
    const executor = opened();
    const reservation = await reserved(executor);
    const environment = await job(executor, on(reservation));
    const [id = ""] = cloud.instances();
    const output = new Sink();
    const running = environment.run(scriptOf(environment, source("echo so far; sleep 600")), output, never);
    const failed = running.catch((error: unknown) => error);
    await output.until(/so far\n/);
    await cloud.lose(id);
    expect(await failed).toBeInstanceOf(SystemFailure);
    expect(String(await failed)).toContain(`The instance ${id} is gone`);
    expect(output.text).toContain("so far\n");
    await environment.destroy(never);
    await reservation[Symbol.asyncDispose]();
    const next = await reserved(executor);
    const second = await job(executor, on(next));
    expect((await runOps(second, source("echo elsewhere"))).text).toBe("elsewhere\n");
    expect(second.host).not.toContain(id);
    await second.destroy(never);
    await next[Symbol.asyncDispose]();
  });

  test("with durable = true a lost connection ends no job, and an instance that is gone ends it at once", async () => {
    const executor = opened({}, true);
    const reservation = await reserved(executor);
    const environment = await job(executor, on(reservation));
    expect(environment.handle).toBeUndefined();
    const [id = ""] = cloud.instances();
    const { sshd } = cloud.hostOf(id);
    const { cuts, code, text } = await throughCuts(environment, () => cutSessions(sshd.pid));
    expect(cuts).toBeGreaterThan(3);
    expect([code, text]).toEqual([7, WHOLE]);
    const output = new Sink();
    const failed = environment
      .run(scriptOf(environment, source("echo so far; sleep 600")), output, never)
      .catch((error: unknown) => error);
    await output.until(/so far\n/);
    await cloud.lose(id);
    expect(String(await failed)).toContain(`The instance ${id} is gone`);
    await environment.destroy(never);
    await reservation[Symbol.asyncDispose]();
  });

  test("after a crash its instances have the next jobs, with their count of jobs, and what a dead job left is removed", async () => {
    const before = open({ max_use_count: 3 });
    const reservation = await reserved(before);
    const request = { ...sampleRequest(), runnerId, reservation };
    const environment = await before.prepare(request, new Sink(), never);
    const [id = ""] = cloud.instances();
    const output = new Sink();
    const script = scriptOf(environment, source("echo pid $$; exec sleep 600"));
    const dying = environment.run(script, output, never).catch(() => {});
    const [, pid = ""] = await output.until(/pid (\d+)\n/);
    // The runner is killed: nobody cleans up.
    const after = opened({ max_use_count: 3 });
    const notes = JSON.parse(JSON.stringify(request.notes));
    const { done, left } = await after.recover(request.jobKey, notes, never);
    expect(left).toEqual([]);
    expect(done).toEqual(
      expect.arrayContaining([expect.stringMatching(/^ended \d process/), "removed its temporary files"]),
    );
    await dying;
    while (isAlive(pid)) await wait(20);
    const next = await reserved(after);
    const second = await job(after, on(next));
    expect(second.host).toContain(id);
    await second.destroy(never);
    await next[Symbol.asyncDispose]();
    const kept = JSON.parse(readFileSync(join(dir, "keep", `instance-${runnerId}-exec`, "instances.json"), "utf8"));
    expect(kept[id].uses).toBe(2);
    // What was on an instance that is gone went with it.
    await cloud.lose(id);
    expect(await after.recover(request.jobKey, notes, never)).toEqual({ done: [], left: [] });
    await environment.destroy(never);
    await before.close(never);
  });

  test("the host key that an instance has shown is kept, also over a restart: another one gets nothing", async () => {
    const before = open();
    const first = await reserved(before);
    const environment = await before.prepare(on(first), new Sink(), never);
    await environment.destroy(never);
    await first[Symbol.asyncDispose]();
    await before.close(never);
    const [id = ""] = cloud.instances();
    const { sshd } = cloud.hostOf(id);
    await sshd.restart({ newHostKey: true });
    const logins = sshd.log().length;
    cloud.trouble("grow", "refuse");
    const after = opened({ connector_config: { timeout: 1 } });
    const next = await reserved(after);
    const preparing = job(after, on(next));
    while (cloud.instances().length > 0) await wait(20);
    expect(logged.join("\n")).toMatch(/has the host key .* but the instance .* another machine, and nothing was sent/);
    expect(sshd.log().slice(logins)).not.toContain("Accepted");
    cloud.trouble("grow", null);
    const second = await preparing;
    expect(second.host).not.toContain(id);
    await second.destroy(never);
    await next[Symbol.asyncDispose]();
  });

  test("a cloud that answers errors, nonsense or nothing costs no job, and work goes on when it answers again", async () => {
    const executor = opened({ plugin_config: { ...cloud.config, call_timeout: 1 } });
    cloud.trouble("grow", "refuse");
    const first = await reserved(executor);
    const prepared = executor.prepare(on(first), new Sink(), never);
    while (!operations().includes("grow")) await wait(20);
    const ask = async (): Promise<boolean> => {
      const one = await executor.reserve?.(never);
      await one?.[Symbol.asyncDispose]();
      return one !== null;
    };
    // Nobody asks for jobs while no instance can be made.
    while (await ask()) await wait(20);
    const lists = (): number => operations().filter((one) => one === "list").length;
    for (const what of ["no JSON", "hang"]) {
      cloud.trouble("list", what);
      const before = lists();
      while (lists() < before + 2) await wait(20);
    }
    cloud.trouble("list", null);
    cloud.trouble("grow", null);
    const environment = await prepared;
    expect((await runOps(environment, source("echo ran"))).text).toBe("ran\n");
    await environment.destroy(never);
    await first[Symbol.asyncDispose]();
    expect(cloud.instances()).toHaveLength(1);
    expect(operations().filter((one) => one === "grow").length).toBeLessThan(5);
  });

  test("a reload takes over policies and credentials without touching instances, and instances go with the runner where they should", async () => {
    const executor = open({ policy: [{ idle_count: 1, idle_time: "10m" }] });
    const reservation = await reserved(executor);
    const environment = await job(executor, on(reservation));
    const [id = ""] = cloud.instances();
    while (cloud.instances().length < 2) await wait(20);
    const next = tablesOf({ policy: [{ idle_time: 0 }], delete_instances_on_shutdown: true });
    expect(executor.reconfigure?.(next, depsOf().entry)).toBe(true);
    // By the new policy nobody needs the other one.
    while (cloud.instances().length > 1) await wait(20);
    expect(cloud.instances()).toEqual([id]);
    expect((await runOps(environment, source("echo goes on"))).text).toBe("goes on\n");
    const elsewhere = { plugin: "static", plugin_config: { instances: { a: { internal_addr: "127.0.0.1" } } } };
    expect(executor.reconfigure?.(tablesOf(elsewhere), depsOf().entry)).toBe(false);
    await environment.destroy(never);
    await reservation[Symbol.asyncDispose]();
    await executor.close(never);
    expect(cloud.instances()).toEqual([]);
  });

  test("static credentials are all that is tried, and what is wrong with them names its key", async () => {
    const { sshd } = cloud.hosts[0] ?? { sshd: undefined };
    const executor = opened({
      connector_config: { use_static_credentials: true, key_path: sshd?.knownHostsFile, timeout: 1 },
    });
    const reservation = await reserved(executor);
    const stop = new AbortController();
    const waiting = executor.prepare(on(reservation), new Sink(), stop.signal).catch(() => {});
    while (!logged.some((line) => line.includes("lets nobody in yet"))) await wait(20);
    expect(logged.join("\n")).toMatch(
      /Cannot use the key .*known_hosts \(key_path of \[runners.autoscaler.connector_config\]/,
    );
    stop.abort(new Error("canceled"));
    await waiting;
    await reservation[Symbol.asyncDispose]();
  });
});
