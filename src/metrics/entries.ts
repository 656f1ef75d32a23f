import type { JobView } from "../board/contract.ts";
import type { FailureReason } from "../errors.ts";
import { type BrokenEntries, createBrokenEntries } from "./broken-entries.ts";
import { createExecutorMeters } from "./executor-meters.ts";
import type { Families } from "./families.ts";
import type { EntryMeter, MetricsEntry } from "./meters.ts";

/** Stages with a name of their own; a job's further steps are named by its author and would be labels without bound. */
const STAGES = new Set([
  "prepare_executor",
  "prepare_script",
  "get_sources",
  "restore_cache",
  "download_artifacts",
  "build_script",
  "after_script",
  "archive_cache",
  "upload_artifacts",
  "cleanup",
]);

/** As GitLab Runner calls the author's script. */
const SCRIPT = "step_script";

/** The name of a stage in `gitlab_runner_job_stage_duration_seconds`, which dashboards know from there. */
function stageLabel(stage: string): string {
  if (stage === "build_script") return SCRIPT;
  return STAGES.has(stage) ? stage : "step";
}

interface KnownEntry {
  readonly name: string;
  limit: number;
  users: number;
  asking: number;
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
  const job = { runner, state: "running", stage: "", executor_stage: "" };
  switch (progress.at) {
    case "received":
      return { ...job, state: "pending" };
    case "preparing":
      return { ...job, executor_stage: "prepare" };
    case "running":
      return { ...job, stage: STAGES.has(progress.stage) ? progress.stage : "step" };
    case "finished":
      return { ...job, state: progress.outcome.result === "canceled" ? "canceled" : "finished" };
    case "delivering":
      return null;
  }
}

