/** The instances there are, and who has their slots: what is counted, and nothing that is decided. */

/**
 * `creating`: asked for; `checking`: it is there, whether it can be used is not known yet; `ready`: jobs may have it; `draining`: its
 * jobs go on and no other one gets it; `removing`: the provider was told to remove it.
 */
export type InstanceState = "creating" | "checking" | "ready" | "draining" | "removing";

export interface Instance {
  readonly id: string;
  readonly state: InstanceState;
  /** Jobs that it has had, those that run included. */
  readonly uses: number;
  /** Jobs that run. */
  readonly jobs: number;
  /** Slots that are kept for questions to the coordinator. */
  readonly asking: number;
  /** Since when nobody works on it: when it became ready, or its last job ended. */
  readonly idleSince: number;
}

/**
 * A reservation. `asking`: the coordinator is asked for a job; `waiting`: the job has come and there is no slot for it; `working`: it
 * has one; `lost`: its instance is gone; `over`: it was let go of.
 */
export interface Ticket {
  readonly state: "asking" | "waiting" | "working" | "lost" | "over";
  /** Where its slot is. */
  readonly instance: string | null;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };
export type MutableTicket = Writable<Ticket>;

export interface MutableInstance extends Writable<Instance> {
  readonly tickets: Set<MutableTicket>;
  /** In a row. */
  failures: number;
  /** Why it is to be removed. */
  why: string;
  /** When the provider is told again to remove it. */
  removeAgainAt: number;
  /** It is about to be removed for want of work: questions get no slot of it. */
  unwanted: boolean;
}

export function createInstance(id: string, state: InstanceState, idleSince: number): MutableInstance {
  return {
    id,
    state,
    uses: 0,
    jobs: 0,
    asking: 0,
    idleSince,
    tickets: new Set(),
    failures: 0,
    why: "",
    removeAgainAt: 0,
    unwanted: false,
  };
}

export interface SlotRules {
  /** Jobs at once on one instance. */
  readonly capacity: number;
  /** Jobs that an instance may have in all. */
  readonly maxUses: number;
}

/** Slots that no job has; those that questions hold are among them. */
export function slotsWithoutJob(one: Instance, { capacity, maxUses }: SlotRules): number {
  return one.state === "ready" ? Math.max(0, Math.min(capacity - one.jobs, maxUses - one.uses)) : 0;
}

export function freeSlots(one: Instance, rules: SlotRules): number {
  return Math.max(0, slotsWithoutJob(one, rules) - one.asking);
}

/**
 * Where the next job goes: the fullest one, so that others become empty; of several the one that was used last, so that others
 * become old.
 */
export function bestFor(
  instances: Iterable<MutableInstance>,
  rules: SlotRules,
  { unwantedToo }: { readonly unwantedToo: boolean },
): MutableInstance | null {
  let best: MutableInstance | null = null;
  for (const one of instances) {
    if ((one.unwanted && !unwantedToo) || freeSlots(one, rules) === 0) continue;
    if (best === null || isBetter(one, best)) best = one;
  }
  return best;
}

function isBetter(one: MutableInstance, other: MutableInstance): boolean {
  const taken = (each: MutableInstance): number => each.jobs + each.asking;
  if (one.unwanted !== other.unwanted) return other.unwanted;
  if (taken(one) !== taken(other)) return taken(one) > taken(other);
  return one.idleSince > other.idleSince;
}

/** Those that go first: used most, then the youngest. */
export function inOrderOfRemoval(instances: readonly MutableInstance[]): MutableInstance[] {
  return instances.toSorted((one, other) => other.uses - one.uses || other.idleSince - one.idleSince);
}
