import { mkdir, rm } from "node:fs/promises";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import { deadline, unlessAborted } from "../../../src/time.ts";
import type { Provider, Seen } from "../../scaler/index.ts";
import type { MachineProgram } from "./call.ts";
import { checkCertificates } from "./certificates.ts";
import { endMaking, foundMaking, lastWords, type Making, startMaking } from "./making.ts";
import type { MachineNames } from "./names.ts";
import { type MachineConnection, pingEngine } from "./ping.ts";
import type { MachineRecord, MachineRecords } from "./records.ts";
import { removeMachine } from "./removal.ts";
import type { MachineStore } from "./store.ts";

/** How machines are made, as of now: a reload may say otherwise. */
export interface MakeSettings {
  readonly names: MachineNames;
  readonly driver: string;
  /** Flags of `create` for a machine of that name. */
  readonly flagsFor: (name: string) => readonly string[];
  readonly maxRemovalAttempts: number;
}

export interface MachineProviderOptions {
  readonly settings: () => MakeSettings;
  readonly store: MachineStore;
  readonly program: MachineProgram;
  readonly records: MachineRecords;
  readonly log: Log;
  /** Told how long it took to make one. */
  readonly onMade?: (ms: number) => void;
  readonly firstRemovalPauseMs?: number;
  readonly pingMs?: number;
}

const LONGEST_MAKING_MS = 3_600_000;
const READ_MS = 60_000;
const PING_MS = 5_000;
const FIRST_REMOVAL_PAUSE_MS = 5_000;
const MOST_REMOVALS = 10;
const SOON_MS = 30 * 86_400_000;

const STATES: Readonly<Record<MachineRecord["state"], Seen["state"]>> = {
  making: "creating",
  there: "running",
  failed: "failed",
  removing: "deleting",
};

