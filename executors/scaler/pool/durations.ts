import type { Instance, InstanceState } from "../decide/fleet.ts";
import type { PoolEvents } from "./contract.ts";

/** How long instances take to be made, to let somebody in, and to go, as the pool sees them. */
export interface Durations {
  /** So many were asked for, and have no names yet. */
  asked(count: number, at: number): void;
  /** All there are, each time something may have changed. */
  look(instances: readonly Instance[]): void;
}

interface Known {
  state: InstanceState;
  since: number;
  /** `null`: it was there before. */
  readonly askedAt: number | null;
}

/** What was asked for so long ago without having shown is not what shows now. */
const FORGOTTEN_MS = 600_000;

export function createDurations(
  { created, connected, gone }: Pick<PoolEvents, "created" | "connected" | "gone">,
  now: () => number,
): Durations {
  const known = new Map<string, Known>();
  let asked: number[] = [];

  const changed = (one: Known, state: InstanceState, at: number): void => {
    if (one.state === "creating" && (state === "checking" || state === "ready")) {
      if (one.askedAt !== null) created?.(at - one.askedAt);
    } else if (one.state === "checking" && state === "ready") connected?.(at - one.since);
    one.state = state;
    one.since = at;
  };

  return {
    asked(count, at) {
      asked = asked.filter((each) => at - each < FORGOTTEN_MS);
      for (let i = 0; i < count; i++) asked.push(at);
    },
    look(instances) {
      const at = now();
      const there = new Set(instances.map(({ id }) => id));
      for (const [id, { state, since }] of known) {
        if (there.has(id)) continue;
        known.delete(id);
        if (state === "removing") gone?.(at - since);
      }
      for (const { id, state } of instances) {
        let one = known.get(id);
        if (one === undefined) {
          one = { state: "creating", since: at, askedAt: asked.shift() ?? null };
          known.set(id, one);
        }
        if (one.state !== state) changed(one, state, at);
      }
    },
  };
}
