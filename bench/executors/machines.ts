import type { Scaler } from "../../executors/scaler/decide/contract.ts";
import type { Ticket } from "../../executors/scaler/decide/fleet.ts";
import { createScaler } from "../../executors/scaler/decide/scaler.ts";
import { openCloud } from "../../test/executors/scaler/cloud.ts";
import type { Figure } from "../scene.ts";

const INSTANCES = 300;
const SECONDS = 3600;
const JOBS_PER_SECOND = 5;

/** An hour of jobs over 300 instances of two slots each, by a clock that is set: what deciding costs. */
export async function machines(): Promise<readonly Figure[]> {
  let now = 0;
  const inner = createScaler(
    {
      capacity: 2,
      maxUses: 40,
      maxInstances: INSTANCES,
      maxCreating: 20,
      throttle: { perSecond: 100, burst: INSTANCES },
      failureThreshold: 3,
      removeAgainMs: 60_000,
      policies: [],
      otherwise: { idleLeast: 40, idleMost: 100, idleFactor: 0.2, idleTimeMs: 120_000, preemptive: true },
    },
    { now: () => now, wall: () => Date.UTC(2026, 10, 30) + now },
  );
  const times: number[] = [];
  const scaler: Scaler = {
    ...inner,
    decide() {
      const begin = performance.now();
      const decision = inner.decide();
      times.push(performance.now() - begin);
      return decision;
    },
  };
  const cloud = openCloud(scaler);
  const running: { ticket: Ticket; endsAt: number }[] = [];
  let most = 0;
  globalThis.gc?.();
  const heapBefore = process.memoryUsage().heapUsed;
  const cpuBefore = process.cpuUsage();
  for (let second = 0; second < SECONDS; second++) {
    now = second * 1000;
    for (let i = 0; i < JOBS_PER_SECOND; i++) {
      const ticket = scaler.reserve();
      if (ticket === null) continue;
      scaler.arrive(ticket);
      running.push({ ticket, endsAt: now + 20_000 + ((second * 7919 + i * 104_729) % 160_000) });
    }
    for (let i = running.length - 1; i >= 0; i--) {
      const job = running[i];
      if (job === undefined || job.endsAt > now) continue;
      running.splice(i, 1);
      scaler.release(job.ticket);
    }
    if (second % 45 === 0) cloud.lose(cloud.ids()[second % 7] ?? "");
    if (second % 5 === 0) cloud.finish();
    cloud.tick();
    most = Math.max(most, cloud.ids().length);
  }
  const { user, system } = process.cpuUsage(cpuBefore);
  globalThis.gc?.();
  const heapMb = (process.memoryUsage().heapUsed - heapBefore) / 2 ** 20;
  if (most < INSTANCES)
    throw new Error(`there were ${most} instances at most: too few to say something of ${INSTANCES}`);
  times.sort((a, b) => a - b);
  return [
    {
      name: "scaling decision, 300 instances, 600 slots, 99 of 100",
      value: times[Math.floor(times.length * 0.99)] ?? Number.NaN,
      unit: "ms",
      target: 1,
      bound: "at most",
    },
    {
      name: "300 instances under churn, decisions alone",
      value: ((user + system) / 1e6 / SECONDS) * 100,
      unit: "% of a core",
      target: 3,
      bound: "at most",
    },
    { name: "memory of their state", value: heapMb, unit: "MB", target: 20, bound: "at most" },
  ];
}
