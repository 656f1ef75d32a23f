import { z } from "zod";
import type { Engine } from "../engine/engine.ts";
import { isNamedByUs, LABELS, labelFilter, type Owner } from "../engine/labels.ts";

/** A job's claim on a builds directory; it is free again when it is disposed of, once or more often. */
export interface Slot extends Disposable {
  /** `CI_CONCURRENT_PROJECT_ID` */
  readonly number: number;
}

const containersSchema = z.array(
  z.object({ Names: z.array(z.string()).nullish(), Labels: z.record(z.string(), z.string()).nullish() }),
);

/** What two jobs must not share: kept volumes are named after it. */
export function slotLabel(runnerId: string, projectId: string, slot: number): string {
  return `${runnerId}/${projectId}/${slot}`;
}

/** Lowest number that no other running job of this token and project has: in this process, or in another at this daemon. */
export function createSlots(owner: Owner): {
  take(engine: Engine, runnerId: string, projectId: string, signal: AbortSignal): Promise<Slot>;
  /** The one that a job had in an earlier process: its containers have kept it from others meanwhile. */
  retake(runnerId: string, projectId: string, number: number): Slot;
} {
  const taken = new Set<string>();
  const hold = (label: string, number: number): Slot => {
    taken.add(label);
    let held = true;
    const free = (): void => {
      // Only the first call frees it: by the next one another job may have it.
      if (held) taken.delete(label);
      held = false;
    };
    return { number, [Symbol.dispose]: free };
  };
  return {
    retake: (runnerId, projectId, number) => hold(slotLabel(runnerId, projectId, number), number),
    take: async (engine, runnerId, projectId, signal) => {
      const others = await elsewhere(engine, owner, signal);
      // From here on nothing waits, so two jobs of this process cannot both pass.
      for (let number = 0; ; number++) {
        const label = slotLabel(runnerId, projectId, number);
        if (!taken.has(label) && !others.has(label)) return hold(label, number);
      }
    },
  };
}

/** Slots of running containers that are not this process's. */
async function elsewhere(engine: Engine, owner: Owner, signal: AbortSignal): Promise<Set<string>> {
  const filters = labelFilter({ [LABELS.role]: "helper" });
  const answer = await engine.call(
    "list the containers of other runners",
    (docker, abortSignal) => docker.listContainers({ filters, abortSignal }),
    signal,
  );
  const found = containersSchema.safeParse(answer);
  const slots = new Set<string>();
  for (const { Names, Labels } of found.success ? found.data : []) {
    const label = Labels?.[LABELS.slot];
    if (label === undefined || !isNamedByUs(Names ?? [], Labels ?? {})) continue;
    if (Labels?.[LABELS.process] !== owner.process) slots.add(label);
  }
  return slots;
}
