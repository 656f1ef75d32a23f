import { describeError } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import { pause } from "../../../src/time.ts";
import type { MachineProgram } from "./call.ts";
import type { MachineRecords } from "./records.ts";
import type { MachineStore } from "./store.ts";

export interface RemovalOptions {
  readonly program: MachineProgram;
  readonly store: MachineStore;
  readonly records: MachineRecords;
  /** After so many tries the machine is forgotten, whatever became of it. */
  readonly maxAttempts: () => number;
  readonly firstPauseMs: number;
  readonly log: Log;
}

const REMOVE_MS = 600_000;
const LONGEST_PAUSE_MS = 300_000;

/** Removes a machine, however long it takes. Rejects only with the signal's reason: the record stays, and the next process goes on. */
export async function removeMachine(name: string, options: RemovalOptions, signal: AbortSignal): Promise<void> {
  const { program, store, records, maxAttempts, firstPauseMs, log } = options;
  for (;;) {
    const left = await store.names().catch(() => null);
    if (left !== null && !left.includes(name)) return;
    if (left !== null && !(await store.hasConfig(name))) {
      // What has no configuration was never asked for at a cloud.
      await program.run(["rm", "-f", "-y", name], REMOVE_MS, signal);
      if (!(await isThere(store, name))) return;
    }
    const complaint = await tryOnce(name, options, signal);
    if (complaint === null) return;
    const record = records.get(name);
    if (record === undefined) return;
    const attempts = (record.attempts ?? 0) + 1;
    await records.set(name, { ...record, attempts });
    if (attempts >= maxAttempts()) {
      await program.run(["rm", "-f", "-y", name], REMOVE_MS, signal);
      log.error(
        "a machine could not be removed and is forgotten now: look at the cloud whether it is still there and costs money",
        { machine: name, driver: record.driver, address: record.url, attempts, problem: complaint },
      );
      if (!(await isThere(store, name))) return;
    }
    const waitMs = Math.min(firstPauseMs * 2 ** (attempts - 1), LONGEST_PAUSE_MS);
    log.warn("cannot remove a machine; it is tried again", {
      machine: name,
      attempts,
      wait_ms: waitMs,
      problem: complaint,
    });
    await pause(waitMs, signal);
  }
}

/** @returns what is wrong, or `null`: it is gone */
async function tryOnce(
  name: string,
  { program, store }: Pick<RemovalOptions, "program" | "store">,
  signal: AbortSignal,
): Promise<string | null> {
  try {
    // Without -y it asks, hears nothing, removes nothing, and says that all is well.
    const { code, complaint } = await program.run(["rm", "-y", name], REMOVE_MS, signal);
    if (!(await isThere(store, name))) return null;
    return code === 0
      ? "docker-machine says that it is gone, and has it still"
      : complaint || `it ended with status ${code}`;
  } catch (error) {
    signal.throwIfAborted();
    return describeError(error);
  }
}

async function isThere(store: MachineStore, name: string): Promise<boolean> {
  return (await store.names()).includes(name);
}
