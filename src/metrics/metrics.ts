import type { JobView, RunnerView } from "../board/contract.ts";
import type { CloudMeter } from "../cloud/meter.ts";
import { goWords } from "../go-words.ts";
import type { LogLevel } from "../log.ts";
import { createCloudMeter } from "./cloud.ts";
import { createEntryMeters } from "./entries.ts";
import type { Figure } from "./executor-meters.ts";
import { createFamilies } from "./families.ts";
import { Registry } from "./library.ts";
import type { EntryMeter, MetricsEntry, NamedEntry } from "./meters.ts";
import { addProcessMetrics } from "./process.ts";

/** What is looked up when somebody asks. */
interface MetricSources {
  readonly outbox?: () => { readonly entries: number; readonly oldestAgeSeconds: number; readonly bytes: number };
  readonly stateFreeBytes?: () => Promise<number>;
  /** Whether jobs of durable entries are; `undefined`: there is no such entry. */
  readonly durable?: () => boolean | undefined;
  /** Jobs between arrival and delivery. */
  readonly jobs?: () => readonly Pick<JobView, "runner" | "progress">[];
  /** Tokens that expire. */
  readonly tokens?: () => readonly { readonly id: string; readonly name: string; readonly expiresAtMs: number }[];
  /** Entries, and what each is about. */
  readonly runners?: () => readonly Pick<RunnerView, "id" | "name" | "activity">[];
}

export type ProcessState = "starting" | "running" | "graceful-shutdown" | "forceful-shutdown";

export interface Metrics {
  readonly contentType: string;
  /** All metrics in the Prometheus text format. */
  render(): Promise<string>;
  /** Fits `onEntry` of the log. */
  logged(level: LogLevel): void;
  /** `broken` are its entries that cannot be used, `sound` the others. */
  configLoaded(config: {
    readonly concurrent: number;
    readonly sound: readonly NamedEntry[];
    readonly broken: readonly NamedEntry[];
  }): void;
  configRefused(): void;
  /** The runner has changed its configuration file, or could not. */
  configSaved(well: boolean): void;
  processState(state: ProcessState): void;
  /** As last told. */
  readonly state: ProcessState;
  /** No job is asked for, for want of disk space. */
  pollingPaused(is: boolean): void;
  /** Housekeeping has removed something of a kind. */
  freed(kind: string, bytes: number): void;
  observe(sources: MetricSources): void;
  /** A job of an earlier process: this one goes on with it, so long after it was found, or it cannot. */
  adopted(result: "adopted" | "buried", seconds?: number): void;
  readonly cloud: CloudMeter;
  entry(entry: MetricsEntry): EntryMeter;
  /** What the executor of an entry counts at the moment. */
  figures(runner: string): readonly Figure[];
}

export interface MetricsOptions {
  readonly version: string;
  readonly revision?: string;
  readonly branch?: string;
  readonly builtAt?: string;
  /** Stands for this installation, for the `system_id` label. */
  readonly systemId?: string;
}

/**
 * The runner's metrics, in a registry of their own. Names that dashboards know (`ci_runner_*` of the Go runner,
 * `gitlab_runner_*` of GitLab Runner) come beside ours (`alloy_runner_*`). The `runner` label is the hash of the token.
 * Gauges are counted when somebody asks, so that they cannot drift; series of a removed entry disappear.
 */
