import { realpath } from "node:fs/promises";
import { dirname } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import type { PrepareRequest } from "../../../src/executor/prepare.ts";
import type { DirectoryLocks } from "./locks.ts";
import { overlap } from "./places.ts";
import type { Slot } from "./slots.ts";

/**
 * The slot of a job that chose the directory of its sources (`GIT_CLONE_PATH`): its private files stay in the slot's place, and
 * nobody else works in that directory meanwhile.
 * @throws {SystemFailure} another job has it, or links lead out of the builds directory; the slot is free again then
 */
export async function inChosenRoot(
  slot: Slot,
  buildsDir: string,
  { chosenRoot }: PrepareRequest,
  claimRoot: (root: string) => ReturnType<DirectoryLocks["claim"]>,
): Promise<Slot> {
  try {
    const chosen = chosenRoot?.({ buildsDir, projectSlot: slot.number }) ?? null;
    if (chosen === null || chosen === slot.places.root) return slot;
    const [real, base] = [await realParent(chosen), await realpath(buildsDir)];
    if (!overlap(real, base) || real.length < base.length) {
      throw refusal(`GIT_CLONE_PATH is "${chosen}", which leads out of the builds directory to "${real}"`);
    }
    const claim = claimRoot(chosen);
    if (claim === null) {
      throw refusal(
        `GIT_CLONE_PATH is "${chosen}", where another job works at the moment. With $CI_CONCURRENT_ID in its path each job has one of its own`,
      );
    }
    return inRoot(slot, chosen, claim);
  } catch (error) {
    slot[Symbol.dispose]();
    throw error;
  }
}

/** The slot with its sources elsewhere, as an earlier process of the runner has let the job choose. */
export function inRoot(slot: Slot, root: string, claim: Disposable): Slot {
  return {
    ...slot,
    places: { ...slot.places, root },
    [Symbol.dispose]: () => {
      claim[Symbol.dispose]();
      slot[Symbol.dispose]();
    },
  };
}

/** Where the nearest directory is that exists, without links. */
async function realParent(path: string): Promise<string> {
  for (let above = path; ; above = dirname(above)) {
    const real = await realpath(above).catch(() => null);
    if (real !== null || above === dirname(above)) return real ?? above;
  }
}

function refusal(message: string): SystemFailure {
  return new SystemFailure(message, { reason: "runner_configuration_error" });
}
