import type { Board } from "../board/contract.ts";
import type { Config, RunnerConfig } from "../config/config.ts";
import type { Coordinator, RunnerInfo } from "../coordinator/contract.ts";
import { describeError, problemLine } from "../errors.ts";
import type { Executor } from "../executor/executor.ts";
import type { Tidied } from "../executor/keeping.ts";
import type { HandleJob } from "../job/life/received.ts";
import type { Log } from "../log.ts";
import type { EntryMeter } from "../metrics/meters.ts";
import type { Metrics } from "../metrics/metrics.ts";
import type { SessionOffer } from "../session/contract.ts";
import type { Admission } from "./admission/admission.ts";
import { createHousekeeper } from "./housekeeping.ts";
import { createJobs } from "./jobs.ts";
import { createLeases } from "./leases.ts";
import { firstDelayMs, idlePauseMs, type PollTiming, pollTiming } from "./pace.ts";
import { type EntryJob, openReception, type Reception } from "./reception.ts";
import { createSlots } from "./slots.ts";
import { type Beside, openStation, type Station } from "./station.ts";

export interface SupervisorOptions {
  readonly handleJob: HandleJob;
  readonly openCoordinator: (entry: RunnerConfig, meter: EntryMeter) => Coordinator;
  /** `config` is the one that the entry came with, for what is set there for all entries (`user`). */
  readonly openExecutor: (entry: RunnerConfig, config: Config, meter: EntryMeter) => Executor;
  /** Asked before each request. */
  readonly admission: Admission;
  /** Is a report of this job still to be delivered, from before this process started? */
  readonly isPending: (origin: string, jobId: string) => boolean;
  /** Has its token just been exchanged? Then that a request is refused says nothing. */
  readonly isChanging?: (entry: RunnerConfig) => boolean;
  /** Where all jobs are shown. */
  readonly board: Board;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly timing?: PollTiming;
  /** Fires with a Stop when jobs that can be are left to the runner's next process. */
  readonly handOver?: AbortSignal;
  /** A terminal for the job that one request may bring; absent: terminals are not served. */
  readonly offerSession?: () => SessionOffer;
}

export interface Supervisor {
  /**
   * Work on this configuration from now on. Entries whose text did not change keep polling; one that was changed or
   * removed asks no more, and its jobs go on with what they began with. Jobs of the same token count together throughout.
   */
  apply(config: Config): void;
  /**
   * Jobs of an earlier process go on, each with the entry that it began with; what `apply` was called with last is not asked for them.
   * Called right after the first `apply`: they have their slots before a request is made.
   */
  adopt(found: readonly EntryJob[]): void;
  /**
   * Ask for no more jobs. Resolves when all jobs have ended and their executors are closed; never rejects.
   * @param lastRequestMs longest that a request for a job which is under way may still take, if that is less than usual
   */
  drain(lastRequestMs?: number): Promise<void>;
  /** Ask for no more jobs with these tokens (`RunnerConfig.id`), or with any; what runs goes on. Holds through reloads. */
  pause(tokens: readonly string[] | "all"): void;
  resume(tokens: readonly string[] | "all"): void;
  /** Removes what is kept between jobs beyond its budgets; `dry`: says what would go. */
  tidy(dry: boolean, signal: AbortSignal): Promise<readonly Tidied[]>;
  /** A disk is too full for jobs. */
  pressForRoom(): void;
  /** Entries that are polled. */
  readonly polling: number;
  /** What requests of an entry (`RunnerConfig.id`) say of it, and who counts their answers. */
  about(id: string): { readonly info: RunnerInfo; readonly onRequest: EntryMeter["request"] } | undefined;
  /** See `Jobs.blame`. */
  blame(error: unknown): string | undefined;
}

/**
 * One poller per `[[runners]]` entry; follows reloads.
 * @param process fires with a Stop when jobs shall end; `drain` is called beside it
 */
