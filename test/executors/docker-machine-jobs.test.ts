import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { buffer } from "node:stream/consumers";
import { setTimeout as wait } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import dockerMachine from "../../executors/docker-machine/index.ts";
import { SystemFailure } from "../../src/errors.ts";
import type { EntrySettings } from "../../src/executor/deps.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { PrepareRequest, Reservation } from "../../src/executor/prepare.ts";
import { never } from "../../src/time.ts";
import { fileNameOf } from "../../src/workspace.ts";
import { imageName, noEngine, testEngine } from "../support/docker.ts";
import { executorDeps } from "../support/executor-deps.ts";
import { runOps, Sink, sampleRequest, scriptOf, source } from "../support/executor-kit.ts";
import { machinesOfSuite } from "./docker-machine-stand.ts";
import { TIMEOUT_MS } from "./docker-stand.ts";

const engine = await testEngine("docker");

describe("jobs on machines", () => {
  if (engine === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const { stand, machines } = machinesOfSuite(engine, ["git"]);

  const base = { MachineDriver: "none", MachineName: "auto-%s", IdleTime: 600 };
  const tablesOf = (machine: Readonly<Record<string, unknown>>) => ({
    docker: { image: imageName("git"), helper_image: imageName("git"), pull_policy: "never" },
    machine: { ...base, ...machine },
  });
  /** Entries by their short tokens: one that is opened again has the machines of before. */
  const entryOf = (id: string): EntrySettings => ({
    ...executorDeps(stand().dir).entry,
    machines: { runnerId: id, shortTokens: [id], limit: 5 },
  });
  const open = (id: string, machine: Readonly<Record<string, unknown>> = {}): Executor => {
    const deps = executorDeps(stand().dir, { env: { ...process.env, ...machines().env } });
    return dockerMachine.create(tablesOf(machine), { ...deps, entry: entryOf(id) });
  };
  const opened = (id: string, machine: Readonly<Record<string, unknown>> = {}): Executor => {
    const executor = open(id, machine);
    onTestFinished(async () => {
      executor.reconfigure?.(tablesOf({ shutdown_drain: { enabled: true } }), entryOf(id));
      await executor.close(never);
      expect(machinesOf(id)).toEqual([]);
    });
    return executor;
  };
  const machinesOf = (id: string): string[] =>
    machines()
      .machines()
      .filter((name) => name.startsWith(`runner-${id}-`));
  const newId = (): string => randomBytes(4).toString("hex");
  const on = (reservation: Reservation): PrepareRequest => ({
    ...sampleRequest(),
    runnerId: stand().runner(),
    reservation,
  });
  const reserved = async (executor: Executor): Promise<Reservation> => {
    for (;;) {
      const reservation = await executor.reserve?.(never);
      if (reservation === undefined) throw new Error("it reserves");
      if (reservation !== null) return reservation;
      await new Promise<void>((resolve) => executor.onRoom?.(resolve));
    }
  };
  const job = async (executor: Executor, request: PrepareRequest): Promise<Environment> => {
    const environment = await executor.prepare(request, new Sink(), never);
    onTestFinished(() => environment.destroy(never));
    return environment;
  };

  test(
    "with an idle count no job is asked for before a machine is ready, and then at once; a reload touches none",
    async () => {
      const id = newId();
      const executor = opened(id, { IdleCount: 1 });
      expect(await executor.reserve?.(never)).toBeNull();
      await new Promise<void>((resolve) => executor.onRoom?.(resolve));
      const reservation = await reserved(executor);
      const [name = ""] = machinesOf(id);
      expect(reservation.name).toBe(name);
      const notes = new Sink();
      const environment = await executor.prepare(on(reservation), notes, never);
      expect(notes.text).toContain(`Using machine ${name}`);
      expect(environment.host).toContain(name);
      expect(environment.projectSlot).toBe(0);
      // Another one becomes ready beside it.
      const other = await reserved(executor);
      expect(other.name).not.toBe(name);
      expect(executor.reconfigure?.(tablesOf({ IdleCount: 0, IdleTime: 0 }), entryOf(id))).toBe(true);
      expect((await runOps(environment, source("echo goes on"))).text).toBe("goes on\n");
      await environment.destroy(never);
      await Promise.all([reservation, other].map((one) => one[Symbol.asyncDispose]()));
      // By the new policy nobody needs them.
      while (machinesOf(id).length > 0) await wait(50);
      expect(await reserved(executor).then((one) => one[Symbol.asyncDispose]())).toBeUndefined();
    },
    TIMEOUT_MS,
  );

  test(
    "the selftest has a service of the entry's own image",
    async () => {
      const executor = opened(newId());
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
    "without one a machine is made for a job that has come; a job that is prepared once more stays on it",
    async () => {
      const id = newId();
      const executor = opened(id, { IdleTime: 600 });
      const reservation = await reserved(executor);
      await wait(200);
      expect(machinesOf(id)).toEqual([]);
      const wrong = {
        ...on(reservation),
        job: {
          ...on(reservation).job,
          image: { name: "nowhere.invalid/none", entrypoint: null, pullPolicies: [], user: null, platform: null },
        },
      };
      await expect(executor.prepare(wrong, new Sink(), never)).rejects.toThrow(/nowhere\.invalid/);
      const environment = await job(executor, on(reservation));
      expect((await runOps(environment, source("echo ran"))).text).toBe("ran\n");
      expect(machinesOf(id)).toHaveLength(1);
      await environment.destroy(never);
      await reservation[Symbol.asyncDispose]();
      expect(machinesOf(id)).toHaveLength(1);
    },
    TIMEOUT_MS,
  );

  test(
    "a machine that dies under a job fails it with its output so far, is removed, and the next job gets another one",
    async () => {
      const id = newId();
      const executor = opened(id);
      const reservation = await reserved(executor);
      const request = sampleRequest();
      const environment = await job(executor, { ...request, runnerId: stand().runner(), reservation });
      const [name = ""] = machinesOf(id);
      const output = new Sink();
      const running = environment.run(scriptOf(environment, source("echo before; sleep 600")), output, never);
      const failed = running.catch((error: unknown) => error);
      await output.until(/before\n/);
      machines().cut(name);
      expect(await failed).toBeInstanceOf(SystemFailure);
      expect(String(await failed)).toContain(`${name} is gone`);
      expect(output.text).toContain("before\n");
      await environment.destroy(never);
      await reservation[Symbol.asyncDispose]();
      const next = await reserved(executor);
      const second = await job(executor, on(next));
      expect((await runOps(second, source("echo elsewhere"))).text).toBe("elsewhere\n");
      expect(second.host).not.toContain(name);
      await second.destroy(never);
      await next[Symbol.asyncDispose]();
      while (machinesOf(id).includes(name)) await wait(50);
      // The engine of the tests is there still, with what was on the machine.
      machines().mend();
      const engineNotes = JSON.parse(JSON.stringify(request.notes)).filter(
        ({ kind }: { kind: string }) => kind !== "machine",
      );
      expect((await executor.recover(request.jobKey, engineNotes, never)).left).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    "files on their way from and to a machine that is gone are not waited for, and say so",
    async () => {
      const id = newId();
      const executor = opened(id);
      const reservation = await reserved(executor);
      const request = { ...sampleRequest(), runnerId: stand().runner(), reservation };
      const environment = await job(executor, request);
      const [name = ""] = machinesOf(id);
      const gone = `The machine ${name} is gone`;
      const { workspace } = environment;
      const zeros = `${workspace.root}/zeros`;
      const made = await runOps(
        environment,
        source(`mkdir -p ${workspace.root}; head -c 20000000 /dev/zero >${zeros}`),
      );
      expect(made.code).toBe(0);
      const { tar } = await workspace.pack([fileNameOf("zeros")], never);
      await once(tar, "readable");
      // Nobody ends it.
      const open = new PassThrough();
      const unpacking = workspace.unpack(open, { bytes: 1e9, entries: 1000, freeBytes: 0 }, never);
      const unpacked = unpacking.catch((error: unknown) => error);
      machines().lose(name);
      // Who asks for a slot has the pool look at all machines.
      await (await executor.reserve?.(never))?.[Symbol.asyncDispose]();
      expect(String(await unpacked)).toContain(gone);
      expect(open.destroyed).toBe(true);
      await expect(buffer(tar)).rejects.toThrow(gone);
      const all = { globs: ["*"], exclude: [], untracked: false };
      await expect(workspace.list(all, never)).rejects.toThrow(gone);
      await reservation[Symbol.asyncDispose]();
      // The engine of the tests is there still, with what was on the machine.
      const notes = JSON.parse(JSON.stringify(request.notes));
      const left = notes.filter(({ kind }: { kind: string }) => kind !== "machine");
      expect((await executor.recover(request.jobKey, left, never)).left).toEqual([]);
    },
    TIMEOUT_MS,
  );

  test(
    "after a crash idle machines are there for the next job with their use count, and half-made ones are removed",
    async () => {
      const id = newId();
      const before = open(id, { MaxBuilds: 3 });
      const reservation = await reserved(before);
      const request = { ...sampleRequest(), runnerId: stand().runner(), reservation };
      const environment = await before.prepare(request, new Sink(), never);
      const [name = ""] = machinesOf(id);
      // The runner is killed: nobody cleans up. A creation was about to begin.
      const file = join(stand().dir, `docker-machine-${id}`, "machines.json");
      const records = JSON.parse(readFileSync(file, "utf8"));
      const half = `runner-${id}-auto-1700000000-00c0ffee`;
      writeFileSync(file, JSON.stringify({ ...records, [half]: { state: "making", since: Date.now() } }));

      const after = opened(id, { MaxBuilds: 3 });
      const found = await reserved(after);
      const { done } = await after.recover(request.jobKey, JSON.parse(JSON.stringify(request.notes)), never);
      expect(done).toEqual(expect.arrayContaining(["removed 2 containers"]));
      const next = await job(after, on(found));
      expect(next.host).toContain(name);
      await next.destroy(never);
      await found[Symbol.asyncDispose]();
      expect(
        JSON.parse(readFileSync(join(stand().dir, `docker-machine-${id}`, "instances.json"), "utf8"))[name]?.uses,
      ).toBe(2);
      while (half in JSON.parse(readFileSync(file, "utf8"))) await wait(50);
      // What was on a machine that is gone needs no cleaning.
      const gone = [...request.notes, { kind: "machine", name: half }];
      expect(await after.recover(request.jobKey, gone, never)).toEqual({ done: [], left: [] });
      await environment.destroy(never);
    },
    TIMEOUT_MS,
  );

  test(
    "a cloud that makes nothing costs no job: none is asked for, tries become rare, and it ends when told",
    async () => {
      const id = newId();
      machines().on("create", "echo 'the cloud says no' >&2; exit 1");
      const executor = opened(id);
      const first = await reserved(executor);
      const stop = new AbortController();
      const failing = executor.prepare(on(first), new Sink(), stop.signal).catch((error: unknown) => error);
      while (
        !machines()
          .calls()
          .some((call) => call.startsWith("create") && call.includes(id))
      )
        await wait(20);
      const ask = async (): Promise<boolean> => {
        const one = await executor.reserve?.(never);
        await one?.[Symbol.asyncDispose]();
        return one !== null;
      };
      while (await ask()) await wait(20);
      stop.abort(new Error("canceled"));
      expect(await failing).toMatchObject({ message: "canceled" });
      await first[Symbol.asyncDispose]();
      expect(await ask()).toBe(false);
      expect(
        machines()
          .calls()
          .filter((call) => call.startsWith("create") && call.includes(id)).length,
      ).toBeLessThan(3);
      // Nobody has a job for it: one machine is made on trial, and then jobs are asked for again.
      machines().on("create", null);
      while (!(await ask())) await wait(500);
      expect(machinesOf(id)).toHaveLength(1);
    },
    TIMEOUT_MS,
  );
});
