import type { JobLine, RunnerLine, StatusAnswer } from "../control/protocol.ts";

/** What the page is told, by the names of the events that it is in. */
export interface Told {
  /** All of it, first. */
  readonly whole: StatusAnswer & { readonly now: string; readonly samples: readonly Sample[] };
  /** Jobs that are new or different; those with the state `ended` are history from then on. */
  readonly jobs: readonly JobLine[];
  /** What jobs in progress use, of those where that is another than said last. */
  readonly used: readonly Used[];
  readonly rest: Rest;
}

export type Used = Pick<JobLine, "id" | "runnerId" | "usage">;

/** What has no event of its own and is looked at each second. */
export interface Rest {
  readonly state: StatusAnswer["state"];
  readonly concurrent: number;
  readonly runners: readonly RunnerLine[];
  /** The newest one. */
  readonly sample: Sample | null;
}

/** Whether whoever looks at the page has to sign in, and may steer. */
export interface Access {
  readonly signedIn: boolean;
  /** `null`: there is no password, so nobody steers. */
  readonly csrf: string | null;
  readonly version: string;
}

/** What the charts are drawn of. */
export interface Sample {
  readonly at: string;
  /** Jobs that hold a slot. */
  readonly jobs: number;
  readonly concurrent: number;
  /** Longest time, in seconds, that one of the jobs which came since the last sample had waited at its coordinator. */
  readonly waited: number;
  /** Results that their coordinator has not taken yet. */
  readonly undelivered: number;
  /** Of the disk of `state_dir`; null where that is not known. */
  readonly freeBytes: number | null;
}
