import type { JobView } from "../board/contract.ts";
import type { BrokenEntries } from "./broken-entries.ts";
import type { Families } from "./families.ts";
import { peerWords, stageLabel } from "./peer-words.ts";

/** What is known of an entry that is at work. */
export interface KnownEntry {
  readonly name: string;
  limit: number;
  users: number;
  asking: number;
  lanes: number;
  mostLanes: number;
  /** As the last job's coordinator said. */
  queue: { readonly size?: number | undefined; readonly depth?: number | undefined };
  /** Whose requests are refused. After a reload there are two of them for a while, the old one with its last jobs. */
  readonly unhealthy: Set<symbol>;
  /** How to remove each of its series, by what tells them apart. */
  readonly series: Map<string, () => void>;
}

interface JobLabels {
  readonly runner: string;
  readonly state: string;
  readonly stage: string;
  readonly executor_stage: string;
}

/** `null`: its slot is free, and it is in progress no more. */
function labelsOf({ runner, progress }: Pick<JobView, "runner" | "progress">): JobLabels | null {
  if (progress.at === "delivering") return null;
  const words = peerWords(progress);
  return { runner, ...words, stage: stageLabel(words.stage) };
}

/** The Go runner's older words. */
function olderLabels(job: JobLabels): JobLabels {
  const state = job.state === "success" || job.state === "failed" ? "finished" : job.state;
  return { ...job, state, stage: job.stage === "step_script" ? "build_script" : job.stage };
}

interface Shown {
  readonly entries: ReadonlyMap<string, KnownEntry>;
  /** The labels of an entry. */
  readonly both: (id: string) => { readonly runner: string; readonly runner_name: string; readonly system_id: string };
  readonly broken: BrokenEntries;
  readonly jobs: () => readonly Pick<JobView, "runner" | "progress">[];
}

const R = ["runner", "runner_name", "system_id"] as const;

/** What is as it is whenever somebody asks: entries, their requests and their jobs. */
export function addEntryGauges(gauge: Families["gauge"], { entries, both, broken, jobs }: Shown): void {
  const perJob = ["runner", "state", "stage", "executor_stage"] as const;
  const countJobs = (set: (job: JobLabels, count: number) => void, as = (job: JobLabels) => job): void => {
    const counts = new Map<string, { job: JobLabels; count: number }>();
    for (const view of jobs()) {
      const labels = labelsOf(view);
      if (labels === null) continue;
      const job = as(labels);
      const key = Object.values(job).join(" ");
      const known = counts.get(key);
      if (known === undefined) counts.set(key, { job, count: 1 });
      else known.count++;
    }
    for (const { job, count } of counts.values()) set(job, count);
  };
  gauge("ci_runner_builds", "Jobs in progress.", perJob, (set) => countJobs(set, olderLabels));
  gauge("gitlab_runner_jobs", "Jobs in progress.", [...R, "state", "stage", "executor_stage"], (set) => {
    // Of an entry without jobs, too, so that a rule over it finds something.
    for (const id of entries.keys()) set({ ...both(id), state: "idle", stage: "idle", executor_stage: "idle" }, 0);
    countJobs((job, count) => set({ ...both(job.runner), ...job }, count));
  });

  const eachEntry =
    (value: (entry: KnownEntry) => number) => (set: (labels: ReturnType<typeof both>, n: number) => void) => {
      for (const [id, entry] of entries) set(both(id), value(entry));
    };
  gauge(
    "gitlab_runner_limit",
    "Value of limit; 0 is none.",
    R,
    eachEntry(({ limit }) => (Number.isFinite(limit) ? limit : 0)),
  );
  gauge(
    "gitlab_runner_request_concurrency",
    "Job requests under way.",
    R,
    eachEntry(({ asking }) => asking),
  );
  gauge(
    "gitlab_runner_request_concurrency_hard_limit",
    "Value of request_concurrency.",
    R,
    eachEntry(({ mostLanes }) => mostLanes),
  );
  for (const name of ["adaptive", "used"]) {
    gauge(
      `gitlab_runner_request_concurrency_${name}_limit`,
      "Job requests that may be under way now: one, until the coordinator is known to hand out different jobs.",
      R,
      eachEntry(({ lanes }) => lanes),
    );
  }
  for (const name of ["size", "depth"] as const) {
    const help = {
      size: "Jobs that waited when the last job was handed out.",
      depth: "How many of them were looked at.",
    };
    gauge(`gitlab_runner_job_queue_${name}`, help[name], R, (set) => {
      for (const [id, { queue }] of entries) if (queue[name] !== undefined) set(both(id), queue[name]);
    });
  }
  gauge(
    "alloy_runner_entry_healthy",
    "1 while the entry can be used and the coordinator accepts its token.",
    R,
    (set) => {
      for (const [id, { unhealthy }] of entries) set(both(id), unhealthy.size === 0 && !broken.has(id) ? 1 : 0);
      for (const labels of broken.labels) if (!entries.has(labels.runner)) set(labels, 0);
    },
  );
}
