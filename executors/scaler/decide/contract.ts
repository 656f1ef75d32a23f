import type { Instance, SlotRules, Ticket } from "./fleet.ts";
import type { Throttle } from "./growth.ts";
import type { Demand, Policy } from "./policy.ts";

export interface ScalerSettings extends SlotRules {
  /** Of any state, those that are being made or removed included. */
  readonly maxInstances: number;
  /** Instances that are made at the same time. */
  readonly maxCreating: number;
  readonly throttle: Throttle | null;
  /** Checks in a row that an instance may fail. */
  readonly failureThreshold: number;
  /** After which a provider is told again to remove what is still there. */
  readonly removeAgainMs: number;
  readonly policies: readonly Policy[];
  /** Where no policy holds. */
  readonly otherwise: Demand;
}

export interface Clock {
  /** Milliseconds that only grow. */
  now(): number;
  /** The time of day. */
  wall(): number;
}

/** How a provider sees an instance. One that it does not name is gone; `failed`: it could not be made, and is to be removed. */
export interface Seen {
  readonly id: string;
  readonly state: "creating" | "running" | "failed" | "deleting" | "deleted";
}

/** What a decision was made from. */
export interface Inputs {
  readonly instances: number;
  readonly maxInstances: number;
  readonly capacity: number;
  readonly working: number;
  readonly waiting: number;
  readonly asking: number;
  /** Slots that are ready, those that questions hold included. */
  readonly ready: number;
  /** Slots of instances that are being made. */
  readonly coming: number;
  /** Free slots that are wanted. */
  readonly idle: number;
  readonly preemptive: boolean;
  readonly failing: boolean;
}

export interface Decision {
  /** So many instances more. They count as asked for from now on: `grown` is to say what became of that. */
  readonly grow: number;
  readonly remove: readonly { readonly id: string; readonly why: string }[];
  readonly inputs: Inputs;
}

/**
 * Instances, their slots, and who has them: a state machine without clock, timer or connection of its own. What happens is told to
 * it, and `decide` says what is to be done.
 */
export interface Scaler {
  /** A slot for a job that may come, or `null`: no job is to be asked for. */
  reserve(): Ticket | null;
  /** Its job has come, or is prepared once more: it gets a slot now or later. */
  arrive(ticket: Ticket): void;
  /** Its job has not begun on its instance, which cannot be used: it may arrive again. */
  refuse(ticket: Ticket): void;
  /** No job came, or it is over. */
  release(ticket: Ticket): void;

  /** All instances as the provider sees them now. @returns those that nobody has asked for: `adopt` takes them over */
  observe(seen: readonly Seen[]): readonly Seen[];
  /** The provider was asked for `asked`, and took up `taken`. */
  grown(asked: number, taken: number): void;
  /** An instance from before: it is checked as a new one is. */
  adopt(seen: Seen, past: { readonly uses: number; readonly idleSince: number }): void;
  /** It can be used. */
  ready(id: string): void;
  /** It cannot be used: it is removed as soon as no job is there. */
  discard(id: string, why: string): void;
  /** A check of one that is ready. */
  checked(id: string, healthy: boolean): void;

  /** `forJobs`: nobody asks for jobs any more, so that instances are made for those that have come, and none to idle. */
  decide(mode?: "usual" | "forJobs"): Decision;
  /** Whether `reserve` would give one. */
  hasRoom(): boolean;
  /** Other settings, from now on. */
  configure(settings: ScalerSettings): void;
  instance(id: string): Instance | null;
  instances(): readonly Instance[];
  inputs(): Inputs;
}
