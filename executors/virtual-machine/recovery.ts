import { basename, join } from "node:path";
import { z } from "zod";
import { describeError, SystemFailure } from "../../src/errors.ts";
import type { Recovered } from "../../src/executor/executor.ts";
import type { Note } from "../../src/executor/prepare.ts";
import type { Log } from "../../src/log.ts";
import { pause } from "../../src/time.ts";
import type { Hypervisor } from "./hypervisor.ts";
import { allKept, type KeptMachine, keep, readKept } from "./kept.ts";
import { discardMachine } from "./machine.ts";
import { endOrphans } from "./orphans.ts";
import type { Places } from "./places.ts";

interface RecoveryOptions {
  readonly hypervisor: Hypervisor;
  readonly places: Places;
  readonly keepDir: string;
  readonly log: Log;
}

const noteSchema = z.object({ kind: z.literal("vm-job"), file: z.string() });

/** A job that has taken a machine over writes its own name down at once. */
const TAKE_OVER_MS = 1000;
const UNUSED_MS = 14 * 24 * 3600_000;
/** By then the journal has had the machines of dead jobs looked after, but for those that it has forgotten. */
const FORGOTTEN_MS = 10 * 60_000;

/** Treats what a dead job had as if the job had ended: its machine is off, and ready for the next job or gone. */
export async function recoverJob(
  options: RecoveryOptions,
  { jobKey, notes }: { readonly jobKey: string; readonly notes: readonly Note[] },
  signal: AbortSignal,
): Promise<Recovered> {
  const files = new Set<string>();
  for (const note of notes) {
    const known = noteSchema.safeParse(note);
    // Only the last part of the path is used, so that nothing outside of the directory is touched.
    if (known.success) files.add(join(options.keepDir, basename(known.data.file)));
    else if (note.kind !== "crash")
      options.log.warn("a note of a dead job is not one of virtual machines", { note: String(note.kind ?? "unknown") });
  }
  const done: string[] = [];
  const left: string[] = [];
  for (const file of files) {
    try {
      const said = await recoverMachine(options, file, jobKey, signal);
      if (said !== null) done.push(said);
    } catch (error) {
      signal.throwIfAborted();
      left.push(`could not end the virtual machine that it ran in: ${describeError(error)}`);
    }
  }
  return { done, left };
}

async function recoverMachine(
  { hypervisor, places }: RecoveryOptions,
  file: string,
  jobKey: string,
  signal: AbortSignal,
): Promise<string | null> {
  const found = await readKept(file);
  if (found === "unreadable") {
    // The next job in its place names the machine.
    throw new SystemFailure(`${file}, which says which machine that is, cannot be read`);
  }
  if (found?.jobKey !== jobKey) return null;
  const claim = places.tryHold(basename(file));
  try {
    if (claim === null) await pause(TAKE_OVER_MS, signal);
    const machine = await readKept(file);
    // Another job has the machine now: that one has switched it off, or will.
    if (machine === null || machine === "unreadable" || machine.jobKey !== jobKey) return null;
    if (machine.snapshot === null) {
      await discardMachine(hypervisor, file, machine, signal);
      return `removed 1 virtual machine (${machine.name}) and what ran in it`;
    }
    await endOrphans(hypervisor, machine, signal);
    await hypervisor.powerOff(machine, signal);
    await keep(file, { ...machine, jobKey: null });
    return `powered off 1 virtual machine (${machine.name}) and what ran in it`;
  } finally {
    claim?.free();
  }
}

/**
 * Machines that no job has wanted for two weeks go, of whichever entry they were; those whose job has ended without them are
 * switched off.
 */
export async function sweepUnused(options: RecoveryOptions, signal: AbortSignal): Promise<void> {
  const { hypervisor, places, keepDir, log } = options;
  for (const file of await allKept(keepDir, hypervisor.name)) {
    const before = await readKept(file);
    if (before === "unreadable") log.warn("what was written down of a virtual machine cannot be read", { file });
    if (before === null || before === "unreadable" || !isLeft(before)) continue;
    // Whoever works in the machine holds its file.
    const claim = places.tryHold(basename(file));
    if (claim === null) continue;
    try {
      const machine = await readKept(file);
      if (machine === null || machine === "unreadable" || !isLeft(machine)) continue;
      if (machine.snapshot !== null && Date.now() - machine.usedAt < UNUSED_MS) {
        await hypervisor.powerOff(machine, signal);
        await keep(file, { ...machine, jobKey: null });
      } else {
        await discardMachine(hypervisor, file, machine, signal);
        log.info("removed a virtual machine that no job wants any more", { machine: machine.name });
      }
    } catch (error) {
      signal.throwIfAborted();
      log.warn("cannot clean up after a virtual machine that no job wants any more", {
        machine: before.name,
        problem: describeError(error),
      });
    } finally {
      claim.free();
    }
  }
}

function isLeft({ jobKey, usedAt }: KeptMachine): boolean {
  return Date.now() - usedAt > (jobKey === null ? UNUSED_MS : FORGOTTEN_MS);
}