/** What is measured per entry and per job: everything with a `runner` label. @returns how an entry joins in */
export function createEntryMeters(
  { counter, gauge, histogram }: Families,
  systemId: string,
  jobs: () => readonly Pick<JobView, "runner" | "progress">[],
): { entry(entry: MetricsEntry): EntryMeter; readonly configured: BrokenEntries["configured"] } {
  const entries = new Map<string, KnownEntry>();
  const both = (id: string): { runner: string; runner_name: string; system_id: string } => ({
    runner: id,
    runner_name: entries.get(id)?.name ?? "",
    system_id: systemId,
  });
  const R = ["runner", "runner_name", "system_id"] as const;

  const perJob = ["runner", "state", "stage", "executor_stage"] as const;
  const countJobs = (set: (job: JobLabels, count: number) => void): void => {
    const counts = new Map<string, { job: JobLabels; count: number }>();
    for (const view of jobs()) {
      const job = labelsOf(view);
      if (job === null) continue;
      const key = Object.values(job).join(" ");
      const known = counts.get(key);
      if (known === undefined) counts.set(key, { job, count: 1 });
      else known.count++;
    }
    for (const { job, count } of counts.values()) set(job, count);
  };
  gauge("ci_runner_builds", "Jobs in progress.", perJob, (set) => countJobs(set));
  gauge("gitlab_runner_jobs", "Jobs in progress.", [...R, "state", "stage", "executor_stage"], (set) => {
    // Of an entry without jobs, too, so that a rule over it finds something.
    for (const id of entries.keys()) set({ ...both(id), state: "idle", stage: "idle", executor_stage: "idle" }, 0);
    countJobs((job, count) => set({ ...job, ...both(job.runner) }, count));
  });

  const broken = createBrokenEntries({ counter, gauge, histogram }, systemId);
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
    "alloy_runner_entry_healthy",
    "1 while the entry can be used and the coordinator accepts its token.",
    R,
    (set) => {
      for (const [id, { unhealthy }] of entries) set(both(id), unhealthy.size === 0 && !broken.has(id) ? 1 : 0);
      for (const labels of broken.labels) if (!entries.has(labels.runner)) set(labels, 0);
    },
  );
  const failedOld = counter("ci_runner_failed_jobs_total", "Failed jobs.", ["runner", "failure_reason"]);
  const failed = counter("gitlab_runner_failed_jobs_total", "Failed jobs.", [...R, "failure_reason"]);
  const handled = counter("gitlab_runner_jobs_total", "Jobs received.", R);
  const refusals = counter(
    "gitlab_runner_worker_health_check_failures_total",
    "Job requests whose token was not accepted.",
    R,
  );
  const statuses = counter("gitlab_runner_api_request_statuses_total", "Answers of the coordinator.", [
    ...R,
    "endpoint",
    "status",
    "method",
  ]);
  const traced = counter("alloy_runner_trace_bytes_total", "Bytes of job output kept.", R);
  const apiSeconds = histogram(
    "gitlab_runner_api_request_duration_seconds",
    "Time that the coordinator took to answer.",
    [...R, "endpoint", "status_class", "method"],
    [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
  );
  const jobSeconds = histogram(
    "gitlab_runner_job_duration_seconds",
    "Time from receiving a job to its end.",
    R,
    [30, 60, 300, 600, 1800, 3600, 7200, 10800, 18000, 36000],
  );
  const queueSeconds = histogram(
    "gitlab_runner_job_queue_duration_seconds",
    "Time that a job waited at the coordinator, as it says.",
    R,
    [1, 3, 10, 30, 60, 120, 300, 900, 1800, 3600],
  );
  const startSeconds = histogram(
    "alloy_runner_job_start_seconds",
    "Time from receiving a job to its first script: preparing included.",
    R,
    [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
  );

  const stageSeconds = histogram(
    "gitlab_runner_job_stage_duration_seconds",
    "Time that each stage of a job took.",
    [...R, "stage"],
    [1, 3, 10, 30, 60, 120, 300, 900, 1800, 3600],
  );
  const modes = counter(
    "gitlab_runner_job_execution_mode_total",
    "Jobs that reached their script: always by scripts of the runner's (traditional).",
    ["mode", "executor"],
  );
  const processing = counter(
    "gitlab_runner_worker_processing_failures_total",
    "What kept an entry from working: a job that failed, an executor without room.",
    [...R, "failure_type"],
  );

  const unadmitted = counter(
    "alloy_runner_admission_refusals_total",
    "Times that an entry asked for no job because it could not have run one.",
    [...R, "reason"],
  );

  const executors = createExecutorMeters({ counter, gauge, histogram });

  const open = ({ id, name, limit, executor: executorName = "" }: MetricsEntry): EntryMeter => {
    const known = entries.get(id);
    const entry: KnownEntry = known ?? { name, limit, users: 0, asking: 0, unhealthy: new Set(), series: new Map() };
    entries.set(id, entry);
    entry.users++;
    entry.limit = limit;
    const labels = both(id);
    /** Notes how to remove the series that is about to be used. */
    const on = <M extends { remove(labels: object): void }>(metric: M, key: string, its: object): M => {
      if (!entry.series.has(key)) entry.series.set(key, () => metric.remove(its));
      return metric;
    };
    const executor = executors.open(labels, (key, remove) => {
      if (!entry.series.has(key)) entry.series.set(key, remove);
    });
    const me = Symbol(id);
    let here = true;
    return {
      executor,
      request(endpoint, method, status, durationMs) {
        const answer = status === 0 ? "error" : String(status);
        const kind = status === 0 ? "error" : `${Math.trunc(status / 100)}xx`;
        const counted = { ...labels, endpoint, status: answer, method };
        on(statuses, `statuses ${endpoint} ${answer} ${method}`, counted).inc(counted);
        const timed = { ...labels, endpoint, status_class: kind, method };
        on(apiSeconds, `seconds ${endpoint} ${kind} ${method}`, timed).observe(timed, durationMs / 1000);
      },
      asking(change) {
        entry.asking += change;
      },
      full() {
        const its = { ...labels, failure_type: "no_free_executor" };
        on(processing, "processing no_free_executor", its).inc(its);
      },
      refusedAdmission(reason) {
        const its = { ...labels, reason };
        on(unadmitted, `unadmitted ${reason}`, its).inc(its);
      },
      refused: () => on(refusals, "refusals", labels).inc(labels),
      healthy(is) {
        if (is) entry.unhealthy.delete(me);
        else if (here) entry.unhealthy.add(me);
      },
      job({ queuedSeconds }) {
        const receivedAt = performance.now();
        let started = false;
        let finished = false;
        on(handled, "handled", labels).inc(labels);
        if (queuedSeconds !== undefined) on(queueSeconds, "queue", labels).observe(labels, queuedSeconds);
        const secondsSince = (): number => (performance.now() - receivedAt) / 1000;
        const failedWith = (failure_reason: FailureReason): void => {
          const old = { runner: id, failure_reason };
          on(failedOld, `failed old ${failure_reason}`, old).inc(old);
          const its = { ...labels, failure_reason };
          on(failed, `failed ${failure_reason}`, its).inc(its);
          const kind = { ...labels, failure_type: "job_failure" };
          on(processing, "processing job_failure", kind).inc(kind);
        };
        let stage: { readonly name: string; readonly since: number } | undefined;
        let scripted = false;
        /** What a job is at now; what it was at before has ended. */
        const enter = (next: string | undefined): void => {
          const now = performance.now();
          if (stage !== undefined) {
            const its = { ...labels, stage: stage.name };
            on(stageSeconds, `stage ${stage.name}`, its).observe(its, (now - stage.since) / 1000);
          }
          stage = next === undefined ? undefined : { name: next, since: now };
          if (next !== SCRIPT || scripted) return;
          scripted = true;
          modes.inc({ mode: "traditional", executor: executorName });
        };
        return {
          moved(progress) {
            if (finished) return;
            if (progress.at === "preparing" && stage === undefined) enter("prepare_executor");
            if (progress.at === "running") enter(stageLabel(progress.stage));
            if (progress.at === "finished") enter(undefined);
            if (progress.at === "running" && !started) {
              started = true;
              on(startSeconds, "start", labels).observe(labels, secondsSince());
            }
            if (progress.at !== "finished") return;
            finished = true;
            on(jobSeconds, "duration", labels).observe(labels, secondsSince());
            if (progress.outcome.result === "failed") failedWith(progress.outcome.reason);
          },
          traced: (bytes) => on(traced, "traced", labels).inc(labels, bytes),
        };
      },
      close() {
        if (!here) return;
        here = false;
        entry.unhealthy.delete(me);
        executor[Symbol.dispose]();
        if (--entry.users > 0) return;
        for (const remove of entry.series.values()) remove();
        entries.delete(id);
      },
    };
  };
  return { entry: open, configured: broken.configured };
}
