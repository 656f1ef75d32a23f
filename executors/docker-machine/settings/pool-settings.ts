import type { Demand, Policy, PoolSettings } from "../../scaler/index.ts";
import type { MachineTable } from "./settings.ts";

const ACQUIRE_TIMEOUT_MS = 900_000;
const UPDATE_MS = 10_000;
const UPDATE_SOON_MS = 1_000;
const CHECK_MS = 60_000;
const FAILURES = 3;
const REMOVE_AGAIN_MS = 60_000;
const REMOVAL_ATTEMPTS = 30;

type Idle = Pick<MachineTable, "IdleCount" | "IdleTime" | "IdleScaleFactor" | "IdleCountMin">;

/** What `[runners.machine]` and `limit` say, in the scaler's words: one job at a time on a machine. */
export function poolSettings(table: MachineTable, limit: number, removeOnClose: boolean): PoolSettings {
  const offPeak: Idle = {
    IdleCount: table.OffPeakIdleCount,
    IdleTime: table.OffPeakIdleTime,
    IdleScaleFactor: 0,
    IdleCountMin: 0,
  };
  const policies: Policy[] = table.autoscaling.map((each) => ({ periods: each.periods, demand: demandOf(each) }));
  if (table.offPeak.length > 0) policies.unshift({ periods: table.offPeak, demand: demandOf(offPeak) });
  return {
    capacity: 1,
    maxUses: orInfinity(table.MaxBuilds),
    maxInstances: limit,
    maxCreating: orInfinity(table.MaxGrowthRate),
    throttle: null,
    failureThreshold: FAILURES,
    removeAgainMs: REMOVE_AGAIN_MS,
    policies,
    otherwise: demandOf(table),
    acquireTimeoutMs: ACQUIRE_TIMEOUT_MS,
    updateMs: UPDATE_MS,
    updateSoonMs: UPDATE_SOON_MS,
    checkMs: CHECK_MS,
    removeOnClose: removeOnClose || table.shutdown_drain?.enabled === true,
  };
}

/** Where nothing idles, machines are made for jobs that have come; else jobs come to machines that are ready. */
function demandOf({ IdleCount, IdleTime, IdleScaleFactor, IdleCountMin }: Idle): Demand {
  const scaled = IdleCount > 0 && IdleScaleFactor > 0;
  return {
    idleLeast: scaled ? Math.min(IdleCount, Math.max(1, IdleCountMin)) : IdleCount,
    idleMost: IdleCount,
    idleFactor: scaled ? IdleScaleFactor : 0,
    idleTimeMs: IdleTime,
    preemptive: IdleCount > 0,
  };
}

/** Tries to remove a machine before it is forgotten. */
export function removalAttempts({ MaxRemovalAttempts }: Pick<MachineTable, "MaxRemovalAttempts">): number {
  return MaxRemovalAttempts || REMOVAL_ATTEMPTS;
}

/** What `docker-machine create` gets besides the driver. */
export function createFlags(
  { MachineOptions, MachineOptionsWithName }: Pick<MachineTable, "MachineOptions" | "MachineOptionsWithName">,
  name: string,
): string[] {
  return [...MachineOptions, ...MachineOptionsWithName.map((option) => option.replaceAll("%s", name))].map(
    (option) => `--${option.replace(/^-+/, "")}`,
  );
}

function orInfinity(count: number): number {
  return count || Number.POSITIVE_INFINITY;
}
