import type { PoolSettings } from "../../scaler/index.ts";
import { IDLE_TIME_MS } from "./policy.ts";
import { type AutoscalerTable, throttleOf } from "./table.ts";

const CHECK_MS = 60_000;
const FAILURES = 3;

/** What `[runners.autoscaler]` says, in the scaler's words. */
export function poolSettings(table: AutoscalerTable, ephemeral: boolean): PoolSettings {
  const { plugin } = table;
  const hosts = plugin.name === "static" ? plugin.hosts.size : Number.POSITIVE_INFINITY;
  return {
    capacity: table.capacity_per_instance || 1,
    maxUses: table.max_use_count,
    maxInstances: Math.min(table.max_instances, hosts),
    maxCreating: Number.POSITIVE_INFINITY,
    throttle: throttleOf(table),
    failureThreshold: table.failure_threshold || FAILURES,
    removeAgainMs: table.deletion_retry_interval,
    policies: table.policy,
    otherwise: { idleLeast: 0, idleMost: 0, idleFactor: 0, idleTimeMs: IDLE_TIME_MS, preemptive: false },
    acquireTimeoutMs: table.instance_acquire_timeout,
    updateMs: table.update_interval,
    updateSoonMs: table.update_interval_when_expecting,
    checkMs: CHECK_MS,
    removeOnClose: ephemeral || table.delete_instances_on_shutdown,
  };
}
