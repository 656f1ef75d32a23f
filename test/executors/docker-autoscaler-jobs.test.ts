import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { autoscalerTable } from "../../executors/autoscaler/index.ts";
import dockerAutoscaler from "../../executors/docker-autoscaler/index.ts";
import { SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { PrepareRequest, Reservation } from "../../src/executor/prepare.ts";
import { never } from "../../src/time.ts";
import { openCloudStand } from "../support/cloud/stand.ts";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import { executorDeps } from "../support/executor-deps.ts";
import { runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { sshdMissing } from "../support/sshd.ts";
import { standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

const engine = await testEngine("docker");
const missing = sshdMissing();
type Table = Readonly<Record<string, unknown>>;

describe("docker jobs on instances", () => {
  if (engine === null || missing !== null) {
    test.skip(missing === null ? noEngine("docker") : `needs sshd: ${missing}`, () => {});
    return;
  }
  const stand = standOfSuite(engine, ["git"]);

  /** Two instances, whose engine is the test's, and executors of one entry. */
  const openScene = async (config = "") => {
    const id = randomBytes(4).toString("hex");
    const dir = join(stand().dir, id);
    for (const name of ["cloud", "scratch", "keep"]) mkdirSync(join(dir, name), { recursive: true });
    const cloud = await openCloudStand(join(dir, "cloud"), 2, { root: true, config });
    onTestFinished(() => cloud.close());
    const tables = (table: Table = {}) => ({
      docker: { host: engine.host, image: imageName("git"), helper_image: imageName("git"), pull_policy: "never" },
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
    const machines = { runnerId: id, shortTokens: [id], limit: Number.POSITIVE_INFINITY };
    const deps = executorDeps(dir, { scratch: join(dir, "scratch"), keepDir: join(dir, "keep"), machines });
    const open = (table?: Table): Executor => dockerAutoscaler.create(tables(table), deps);
    return { cloud, dir, tables, deps, open };
  };
  const reserved = async (executor: Executor): Promise<Reservation> => {
    const reservation = await executor.reserve?.(never);
    if (reservation === undefined || reservation === null) throw new Error("there is room");
    return reservation;
  };
  const on = (reservation: Reservation): PrepareRequest & { notes: unknown[] } => ({
    ...sampleRequest(),
    runnerId: stand().runner(),
    reservation,
  });
  const job = async (executor: Executor, request: PrepareRequest, notes = new Sink()): Promise<Environment> => {
    const environment = await executor.prepare(request, notes, never);
    onTestFinished(() => environment.destroy(never));
    return environment;
  };

  test(
    "jobs on one instance share its engine and have places of their own; a reload changes images, and touches no job",
    async () => {
      const { cloud, dir, tables, deps, open } = await openScene();
      const executor = open({ capacity_per_instance: 2 });
      onTestFinished(() => executor.close(never));
      const [first, second] = [await reserved(executor), await reserved(executor)];
      const notes = new Sink();
      const one = await job(executor, on(first), notes);
      const two = await job(executor, on(second));
      const [id = ""] = cloud.instances();
      expect(cloud.instances()).toHaveLength(1);
      expect(notes.text).toContain(`Using instance ${id}`);
      expect(one.host).toContain(`instance ${id}`);
      expect(one.location).toEqual({ at: "host", host: `instance ${id}` });
      expect([one.projectSlot, two.projectSlot]).toEqual([0, 1]);
      expect(readdirSync(join(dir, "scratch"))).toHaveLength(1);
      const next = tables({ capacity_per_instance: 2 });
      const changed = { ...next, docker: { ...next.docker, image: "nowhere.invalid/none" } };
      expect(executor.reconfigure?.(changed, deps.entry)).toBe(true);
      expect((await runOps(one, source("echo goes on"))).text).toBe("goes on\n");
      await one.destroy(never);
      await first[Symbol.asyncDispose]();
      expect((await runOps(two, source("echo still"))).text).toBe("still\n");
      const third = await reserved(executor);
      await expect(executor.prepare(on(third), new Sink(), never)).rejects.toThrow(/nowhere\.invalid/);
      await two.destroy(never);
      await Promise.all([second, third].map((each) => each[Symbol.asyncDispose]()));
      // The way to an instance without jobs is closed.
      expect(readdirSync(join(dir, "scratch"))).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    "the selftest has a service of the entry's own image",
    async () => {
      const { open } = await openScene();
      const executor = open();
      onTestFinished(() => executor.close(never));
      expect(executor.serviceImage).toBe(imageName("git"));
      const reservation = await reserved(executor);
      const service = {
        name: executor.serviceImage ?? "",
        aliases: ["selftest-service"],
        entrypoint: ["sh", "-c"],
        command: ["while :; do sleep 1; done"],
        pullPolicies: [],
        user: null,
        platform: null,
        variables: [],
      };
      const request = on(reservation);
      const environment = await job(executor, { ...request, job: { ...request.job, services: [service] } });
      expect(
        (await runOps(environment, source("{ echo >/dev/tcp/selftest-service/9; } 2>&1 | grep -o refused"))).text,
      ).toContain("refused\n");
      await environment.destroy(never);
      await reservation[Symbol.asyncDispose]();
    },
    TIMEOUT_MS,
  );

  test(
    "where sshd forwards no sockets, the engine is reached by its own command there",
    async () => {
      const { cloud, open } = await openScene("AllowStreamLocalForwarding no");
      const executor = open();
      onTestFinished(() => executor.close(never));
      const reservation = await reserved(executor);
      const environment = await job(executor, on(reservation));
      const output = await runOps(environment, source("seq 1 200000 | sha256sum; echo; echo end"));
      expect(output.text).toMatch(/end\n$/);
      const [id = ""] = cloud.instances();
      expect(cloud.hostOf(id).sshd.log()).toContain("Starting session: command");
      await environment.destroy(never);
      await reservation[Symbol.asyncDispose]();
    },
    TIMEOUT_MS,
  );

  test(
    "where there is no engine, the job's failure says what the instance said of it",
    async () => {
      const { tables, deps } = await openScene();
      const { docker, autoscaler } = tables();
      const nowhere = { ...docker, host: "unix:///nowhere/docker.sock" };
      const executor = dockerAutoscaler.create({ docker: nowhere, autoscaler }, deps);
      onTestFinished(() => executor.close(never));
      const reservation = await reserved(executor);
      await expect(executor.prepare(on(reservation), new Sink(), never)).rejects.toThrow(
        /container engine at instance i-\S+ does not answer.*nowhere\/docker\.sock/,
      );
      await reservation[Symbol.asyncDispose]();
    },
    TIMEOUT_MS,
  );

  test(
    "an instance that dies under a job fails it with its output so far, and the next job gets another one",
    async () => {
      const { cloud, open } = await openScene();
      const executor = open();
      onTestFinished(() => executor.close(never));
      const reservation = await reserved(executor);
      const request = on(reservation);
      const environment = await job(executor, request);
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
      // The engine of the tests is there still, with what was on the instance.
      const other = stand().open();
      onTestFinished(() => other.close(never));
      const notes = JSON.parse(JSON.stringify(request.notes)).map((note: Table) => ({ ...note, engine: engine.host }));
      expect((await other.recover(request.jobKey, notes, never)).left).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    "after a crash what dead jobs left on an instance is removed there, and what was on one that is gone went with it",
    async () => {
      const { cloud, dir, open } = await openScene();
      const before = open();
      const reservation = await reserved(before);
      const request = on(reservation);
      const environment = await before.prepare(request, new Sink(), never);
      const [id = ""] = cloud.instances();
      // The runner is killed: nobody cleans up.
      const after = open();
      const notes = JSON.parse(JSON.stringify(request.notes));
      const { done, left } = await after.recover(request.jobKey, notes, never);
      expect(left).toEqual([]);
      expect(done).toEqual(expect.arrayContaining(["removed 2 containers"]));
      const gone = notes.map((note: Table) => (note.kind === "instance" ? { ...note, id: "i-9-h9" } : note));
      expect(await after.recover(request.jobKey, gone, never)).toEqual({ done: [], left: [] });
      const next = await reserved(after);
      const second = await job(after, on(next));
      expect(second.host).toContain(id);
      await second.destroy(never);
      await next[Symbol.asyncDispose]();
      await environment.destroy(never);
      await reservation[Symbol.asyncDispose]();
      await before.close(never);
      await after.close(never);
      while (readdirSync(join(dir, "scratch")).length > 0) await wait(20);
    },
    TIMEOUT_MS,
  );
});