/** Machines of docker-machine, by its command line. */
export function createMachineProvider(options: MachineProviderOptions): Provider<MachineConnection> {
  const { settings, store, program, records, log, onMade } = options;
  const { firstRemovalPauseMs = FIRST_REMOVAL_PAUSE_MS, pingMs = PING_MS } = options;
  const closing = new AbortController();
  /** What goes on by itself. */
  const tasks = new Set<Promise<void>>();
  const removals = new Map<string, () => Promise<void>>();
  let removing = 0;
  let stopping = false;
  /** Creations wait for the one that makes the certificates. */
  let certificates: Promise<void> = Promise.resolve();

  const inBackground = (work: Promise<void>): void => {
    const task = work
      .catch((error: unknown) => {
        if (!closing.signal.aborted) log.error("a machine is left as it is", { problem: describeError(error) });
      })
      .finally(() => tasks.delete(task));
    tasks.add(task);
  };

  const change = async (name: string, to: Partial<MachineRecord>): Promise<void> => {
    const record = records.get(name);
    if (record !== undefined) await records.set(name, { ...record, ...to });
  };

  const follow = async (name: string, making: Making): Promise<void> => {
    const since = records.get(name)?.since ?? Date.now();
    using limit = deadline(
      closing.signal,
      LONGEST_MAKING_MS - (Date.now() - since),
      new SystemFailure(`it takes longer than ${LONGEST_MAKING_MS / 60_000} minutes`),
    );
    let problem = "";
    try {
      const status = await making.ended(limit.signal);
      if (status === null) problem = "it was ended before it was done";
      else if (status !== 0)
        problem = `docker-machine ended with status ${status}: ${await lastWords(records.filesOf(name))}`;
    } catch (error) {
      closing.signal.throwIfAborted();
      problem = describeError(error);
      await endMaking(making.pid, name);
    }
    const ms = Date.now() - since;
    if (problem === "") {
      await change(name, { state: "there" });
      onMade?.(ms);
      log.info("a machine was made", { machine: name, duration_ms: ms });
    } else {
      log.error("a machine could not be made", { machine: name, duration_ms: ms, problem });
      await change(name, { state: "failed" });
    }
  };

  /** Several at once would each make an authority of their own. */
  const alone = async (work: () => Promise<void>): Promise<void> => {
    const before = certificates;
    const mine = Promise.withResolvers<void>();
    certificates = mine.promise;
    try {
      await unlessAborted(before, closing.signal);
      if ((await checkCertificates(store.path)) !== null) mine.resolve();
      await work();
      if ((await checkCertificates(store.path)) !== null) mine.resolve();
    } finally {
      mine.resolve();
    }
  };

  const make = async (name: string, { driver, flagsFor }: MakeSettings): Promise<void> => {
    try {
      await alone(async () => {
        if (stopping) throw new SystemFailure("the runner is told to stop");
        const args = ["create", "--driver", driver, ...flagsFor(name), name];
        const making = await startMaking(program, args, records.filesOf(name), store.path);
        await change(name, { pid: making.pid });
        await follow(name, making);
      });
    } catch (error) {
      // Without a process nothing of it is anywhere.
      if (records.get(name)?.pid === undefined) {
        if (!closing.signal.aborted)
          log.error("a machine could not be made", { machine: name, problem: describeError(error) });
        await change(name, { state: "failed" });
      } else throw error;
    }
  };

  const removalOf = (name: string) => async (): Promise<void> => {
    const maxAttempts = (): number => settings().maxRemovalAttempts;
    await removeMachine(
      name,
      { program, store, records, maxAttempts, firstPauseMs: firstRemovalPauseMs, log },
      closing.signal,
    );
    const { output, status } = records.filesOf(name);
    await Promise.all([output, status].map((file) => rm(file, { force: true })));
    await records.set(name, null);
    log.info("a machine was removed", { machine: name });
  };

  const removeNext = (): void => {
    for (const [name, remove] of removals) {
      if (removing >= MOST_REMOVALS || closing.signal.aborted) return;
      removals.delete(name);
      removing++;
      inBackground(
        remove().finally(() => {
          removing--;
          removeNext();
        }),
      );
    }
  };

  return {
    async init(signal) {
      await mkdir(store.path, { recursive: true, mode: 0o700 });
      const { code, complaint } = await program.run(["--version"], READ_MS, signal);
      if (code !== 0) {
        const why = code === 127 ? "there is no such program on PATH" : complaint;
        throw new SystemFailure(`docker-machine cannot be used: ${why}`, { reason: "runner_configuration_error" });
      }
      const good = await checkCertificates(store.path);
      if (good !== null && good.until.getTime() - Date.now() < SOON_MS) {
        log.warn("docker-machine's certificates end soon, and with them all of its machines", {
          store: store.path,
          until: good.until.toISOString(),
        });
      }
      await records.load();
      log.debug("machines are kept in docker-machine's store", { store: store.path, known: records.all().size });
      for (const [name, { state, pid = 0 }] of records.all()) {
        if (state === "making") inBackground(follow(name, foundMaking(pid, name, records.filesOf(name))));
        if (state === "removing") removals.set(name, removalOf(name));
      }
      removeNext();
    },
    async list() {
      const names = new Set(await store.names());
      for (const name of names) {
        if (records.get(name) !== undefined || !settings().names.owns(name)) continue;
        log.info("a machine that was there before is taken over", { machine: name });
        await records.set(name, { state: "there", since: Date.now() });
      }
      for (const [name, { state }] of records.all()) {
        if (state !== "there" || names.has(name)) continue;
        log.warn("a machine is gone that this runner has not removed", { machine: name });
        await records.set(name, null);
      }
      return [...records.all()].map(([id, { state }]) => ({ id, state: STATES[state] }));
    },
    async grow(count) {
      const now = settings();
      const names = Array.from({ length: count }, () => now.names.create());
      await Promise.all(
        names.map((name) => records.set(name, { state: "making", since: Date.now(), driver: now.driver })),
      );
      for (const name of names) inBackground(make(name, now));
      return count;
    },
    async shrink(ids) {
      for (const name of ids) {
        const record = records.get(name);
        // One that is being made may just be asking its cloud for a machine that nobody would know of.
        if (record === undefined || record.state === "making" || record.state === "removing") continue;
        await records.set(name, { ...record, state: "removing" });
        removals.set(name, removalOf(name));
      }
      removeNext();
    },
    async connect(name, signal) {
      const url = records.get(name)?.url ?? (await addressOf(name, program, signal));
      await change(name, { url });
      const [tlsCertPath, login] = await Promise.all([store.certificatesOf(name), store.loginOf(name)]);
      return { host: url, tlsCertPath, login };
    },
    check: (_, connection, signal) => pingEngine(connection, pingMs, signal),
    async close(signal) {
      stopping = true;
      const ended = (async () => {
        while (tasks.size > 0 && removing < tasks.size) await Promise.race(tasks);
      })();
      // Removals are taken up again by the next process, and creations would be: better they end.
      await unlessAborted(ended, signal).catch(() => {});
      closing.abort(new Error("the executor is closed"));
      await Promise.all(tasks);
    },
  };
}

async function addressOf(name: string, program: MachineProgram, signal: AbortSignal): Promise<string> {
  const { code, stdout, complaint } = await program.run(["url", name], READ_MS, signal);
  const url = stdout.trim();
  if (code === 0 && /^tcp:\/\/[^\s/]+$/.test(url)) return url;
  throw new SystemFailure(`docker-machine does not tell the address of ${name}: ${complaint || url}`, { retry: true });
}
