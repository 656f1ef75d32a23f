import type { JobView } from "../board/contract.ts";
import type { FailureReason } from "../errors.ts";
import { peerStage } from "../job/job.ts";
import { type BrokenEntries, createBrokenEntries } from "./broken-entries.ts";
import { addEntryGauges, type KnownEntry } from "./entry-gauges.ts";
import { createExecutorMeters, type Figure } from "./executor-meters.ts";
import type { Families } from "./families.ts";
import type { EntryMeter, MetricsEntry } from "./meters.ts";
import { stageLabel } from "./peer-words.ts";
import { hasWaitedTooLong } from "./queuing.ts";

/** As GitLab Runner calls the author's script. */
const SCRIPT = "step_script";

/** Endpoints as GitLab Runner calls them in its metrics, by what ours are called. */
const ENDPOINTS: ReadonlyMap<string, string> = new Map([
  ["jobs/request", "request_job"],
  ["jobs/:id", "update_job"],
  ["jobs/:id/trace", "patch_trace"],
]);

/** What is measured per entry and per job: everything with a `runner` label. @returns how an entry joins in */
export function createEntryMeters(
  { counter, gauge, histogram }: Families,
  systemId: string,
  jobs: () => readonly Pick<JobView, "runner" | "progress">[],
): {
  entry(entry: MetricsEntry): EntryMeter;
  readonly configured: BrokenEntries["configured"];
  readonly figures: (runner: string) => readonly Figure[];
} {
  const entries = new Map<string, KnownEntry>();
  const both = (id: string): { runner: string; runner_name: string; system_id: string } => ({
    runner: id,
    runner_name: entries.get(id)?.name ?? "",
    system_id: systemId,
  });
  const R = ["runner", "runner_name", "system_id"] as const;

  const broken = createBrokenEntries({ counter, gauge, histogram }, systemId);
  addEntryGauges(gauge, { entries, both, broken, jobs });
  const failedOld = counter("ci_runner_failed_jobs_total", "Failed jobs.", ["runner", "failure_reason"]);
  const failed = counter("gitlab_runner_failed_jobs_total", "Failed jobs.", [...R, "failure_reason", "mode"]);
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
  const retries = counter(
    "gitlab_runner_api_request_retries_total",
    "Requests that were made again after the coordinator gave no answer, or one of trouble.",
    [...R, "path", "method"],
  );
  const jobSeconds = histogram(
    "gitlab_runner_job_duration_seconds",
    "Time from receiving a job to its end.",
    [...R, "mode"],
    [30, 60, 300, 600, 1800, 3600, 7200, 10800, 18000, 36000],
  );
  const queueSeconds = histogram(
    "gitlab_runner_job_queue_duration_seconds",
    "Time that a job waited at the coordinator, as it says.",
    [...R, "project_jobs_running"],
    [1, 3, 10, 30, 60, 120, 300, 900, 1800, 3600],
  );
  const waitedTooLong = counter(
    "gitlab_runner_acceptable_job_queuing_duration_exceeded_total",
    "Jobs that had waited at the coordinator for longer than [[runners.monitoring.job_queuing_durations]] accepts.",
    R,
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

  const feeds = counter("gitlab_runner_worker_feeds_total", "Requests for a job.", R);
  const feedFailures = counter(
    "gitlab_runner_worker_feed_failures_total",
    "Times that an entry was put off, as its token was not accepted.",
    R,
  );
  const crowded = counter(
    "gitlab_runner_request_concurrency_exceeded_total",
    "Times that an entry waited for requests of its own that were under way.",
    R,
  );
  const unadmitted = counter(
    "alloy_runner_admission_refusals_total",
    "Times that an entry asked for no job because it could not have run one.",
    [...R, "reason"],
  );

  const interpolations = counter(
    "gitlab_runner_job_inputs_interpolations_total",
    "Texts of jobs in which an expression with inputs stood.",
    [],
  );
  const interpolationFailures = counter(
    "gitlab_runner_job_inputs_interpolation_failures_total",
    "Jobs whose inputs could not be put in.",
    ["error_type"],
  );
  for (const error_type of ["parse", "evaluation", "sensitive_unsupported"])
    interpolationFailures.inc({ error_type }, 0);

  const executors = createExecutorMeters({ counter, gauge, histogram });

  const open = (opened: MetricsEntry): EntryMeter => {
    const { id, name, limit, executor: executorName = "", requestConcurrency = 1 } = opened;
    const known = entries.get(id);
    const entry: KnownEntry = known ?? {
      name,
      limit,
      users: 0,
      asking: 0,
      lanes: 1,
      mostLanes: requestConcurrency,
      queue: {},
      unhealthy: new Set(),
      series: new Map(),
    };
    entries.set(id, entry);
    entry.users++;
    entry.limit = limit;
    entry.mostLanes = requestConcurrency;
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
    const countReceived = (received: Parameters<EntryMeter["job"]>[0]): void => {
      const { queuedSeconds, queueSize: size, queueDepth: depth, projectJobsRunning = "" } = received;
      if (size !== undefined || depth !== undefined) entry.queue = { size, depth };
      on(handled, "handled", labels).inc(labels);
      if (queuedSeconds !== undefined) {
        const its = { ...labels, project_jobs_running: projectJobsRunning };
        on(queueSeconds, `queue ${projectJobsRunning}`, its).observe(its, queuedSeconds);
      }
      const { texts = 0, failure: error_type } = received.filledInputs ?? {};
      interpolations.inc(texts);
      if (error_type !== undefined) interpolationFailures.inc({ error_type });
      const tooLong = hasWaitedTooLong(received, opened.queuingLimits ?? [], new Date());
      on(waitedTooLong, "waited too long", labels).inc(labels, tooLong ? 1 : 0);
    };
    return {
      executor,
      request({ endpoint: pattern, method: verb, status, durationMs, again }) {
        const endpoint = ENDPOINTS.get(pattern) ?? pattern;
        const method = verb.toLowerCase();
        const answer = status === 0 ? "error" : String(status);
        const kind = status === 0 ? "error" : `${Math.trunc(status / 100)}xx`;
        const counted = { ...labels, endpoint, status: answer, method };
        on(statuses, `statuses ${endpoint} ${answer} ${method}`, counted).inc(counted);
        const timed = { ...labels, endpoint, status_class: kind, method };
        on(apiSeconds, `seconds ${endpoint} ${kind} ${method}`, timed).observe(timed, durationMs / 1000);
        const repeated = { ...labels, path: endpoint, method };
        on(retries, `retries ${endpoint} ${method}`, repeated).inc(repeated, again ? 1 : 0);
      },
      asking(change) {
        entry.asking += change;
        if (change > 0) on(feeds, "feeds", labels).inc(labels);
      },
      lanes(count) {
        entry.lanes = count;
      },
      crowded: () => on(crowded, "crowded", labels).inc(labels),
      full() {
        const its = { ...labels, failure_type: "no_free_executor" };
        on(processing, "processing no_free_executor", its).inc(its);
      },
      refused() {
        on(refusals, "refusals", labels).inc(labels);
        on(feedFailures, "feed failures", labels).inc(labels);
      },
      refusedAdmission(reason) {
        const its = { ...labels, reason };
        on(unadmitted, `unadmitted ${reason}`, its).inc(its);
      },
      healthy(is) {
        if (is) entry.unhealthy.delete(me);
        else if (here) entry.unhealthy.add(me);
      },
      job(received, { stages = true, ageMs } = {}) {
        const receivedAt = performance.now() - (ageMs ?? 0);
        let started = ageMs !== undefined;
        let finished = false;
        if (ageMs === undefined) countReceived(received);
        const secondsSince = (): number => (performance.now() - receivedAt) / 1000;
        const failedWith = (failure_reason: FailureReason): void => {
          const old = { runner: id, failure_reason };
          on(failedOld, `failed old ${failure_reason}`, old).inc(old);
          const its = { ...labels, failure_reason, mode: mode() };
          on(failed, `failed ${failure_reason} ${its.mode}`, its).inc(its);
          const kind = { ...labels, failure_type: "job_failure" };
          on(processing, "processing job_failure", kind).inc(kind);
        };
        let stage: { readonly name: string; readonly since: number } | undefined;
        let scripted = false;
        /** Of a job that never came to its script it is not known. */
        const mode = (): string => (scripted ? "traditional" : "unknown");
        /** What a job is at now; what it was at before has ended. */
        const enter = (next: string | undefined): void => {
          const now = performance.now();
          if (stage !== undefined && stages) {
            const its = { ...labels, stage: stage.name };
            on(stageSeconds, `stage ${stage.name}`, its).observe(its, (now - stage.since) / 1000);
          }
          stage = next === undefined ? undefined : { name: next, since: now };
          if (next !== SCRIPT || scripted) return;
          scripted = true;
          modes.inc({ mode: mode(), executor: executorName });
        };
        return {
          moved(progress) {
            if (finished) return;
            if (progress.at === "resolving") enter("resolve_secrets");
            if (progress.at === "preparing" && stage?.name !== "prepare_executor") enter("prepare_executor");
            if (progress.at === "running") {
              const label = stageLabel(peerStage(progress.stage, progress.failed === true));
              if (label === "step" || label !== stage?.name) enter(label);
            }
            if (progress.at === "finished") enter(undefined);
            if (progress.at === "running" && !started) {
              started = true;
              on(startSeconds, "start", labels).observe(labels, secondsSince());
            }
            if (progress.at !== "finished") return;
            finished = true;
            const its = { ...labels, mode: mode() };
            on(jobSeconds, `duration ${its.mode}`, its).observe(its, secondsSince());
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
  return { entry: open, configured: broken.configured, figures: executors.figures };
}