export function createSupervisor(options: SupervisorOptions, process: AbortSignal): Supervisor {
  const { openCoordinator, admission, board, metrics, log, timing = pollTiming } = options;
  const slots = createSlots(1);
  const jobs = createJobs(options, process);
  const leases = createLeases(options);
  const around = { jobs, leases, openCoordinator, metrics, log };
  /** By fingerprint, and a number for entries that are the same to the letter. */
  const stations = new Map<string, Station>();
  /** Stations that ask no more but have jobs left. */
  const leaving = new Set<Promise<void>>();
  let config: Config | undefined;
  /** Entries of the configuration in force that cannot be used. */
  let unusable: Disposable[] = [];
  const paused = new Set<string>();
  /** With all, also those that a reload brings. */
  let allPaused = false;
  let draining = false;
  let { lastRequestMs } = timing;
  const housekeeper = createHousekeeper({
    budgets: () => config?.housekeeping ?? { images: null, volumes: null, builds: null, free: null },
    executors: () => [...new Set([...stations.values()].map(({ lease }) => lease.executor))],
    isBusy: () => slots.running > 0,
    freed: metrics.freed,
    log,
  });

  const onOrigin = (origin: string): Station[] => [...stations.values()].filter((station) => station.origin === origin);

  const pauseMs = (entry: RunnerConfig, origin: string): number =>
    idlePauseMs(
      {
        checkIntervalMs: config?.checkIntervalMs ?? 3000,
        entriesOnOrigin: onOrigin(origin).length,
        strict: entry.strictCheckInterval,
      },
      Math.random(),
    );

  const beside: Beside = {
    ...around,
    board,
    admission,
    slots,
    timing,
    offerSession: options.offerSession,
    isPaused: (id) => paused.has(id),
    isChanging: (entry) => options.isChanging?.(entry) ?? false,
    pauseMs,
    entryCount: () => stations.size,
    // Half of the time is left for the jobs that such a request may still bring.
    lastRequestMs: (from) => Math.min(lastRequestMs, (config ?? from).shutdownTimeoutMs / 2),
    onDelivered: (origin, own) => {
      // The next stage may go to any runner of the coordinator; with many of them, each asks soon anyway.
      const neighbours = onOrigin(origin);
      if (neighbours.length > 8) own.nudge();
      else for (const { poller } of neighbours) poller.nudge();
    },
  };

  const leave = (station: Pick<Station, "end">): void => {
    const ended = station.end();
    leaving.add(ended);
    void ended.finally(() => leaving.delete(ended));
  };

  /** Where jobs go on whose entry is another by now, or gone. */
  const guests = (found: readonly EntryJob[], from: Config): void => {
    const opened = new Map<string, Reception>();
    for (const { entry, found: one } of found) {
      try {
        const reception = opened.get(entry.fingerprint) ?? openReception(entry, from, around);
        opened.set(entry.fingerprint, reception);
        reception.takeUp(one, slots);
      } catch (error) {
        void one.bury(describeError(error));
      }
    }
    for (const reception of opened.values()) leave({ end: () => reception.close() });
  };

  return {
    apply(next) {
      if (draining) return;
      config = next;
      slots.setConcurrent(next.concurrent);
      slots.setMaxWeight(next.admission.maxWeight);
      admission.configure(next);
      metrics.configLoaded({ concurrent: next.concurrent, sound: next.runners, broken: next.broken });

      const wanted = new Map<string, RunnerConfig>();
      // Of those that are there already, one may have been resumed by itself.
      const present = new Set([...stations.values()].map(({ id }) => id));
      if (allPaused) for (const { id } of next.runners) if (!present.has(id)) paused.add(id);
      for (const entry of next.runners) {
        let number = 0;
        while (wanted.has(`${number} ${entry.fingerprint}`)) number++;
        wanted.set(`${number} ${entry.fingerprint}`, entry);
      }
      const over: Station[] = [];
      for (const [key, station] of stations) {
        if (wanted.has(key)) {
          station.poller.reset();
          continue;
        }
        stations.delete(key);
        over.push(station);
        leave(station);
      }
      // Its executor may go on for the new version of an entry; it is closed by whoever leaves it last.
      leases.offer(over.map(({ lease }) => lease));
      const fresh = [...wanted].filter(([key]) => !stations.has(key));
      for (const [index, [key, entry]] of fresh.entries()) {
        try {
          stations.set(
            key,
            openStation(entry, next, beside, (pause) => firstDelayMs(index, fresh.length, pause, Math.random())),
          );
        } catch (error) {
          log.error("an entry cannot be started; the others are not affected", {
            runner: entry.id,
            name: entry.name,
            problem: describeError(error),
          });
        }
      }
      leases.offer([]);
      for (const entry of unusable) entry[Symbol.dispose]();
      unusable = next.broken.map(({ id, name, executor, problems }) =>
        board.addRunner({ id, name, executor, origin: "", limit: 0 }, () => ({
          at: "unusable",
          problem: problems.map(problemLine).join("; "),
        })),
      );
    },
    adopt(found) {
      if (config === undefined || draining) return;
      const home = ({ entry }: EntryJob): Station | undefined =>
        [...stations.values()].find(({ reception }) => reception.entry.fingerprint === entry.fingerprint);
      for (const one of found) home(one)?.reception.takeUp(one.found, slots);
      guests(
        found.filter((one) => home(one) === undefined),
        config,
      );
    },
    pause(tokens) {
      if (tokens === "all") allPaused = true;
      const ids = tokens === "all" ? [...stations.values()].map(({ id }) => id) : tokens;
      for (const id of ids) paused.add(id);
    },
    resume(tokens) {
      if (tokens === "all") allPaused = false;
      const ids = tokens === "all" ? [...paused] : tokens;
      for (const id of ids) paused.delete(id);
      for (const { id, poller } of stations.values()) if (ids.includes(id)) poller.resume();
    },
    tidy: housekeeper.tidy,
    pressForRoom: housekeeper.press,
    async drain(mostMs = lastRequestMs) {
      draining = true;
      lastRequestMs = Math.min(lastRequestMs, mostMs);
      const tidied = housekeeper.close();
      for (const station of stations.values()) leave(station);
      stations.clear();
      while (leaving.size > 0) await Promise.all(leaving);
      await tidied;
    },
    get polling() {
      return stations.size;
    },
    about(id) {
      const station = [...stations.values()].find((one) => one.id === id);
      if (station === undefined) return undefined;
      const { name, shell, features } = station.lease.executor;
      return { info: { executor: name, shell, features, labels: station.labels }, onRequest: station.onRequest };
    },
    blame: jobs.blame,
  };
}
