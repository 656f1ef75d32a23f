import { setTimeout as wait } from "node:timers/promises";
import type { LocalJob } from "../../src/local/coordinator/coordinator.ts";

/** The job, or the one that took its place where its runner died before it had said that it has it; once that is over. */
export async function lastTry(job: LocalJob): Promise<LocalJob> {
  for (let current = job; ; await wait(100)) {
    while (current.retriedAs !== undefined) current = current.retriedAs;
    if (current.updates.some(({ state }) => state === "success" || state === "failed")) return current;
  }
}
