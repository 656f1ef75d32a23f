import type { Inputs, ScalerSettings } from "./contract.ts";
import { inOrderOfRemoval, type MutableInstance, slotsWithoutJob } from "./fleet.ts";

/** What is needed of instances, and which of them are not: by what was counted, and the settings. */

export function slotsOfOne({ capacity, maxUses }: Pick<ScalerSettings, "capacity" | "maxUses">): number {
  return Math.max(1, Math.min(capacity, maxUses));
}

/** Slots that a job, or a question without an instance, could get which no instance has yet. */
export function slotsToCome(now: Inputs, settings: ScalerSettings): number {
  const more = Math.max(0, settings.maxInstances - now.instances) * slotsOfOne(settings);
  return now.coming + more - now.waiting;
}

/** @param wanted a question was refused a while ago at most: a trial is made, so that no job has to find out */
export function wantedInstances(now: Inputs, settings: ScalerSettings, wanted: boolean): number {
  const slots = slotsOfOne(settings);
  const underWay = now.coming / slots;
  const trial = !now.preemptive && now.failing && wanted && now.ready === 0 ? 1 : 0;
  const need = Math.max(now.waiting + now.idle, trial) - now.ready - now.coming;
  const most = Math.min(settings.maxInstances - now.instances, settings.maxCreating - underWay);
  // One at a time, as long as that is known to fail.
  return now.failing && underWay > 0 ? 0 : Math.max(0, Math.min(Math.ceil(need / slots), most));
}

interface Superfluous {
  readonly one: MutableInstance;
  readonly why: string;
}

/** Instances without a job that nobody needs any more, in the order in which they go. */
export function superfluous(
  fleet: readonly MutableInstance[],
  now: Inputs,
  { settings, idleTimeMs, at }: { readonly settings: ScalerSettings; readonly idleTimeMs: number; readonly at: number },
): Superfluous[] {
  const leaving = fleet.filter(({ state }) => state === "draining" || state === "removing").length;
  let tooMany = now.instances - settings.maxInstances - leaving;
  let spare = now.ready - now.idle - now.waiting;
  const found: Superfluous[] = [];
  for (const one of inOrderOfRemoval(fleet.filter(({ state, jobs }) => state === "ready" && jobs === 0))) {
    const slots = slotsWithoutJob(one, settings);
    const over = tooMany > 0;
    const idle = at - one.idleSince >= idleTimeMs;
    if (!over && !(idle && spare >= slots)) continue;
    spare -= slots;
    tooMany--;
    found.push({ one, why: over ? `there are more than ${settings.maxInstances} instances` : "nobody needs it" });
  }
  return found;
}
