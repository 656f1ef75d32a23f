import type { ExecutorMeter } from "../../src/executor/deps.ts";
import { type Instance, type PoolEvents, poolMeters } from "../scaler/index.ts";

export interface MachineMeters {
  /** docker-machine has made one, and took so long. */
  made(ms: number): void;
  readonly events: PoolEvents;
}

/** 30 s and nine more, each a quarter longer: as the Go runner has them. */
const CREATION_BUCKETS = Array.from({ length: 10 }, (_, index) => 30 * 1.25 ** index);

/** The Go runner's metrics, and those of every pool. `prefix`: `ci_docker_machines`. */
export function machineMeters(
  meter: ExecutorMeter,
  prefix: string,
  instances: () => readonly Instance[],
): MachineMeters {
  const action = meter.counter(`${prefix}_provider_actions_total`, "What was done with machines.", ["action"]);
  const creation = meter.histogram(
    `${prefix}_provider_machine_creation_duration_seconds`,
    "How long machines took to be made.",
    CREATION_BUCKETS,
  );
  const pool = poolMeters(meter, "machine");
  meter.gauge(`${prefix}_provider_machine_states`, "Machines by what they do.", ["state"], () => {
    const counts = new Map(["acquired", "creating", "idle", "used", "removing"].map((state) => [state, 0]));
    for (const one of instances()) {
      const state = stateOf(one);
      counts.set(state, (counts.get(state) ?? 0) + 1);
    }
    return [...counts].map(([state, value]) => ({ labels: { state }, value }));
  });
  return {
    made(ms) {
      action({ action: "created" });
      creation(ms / 1000);
    },
    events: {
      ...pool,
      used(waitedMs) {
        action({ action: "used" });
        pool.used(waitedMs);
      },
      removed: () => action({ action: "removed" }),
    },
  };
}

function stateOf({ state, jobs, asking }: Instance): string {
  if (jobs > 0) return "used";
  if (state === "creating" || state === "checking") return "creating";
  if (state === "removing" || state === "draining") return "removing";
  return asking > 0 ? "acquired" : "idle";
}
