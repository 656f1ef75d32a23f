import type { Period } from "../../../src/periods.ts";

/** How much is to be ready for jobs that may come. */
export interface Demand {
  /** Free slots beside those that work: `idleFactor` times the jobs that there are, but no fewer and no more than these. */
  readonly idleLeast: number;
  readonly idleMost: number;
  readonly idleFactor: number;
  /** How long an instance that nobody needs stays. */
  readonly idleTimeMs: number;
  /** Jobs are asked for only where a slot is ready. Otherwise an instance is made for a job that has come. */
  readonly preemptive: boolean;
}

/** What holds in some minutes. */
export interface Policy {
  /** It holds in all of their minutes; without any, always. */
  readonly periods: readonly Period[];
  readonly demand: Demand;
}

const MINUTE_MS = 60_000;

/** The last of the policies that holds counts; where none does, `otherwise`. Asked for once a minute, as periods are. */
export function createDemand(policies: readonly Policy[], otherwise: Demand): (now: number) => Demand {
  let minute = Number.NaN;
  let current = otherwise;
  return (now) => {
    const next = Math.floor(now / MINUTE_MS);
    if (next !== minute) {
      minute = next;
      const at = new Date(next * MINUTE_MS);
      const holds = ({ periods }: Policy): boolean => periods.length === 0 || periods.some((period) => period(at));
      current = policies.findLast(holds)?.demand ?? otherwise;
    }
    return current;
  };
}

/** Free slots that are wanted beside `jobs`. */
export function idleFor({ idleLeast, idleMost, idleFactor }: Demand, jobs: number): number {
  return Math.max(idleLeast, Math.min(idleMost, Math.ceil(jobs * idleFactor)));
}
