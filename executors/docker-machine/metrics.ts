import type { ExecutorMeter } from "../../src/executor-deps.ts";
import type { Instance } from "../scaler/index.ts";

export interface MachineMeters {
  created(ms: number): void;
  used(waitedMs: number): void;
  removed(): void;
}

/** 30 s and nine more, each a quarter longer: as the Go runner has them. */
const CREATION_BUCKETS = Array.from({ length: 10 }, (_, index) => 30 * 1.25 ** index);
const WAIT_BUCKETS = [0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 120, 300, 900];

/** The Go runner's metrics, and how long jobs wait. `prefix`: `ci_docker_machines`. */
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
  const wait = meter.histogram("machine_wait_seconds", "How long jobs waited for their machine.", WAIT_BUCKETS);
  meter.gauge(`${prefix}_provider_machine_states`, "Machines by what they do.", ["state"], () => {
    const counts = new Map(["acquired", "creating", "idle", "used", "removing"].map((state) => [state, 0]));
    for (const one of instances()) {
      const state = stateOf(one);
      counts.set(state, (counts.get(state) ?? 0) + 1);
    }
    return [...counts].map(([state, value]) => ({ labels: { state }, value }));
  });
  return {
    created(ms) {
      action({ action: "created" });
      creation(ms / 1000);
    },
    used(waitedMs) {
      action({ action: "used" });
      wait(waitedMs / 1000);
    },
    removed: () => action({ action: "removed" }),
  };
}

function stateOf({ state, jobs, asking }: Instance): string {
  if (jobs > 0) return "used";
  if (state === "creating" || state === "checking") return "creating";
  if (state === "removing" || state === "draining") return "removing";
  return asking > 0 ? "acquired" : "idle";
}
