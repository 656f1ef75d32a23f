import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { machineProgram } from "../../../executors/docker-machine/provider/call.ts";
import { checkCertificates } from "../../../executors/docker-machine/provider/certificates.ts";
import { endMaking } from "../../../executors/docker-machine/provider/making.ts";
import { machineNames } from "../../../executors/docker-machine/provider/names.ts";
import { createMachineProvider } from "../../../executors/docker-machine/provider/provider.ts";
import { machineRecords } from "../../../executors/docker-machine/provider/records.ts";
import { findStore } from "../../../executors/docker-machine/provider/store.ts";
import { shortTokens } from "../../../src/config/identity.ts";
import type { Log } from "../../../src/log.ts";
import { deadline, never } from "../../../src/time.ts";
import { type MachineStand, openMachineStand } from "../../support/docker-machine/stand.ts";
import { isAlive } from "../../support/processes.ts";

let stand: MachineStand;
beforeEach(async () => {
  stand = await openMachineStand({ addresses: 6 });
});
afterEach(() => stand[Symbol.asyncDispose]());

const names = machineNames(shortTokens("aBcDeFgHiJkL"), "auto-%s");

interface Said {
  readonly level: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

function open({ maxRemovalAttempts = 30 } = {}) {
  const said: Said[] = [];
  const say =
    (level: string) =>
    (message: string, fields: Readonly<Record<string, unknown>> = {}) =>
      void said.push({ level, message, fields });
  const log: Log = { debug: say("debug"), info: say("info"), warn: say("warn"), error: say("error"), child: () => log };
  const store = findStore(stand.env);
  const provider = createMachineProvider({
    settings: () => ({
      names,
      driver: "none",
      flagsFor: (name) => ["--url=tcp://x", `--label=${name}`],
      maxRemovalAttempts,
    }),
    store,
    program: machineProgram(store, stand.env),
    records: machineRecords(join(stand.dir, "keep")),
    log,
    firstRemovalPauseMs: 20,
    pingMs: 2000,
  });
  const states = async () => Object.fromEntries((await provider.list(never)).map(({ id, state }) => [id, state]));
  /** Resolves once all machines are in `state`, and so many. */
  const all = async (state: string, count: number): Promise<string[]> => {
    for (;;) {
      const now = await states();
      if (Object.keys(now).length === count && Object.values(now).every((one) => one === state))
        return Object.keys(now);
      await wait(20);
    }
  };
  return { provider, said, states, all };
}

test("names are those of the Go runner, and its machines are known by them", () => {
  const at = new Date(1_700_000_000_000);
  expect(names.create(at)).toMatch(/^runner-abcdefgh-auto-1700000000-[0-9a-f]{8}$/);
  expect(names.owns("runner-abcdefgh-auto-1500000000-00c0ffee")).toBe(true);
  expect(names.owns("runner-abcdefghi-auto-1500000000-00c0ffee")).toBe(true);
  for (const other of [
    "runner-12345678-auto-1500000000-00c0ffee",
    "default",
    "runner-abcdefgh-auto-mine",
    "runner-abcdefgh-other-1-2",
  ])
    expect(names.owns(other), other).toBe(false);
  const newer = machineNames(shortTokens("glrt-t1_Ab_dEfGhIjK"), "m-%s-x");
  expect(newer.create(at)).toMatch(/^runner-ab-defghi-m-1700000000-[0-9a-f]{8}-x$/);
});

test("machines are made, reached over TLS, and removed; nothing is reported to anybody", async () => {
  const { provider, states, all } = open();
  await provider.init(never);
  expect(await provider.grow(3, never)).toBe(3);
  expect(new Set(Object.values(await states()))).toEqual(new Set(["creating"]));
  const ids = await all("running", 3);
  expect(stand.machines()).toEqual([...ids].sort());
  for (const id of ids) {
    const connection = await provider.connect(id, never);
    expect(connection.host).toMatch(/^tcp:\/\/127\.1\.0\.\d:\d+$/);
    await provider.check(id, connection, never);
  }
  const [first = ""] = ids;
  expect(stand.calls()).toContain(`create --driver none --url=tcp://x --label=${first} ${first}`);
  await provider.shrink([...ids, "never-heard-of"], never);
  await all("running", 0);
  expect(stand.machines()).toEqual([]);
  expect(stand.stored()).toEqual([]);
  expect(stand.reports()).toEqual([]);
  await provider.close(never);
});

test("in a store without certificates the first creation is alone, and certificates that do not belong together are refused", async () => {
  stand.on(
    "create",
    `echo "$name" >> $stand/at-work; ls $stand/at-work.d 2>/dev/null | wc -l >> $stand/beside; mkdir -p $stand/at-work.d; : > $stand/at-work.d/$name; sleep 0.3; rm $stand/at-work.d/$name`,
  );
  const { provider, all } = open();
  await provider.init(never);
  await provider.grow(4, never);
  await all("running", 4);
  const beside = readFileSync(join(stand.dir, "stand/beside"), "utf8").trim().split(/\s+/);
  // Nobody is there when the first and the second begin: the second one after the first.
  expect(beside.filter((count) => count === "0").length).toBeGreaterThanOrEqual(2);
  expect(await checkCertificates(stand.store)).not.toBeNull();
  await provider.close(never);

  const certs = join(stand.store, "certs");
  execFileSync(
    "openssl",
    [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-subj",
      "/O=runner",
      "-keyout",
      join(certs, "ca-key.pem"),
      "-out",
      join(certs, "ca.pem"),
    ],
    { stdio: "ignore" },
  );
  await expect(open().provider.init(never)).rejects.toThrow(
    /store\/certs cannot be used: cert\.pem was not issued by ca\.pem/,
  );
  await expect(checkCertificates(stand.store, new Date(Date.now() + 1100 * 86_400_000))).rejects.toThrow(
    /cannot be used/,
  );
  rmSync(join(certs, "cert.pem"));
  expect(await checkCertificates(stand.store)).toBeNull();
});

test("a machine that cannot be made has failed, with what was said of it, and what is left of it is removed", async () => {
  stand.on(
    "provision",
    `echo "-----BEGIN CERTIFICATE-----
c2VjcmV0
-----END CERTIFICATE-----
Error creating machine: Error running provisioning: no apt" >&2; exit 1`,
  );
  const { provider, all, said } = open();
  await provider.init(never);
  await provider.grow(1, never);
  const ids = await all("failed", 1);
  // It is said once it is on disk.
  const saidOfIt = (): string =>
    String(said.find(({ message }) => message === "a machine could not be made")?.fields.problem);
  await expect.poll(saidOfIt).toMatch(/status 1: .*Error running provisioning: no apt$/);
  const problem = saidOfIt();
  expect(problem).not.toContain("c2VjcmV0");
  expect(stand.machines()).toEqual(ids);
  await provider.shrink(ids, never);
  await all("failed", 0);
  expect(stand.machines()).toEqual([]);
  await provider.close(never);
});

test("removing is tried again, and given up loudly after so many tries", async () => {
  const { provider, all, said } = open({ maxRemovalAttempts: 3 });
  await provider.init(never);
  await provider.grow(2, never);
  const [first = "", second = ""] = await all("running", 2);
  stand.on(
    "rm",
    `case $name in ${first}) problem="the cloud says no" ;; *) [ -e $stand/once ] || { : > $stand/once; problem=busy; } ;; esac`,
  );
  await provider.shrink([first, second], never);
  await all("running", 0);
  expect(stand.calls().filter((call) => call === `rm -y ${first}`)).toHaveLength(3);
  expect(stand.calls().filter((call) => call === `rm -f -y ${first}`)).toHaveLength(1);
  expect(stand.calls().filter((call) => call === `rm -y ${second}`)).toHaveLength(2);
  expect(stand.calls().filter((call) => call === `rm -f -y ${second}`)).toHaveLength(0);
  expect(stand.machines()).toEqual([first]);
  const loud = said.filter(({ level, message }) => level === "error" && message.includes("is forgotten now"));
  expect(loud.map(({ fields }) => fields)).toEqual([
    expect.objectContaining({ machine: first, driver: "none", problem: expect.stringContaining("the cloud says no") }),
  ]);
  await provider.close(never);
});

test("a creation goes on without the runner, and the next process waits for its end", async () => {
  stand.on("create", `while [ ! -e $stand/go ]; do sleep 0.05; done`);
  const before = open();
  await before.provider.init(never);
  await before.provider.grow(1, never);
  await all(1, () => stand.stored().length);
  using soon = deadline(never, 50, new Error("no longer"));
  await before.provider.close(soon.signal);
  expect(await before.states()).toMatchObject({ [stand.stored()[0] ?? ""]: "creating" });
  const next = open();
  await next.provider.init(never);
  const [id = ""] = await next.all("creating", 1);
  // A young one is never ended.
  await next.provider.shrink([id], never);
  writeFileSync(join(stand.dir, "stand/go"), "");
  await next.all("running", 1);
  expect(stand.machines()).toEqual([id]);
  await next.provider.check(id, await next.provider.connect(id, never), never);
  await next.provider.close(never);
});

test("what died in the middle is known after a restart: creations have failed, removals go on", async () => {
  // The runner dies between its note and the creation; a creation is killed; a machine is half removed.
  const keep = join(stand.dir, "keep");
  mkdirSync(keep);
  const half = join(stand.store, "machines", "half");
  mkdirSync(half, { recursive: true });
  const gone = spawn("true");
  await once(gone, "exit");
  const since = Date.now();
  writeFileSync(
    join(keep, "machines.json"),
    JSON.stringify({
      unborn: { state: "making", since },
      half: { state: "making", since, pid: gone.pid },
      leaving: { state: "removing", since, attempts: 2 },
    }),
  );
  const { provider, states, all } = open();
  await provider.init(never);
  await all("failed", 2);
  expect(await states()).toEqual({ unborn: "failed", half: "failed" });
  await provider.shrink(["unborn", "half"], never);
  await all("failed", 0);
  expect(stand.stored()).toEqual([]);
  await provider.close(never);
});

test("machines of a Go runner in the store are taken over, those of others are not touched", async () => {
  for (const name of [
    "runner-abcdefgh-auto-1500000000-00c0ffee",
    "runner-zzzzzzzz-auto-1500000000-00c0ffee",
    "default",
    ".hidden",
  ]) {
    mkdirSync(join(stand.store, "machines", name), { recursive: true });
  }
  const { provider, states } = open();
  await provider.init(never);
  expect(await states()).toEqual({ "runner-abcdefgh-auto-1500000000-00c0ffee": "running" });
  // Somebody has removed it by hand.
  rmSync(join(stand.store, "machines", "runner-abcdefgh-auto-1500000000-00c0ffee"), { recursive: true });
  expect(await states()).toEqual({});
  expect(stand.stored()).toContain("default");
  await provider.close(never);
});

test("an engine that is away, silent or refuses the certificate does not pass the check", async () => {
  const { provider, all } = open();
  await provider.init(never);
  await provider.grow(1, never);
  const [id = ""] = await all("running", 1);
  const connection = await provider.connect(id, never);
  await expect(provider.check(id, { ...connection, host: "tcp://127.0.0.1:1" }, never)).rejects.toThrow(
    /127\.0\.0\.1:1 does not answer/,
  );
  const other = join(stand.dir, "other");
  mkdirSync(other);
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/O=x"];
  execFileSync(
    "openssl",
    ["req", "-x509", ...key, "-keyout", join(other, "key.pem"), "-out", join(other, "cert.pem")],
    { stdio: "ignore" },
  );
  writeFileSync(join(other, "ca.pem"), readFileSync(join(stand.dir, "certs/ca.pem")));
  await expect(provider.check(id, { ...connection, tlsCertPath: other }, never)).rejects.toThrow(/does not answer/);
  stand.cut(id);
  await expect(provider.check(id, connection, never)).rejects.toThrow(/does not answer/);
  await provider.close(never);
});

test("without a place for its store, or without docker-machine, the reason is said", async () => {
  expect(() => findStore({ PATH: "/bin" })).toThrow(/Neither HOME nor MACHINE_STORAGE_PATH is set/);
  const empty = join(stand.dir, "empty");
  mkdirSync(empty);
  const store = findStore(stand.env);
  const program = machineProgram(store, { ...stand.env, PATH: empty });
  const records = machineRecords(join(stand.dir, "keep"));
  const settings = () => ({ names, driver: "none", flagsFor: () => [], maxRemovalAttempts: 1 });
  const provider = createMachineProvider({ settings, store, program, records, log: silent });
  await expect(provider.init(never)).rejects.toThrow(/docker-machine/);
});

const silent: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, child: () => silent };

async function all(count: number, now: () => number): Promise<void> {
  while (now() !== count) await wait(20);
}

test("a creation leaves nothing that a killed one has not: its processes end with their group", async () => {
  stand.on("create", `sleep 600 & echo $! > $stand/driver; wait`);
  const { provider } = open();
  await provider.init(never);
  await provider.grow(1, never);
  await all(1, () => (existsSync(join(stand.dir, "stand/driver")) ? 1 : 0));
  const driver = Number(readFileSync(join(stand.dir, "stand/driver"), "utf8"));
  const [id = ""] = stand.stored();
  const records = JSON.parse(readFileSync(join(stand.dir, "keep/machines.json"), "utf8"));
  await endMaking(records[id].pid, id);
  await all(0, () => (isAlive(driver) ? 1 : 0));
  onTestFinished(() => provider.close(AbortSignal.abort(new Error("done"))));
});
