import type { Outcome } from "../job.ts";

/** Where a job is; metrics and the log read this. */
export type JobState =
  | { readonly at: "received" }
  | { readonly at: "preparing"; readonly attempt: number }
  | { readonly at: "running"; readonly stage: string }
  /** Set once, when everything that could decide it has ended. */
  | { readonly at: "finished"; readonly outcome: Outcome };

const MOVES: Readonly<Record<JobState["at"], readonly JobState["at"][]>> = {
  received: ["preparing", "finished"],
  preparing: ["preparing", "running", "finished"],
  running: ["running", "finished"],
  finished: [],
};

/** The next state. @throws {Error} there is no such move: that is a bug */
export function advance(from: JobState, to: JobState): JobState {
  if (!MOVES[from.at].includes(to.at)) throw new Error(`A job cannot go from ${from.at} to ${to.at}`);
  return to;
}
