import type { KeepBudgets, KeptThing } from "../../../src/executor/keeping.ts";

/** One of the things that are kept, and what keeps it from being removed. */
export interface Candidate extends KeptThing {
  /** A job works with it, or others do. */
  readonly held: boolean;
}

/** What has to go, and why. */
export interface Choice<T> {
  readonly thing: T;
  readonly why: string;
}

const BUDGET_OF = { image: "images", volume: "volumes", builds: "builds" } as const;

/**
 * What goes, those that were not used for longest first: until each kind is within its budget, and then until so many bytes more
 * are free. What is held stays, and counts.
 */
export function chooseOldest<T extends Candidate>(
  things: readonly T[],
  budgets: KeepBudgets,
  missing: { readonly bytes: number; readonly why: string } | null,
): Choice<T>[] {
  const chosen = new Map<T, string>();
  const oldest = things.filter(({ held }) => !held).sort((a, b) => a.usedAt - b.usedAt);
  for (const kind of ["image", "volume", "builds"] as const) {
    const budget = budgets[BUDGET_OF[kind]];
    if (budget === null) continue;
    let bytes = things.reduce((sum, thing) => sum + (thing.kind === kind ? thing.bytes : 0), 0);
    const why = `${BUDGET_OF[kind]} take ${formatBytes(bytes)} of ${formatBytes(budget)}`;
    for (const thing of oldest) {
      if (bytes <= budget) break;
      if (thing.kind !== kind) continue;
      chosen.set(thing, why);
      bytes -= thing.bytes;
    }
  }
  if (missing !== null) {
    let bytes = [...chosen.keys()].reduce((sum, thing) => sum + thing.bytes, 0);
    for (const thing of oldest) {
      if (bytes >= missing.bytes) break;
      if (chosen.has(thing)) continue;
      chosen.set(thing, missing.why);
      bytes += thing.bytes;
    }
  }
  return oldest.flatMap((thing) => {
    const why = chosen.get(thing);
    return why === undefined ? [] : [{ thing, why }];
  });
}

export function formatBytes(bytes: number): string {
  return bytes < 2 ** 30 ? `${Math.round(bytes / 2 ** 20)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