export function createMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry();
  const families = createFamilies(registry);
  const { counter, gauge, histogram } = families;
  let sources: MetricSources = {};
  let concurrent = 0;
  let state: ProcessState = "starting";
  let paused = false;

  const { platform, architecture } = goWords(process);
  const versionLabels = {
    name: "alloy-runner",
    version: options.version,
    revision: options.revision ?? "",
    branch: options.branch ?? "",
    runtime: process.versions.bun === undefined ? `node ${process.versions.node}` : `bun ${process.versions.bun}`,
    built_at: options.builtAt ?? "",
    os: platform,
    architecture,
  };
  const versionLabelNames = [
    "name",
    "version",
    "revision",
    "branch",
    "runtime",
    "built_at",
    "os",
    "architecture",
  ] as const;
  for (const name of ["ci_runner_version_info", "gitlab_runner_version_info"]) {
    gauge(name, "The program's version; always 1.", versionLabelNames, (set) => set(versionLabels, 1));
  }

  const errorCounters = ["ci_runner_errors", "gitlab_runner_errors_total"].map((name) => {
    const errors = counter(name, "Lines of the runner's own log at warning level or above.", ["level"]);
    for (const level of ["warning", "error", "fatal", "panic"]) errors.inc({ level }, 0);
    return errors;
  });

  gauge("gitlab_runner_concurrent", "Value of concurrent.", [], (set) => set({}, concurrent));
  gauge("gitlab_runner_process_state_info", "1 for the state that the process is in.", ["state"], (set) =>
    set({ state }, 1),
  );
  gauge("alloy_runner_polling_paused", "1 while no job is asked for, for want of disk space.", [], (set) =>
    set({}, paused ? 1 : 0),
  );
  gauge("alloy_runner_outbox_entries", "Finished jobs whose report has not arrived yet.", [], (set) => {
    if (sources.outbox !== undefined) set({}, sources.outbox().entries);
  });
  gauge("alloy_runner_outbox_oldest_age_seconds", "Age of the oldest report that has not arrived yet.", [], (set) => {
    if (sources.outbox !== undefined) set({}, sources.outbox().oldestAgeSeconds);
  });
  gauge("alloy_runner_outbox_bytes", "Bytes of trace that wait for delivery.", [], (set) => {
    if (sources.outbox !== undefined) set({}, sources.outbox().bytes);
  });
  gauge("alloy_runner_durable", "1: what jobs of durable entries do is kept; 0: it cannot be.", [], (set) => {
    const durable = sources.durable?.();
    if (durable !== undefined) set({}, durable ? 1 : 0);
  });
  gauge("alloy_runner_state_free_bytes", "Free space where the runner keeps its state.", [], async (set) => {
    const free = await sources.stateFreeBytes?.().catch(() => undefined);
    if (free !== undefined) set({}, free);
  });

  gauge("gitlab_runner_worker_slots_number", "Jobs that may run at once.", [], (set) => set({}, concurrent));
  gauge(
    "alloy_runner_entry_state_info",
    "1 for what the entry is about: idle, asking, slot, disk, paused and so on.",
    ["runner", "runner_name", "system_id", "state"],
    (set) => {
      for (const { id, name, activity } of sources.runners?.() ?? []) {
        const state = activity.at.replaceAll(" ", "_");
        set({ runner: id, runner_name: name, system_id: options.systemId ?? "", state }, 1);
      }
    },
  );

  gauge(
    "alloy_runner_token_expires_timestamp_seconds",
    "When the entry's token expires; of those that do.",
    ["runner", "runner_name", "system_id"],
    (set) => {
      for (const { id, name, expiresAtMs } of sources.tokens?.() ?? [])
        set({ runner: id, runner_name: name, system_id: options.systemId ?? "" }, expiresAtMs / 1000);
    },
  );

  const slotOperations = counter("gitlab_runner_worker_slot_operations_total", "Changes of concurrent, by one each.", [
    "operation",
  ]);
  for (const operation of ["started", "stopped"]) slotOperations.inc({ operation }, 0);

  const loads = counter("gitlab_runner_configuration_loaded_total", "Configurations that were loaded.", []);
  const loadErrors = counter(
    "gitlab_runner_configuration_loading_error_total",
    "Configurations that were refused.",
    [],
  );
  const saves = counter("gitlab_runner_configuration_saved_total", "Changes of the configuration by the runner.", []);
  const saveErrors = counter(
    "gitlab_runner_configuration_saving_error_total",
    "Changes of the configuration that failed.",
    [],
  );
  const freedBytes = counter("alloy_runner_housekeeping_freed_bytes_total", "Size of what housekeeping has removed.", [
    "kind",
  ]);
  const freedThings = counter(
    "alloy_runner_housekeeping_removed_total",
    "Images, volumes and directories for builds that housekeeping has removed.",
    ["kind"],
  );
  const adoptions = counter(
    "alloy_runner_jobs_adopted_total",
    "Durable jobs of earlier processes: gone on with (adopted), or ended and reported (buried).",
    ["result"],
  );
  for (const result of ["adopted", "buried"]) adoptions.inc({ result }, 0);
  const adoptSeconds = histogram(
    "alloy_runner_adopt_seconds",
    "Time from finding a job of an earlier process until it is gone on with.",
    [],
    [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
  );
  const { entry, configured, figures } = createEntryMeters(
    families,
    options.systemId ?? "",
    () => sources.jobs?.() ?? [],
  );
  addProcessMetrics(registry);

  return {
    contentType: registry.contentType,
    render: () => registry.metrics(),
    logged(level) {
      if (level === "debug" || level === "info") return;
      for (const errors of errorCounters) errors.inc({ level: level === "warn" ? "warning" : level });
    },
    configLoaded(next) {
      const more = next.concurrent - concurrent;
      slotOperations.inc({ operation: more < 0 ? "stopped" : "started" }, Math.abs(more));
      concurrent = next.concurrent;
      loads.inc();
      configured(next);
    },
    configRefused: () => loadErrors.inc(),
    configSaved: (well) => (well ? saves : saveErrors).inc(),
    processState(next) {
      state = next;
    },
    get state() {
      return state;
    },
    pollingPaused(is) {
      paused = is;
    },
    freed(kind, bytes) {
      freedBytes.inc({ kind }, bytes);
      freedThings.inc({ kind });
    },
    adopted(result, seconds) {
      adoptions.inc({ result });
      if (result === "adopted" && seconds !== undefined) adoptSeconds.observe({}, seconds);
    },
    cloud: createCloudMeter(families),
    observe(more) {
      sources = { ...sources, ...more };
    },
    entry,
    figures,
  };
}
