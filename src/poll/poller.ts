import type { RunnerActivity } from "../board/contract.ts";
import type { RunnerConfig } from "../config/config.ts";
import type { Coordinator, RunnerInfo } from "../coordinator/contract.ts";
import { describeError, Stop } from "../errors.ts";
import type { Executor } from "../executor/executor.ts";
import type { Reservation } from "../executor/prepare.ts";
import type { Job } from "../job/job.ts";
import type { Log } from "../log.ts";
import type { EntryMeter } from "../metrics/meters.ts";
import type { SessionOffer } from "../session/contract.ts";
import type { Gate } from "./admission/admission.ts";
import type { PlaceResult } from "./admission/breaker.ts";
import { type Alarm, createAlarm } from "./alarm.ts";
import { createHealth } from "./health.ts";
import type { PollTiming } from "./pace.ts";
import { createQuestions } from "./questions.ts";
import { letGo } from "./reservation.ts";
import type { Slot, Slots, SlotWish } from "./slots.ts";

export interface PollerOptions {
  readonly entry: Pick<
    RunnerConfig,
    | "id"
    | "labels"
    | "limit"
    | "weight"
    | "requestConcurrency"
    | "strictCheckInterval"
    | "unhealthyRequestsLimit"
    | "unhealthyIntervalMs"
  >;
  readonly coordinator: Pick<Coordinator, "origin" | "requestJob">;
  /** A terminal's address and secret, for one request; absent: terminals are not served. */
  readonly offerSession?: () => SessionOffer;
  readonly executor: Pick<Executor, "name" | "shell" | "features" | "reserve" | "wantsPayload" | "onRoom">;
  readonly slots: Slots;
  readonly gate: Gate;
  /** Told to ask for no more jobs until it is told otherwise. */
  readonly isPaused: () => boolean;
  /** Pause after an empty answer; asked each time, as reloads change it. */
  readonly pauseMs: () => number;
  /** Its token has just been exchanged for a new one: that a request is refused says nothing. */
  readonly isChanging: () => boolean;
  /** How many entries want slots. */
  readonly entryCount: () => number;
  readonly firstDelayMs: number;
  /** How long a request may stay under way once no more jobs are wanted; broken off, it can lose a job. */
  readonly lastRequestMs: () => number;
  /**
   * A job arrived. It takes over slot and reservation, also where it fails, and tells once whether it got a place.
   * @returns false for a job that is known already: then both stay the poller's
   */
  readonly receive: (
    job: Job,
    slot: Slot,
    reservation: Reservation | undefined,
    onPlace: (result: PlaceResult) => void,
    session: SessionOffer | undefined,
  ) => boolean;
  readonly meter: Pick<EntryMeter, "asking" | "crowded" | "full" | "healthy" | "lanes" | "refused">;
  readonly timing: PollTiming;
  readonly log: Log;
}

export interface Poller {
  /** What it is about now. */
  activity(): RunnerActivity;
  /** It is paused no more. */
  resume(): void;
  /** There may be a job soon: a few quick questions. */
  nudge(): void;
  /** The configuration was loaded anew: an entry that was given up for a while is tried at once. */
  reset(): void;
  /** Resolves once `stop` has fired and no request is under way; never rejects. */
  readonly done: Promise<void>;
}

/** What one turn of the loop found: how long to wait, and whether a nudge may shorten that. */
interface Wait {
  readonly ms: number;
  readonly quick: boolean;
  /** Ends when the executor may have room again. */
  readonly forRoom?: true;
}

const atOnce: Wait = { ms: 0, quick: true };
/** Conflicts in a row after which there is more wrong than a lost race. */
const MOST_CONFLICTS = 10;

/** Of several loops of one entry, the one that is nearest to a job is shown. */
const NEAREST: readonly RunnerActivity["at"][] = ["asking", "idle", "slot", "full", "starting", "trial", "disk"];

/**
 * Asks for jobs of one entry until `stop` fires: see that one could run, have the executor reserve room, take a slot, ask, hand the job over, wait. A request under way is then
 * left a while to end, since a broken-off one can lose a job; what it brings is handed over as always.
 */
export function startPoller(options: PollerOptions, stop: AbortSignal): Poller {
  const { entry, coordinator, executor, slots, gate, pauseMs, entryCount, receive, meter, timing, log } = options;
  const { isPaused } = options;
  const { name, shell, features } = executor;
  const info: RunnerInfo = { executor: name, shell, features, labels: entry.labels };
  const health = createHealth({
    origin: coordinator.origin,
    refusalLimit: entry.unhealthyRequestsLimit,
    longestProbeMs: entry.unhealthyIntervalMs,
    timing,
    log,
    onChange: (is) => meter.healthy(is),
  });
  /** One loop's alarm, and what the loop is about: while it waits for a slot, what for is looked up when somebody asks. */
  const alarms = new Map<Alarm, () => RunnerActivity>();
  const requests = new AbortController();
  /** AlloyCI hands one job to two requests of a token; only a job in GitLab's dialect proves that it is another. */
  let lanes = 1;
  const questions = createQuestions({ coordinator, executor, info, slots, entryCount, meter, timing }, requests.signal);
  let conflicts = 0;
  /** The last answer said that the work changed. Two of them in a row come from something that is no GitLab. */
  let changed = false;

  /** Pauses that end when the executor may have room, and how often it has said so. */
  const roomless = new Set<Alarm>();
  let roomSaid = 0;
  executor.onRoom?.(() => {
    roomSaid++;
    for (const alarm of roomless) alarm.ring();
  });

  /** With `strict_check_interval` nothing shortens it, so that other machines get their share of the jobs. */
  const idle = (): Wait => ({ ms: pauseMs(), quick: !entry.strictCheckInterval });
  const lostRace = (): Wait => {
    if (++conflicts > MOST_CONFLICTS) return idle();
    return { ms: timing.conflictMs * (0.1 + 0.9 * Math.random()), quick: true };
  };

  const backOff = (
    problem: string,
    retryAfterMs: number | undefined,
    tell: (activity: RunnerActivity) => void,
  ): Wait => {
    const ms = health.troubled(problem, retryAfterMs);
    tell({ at: "backing off", until: Date.now() + ms, problem });
    return { ms, quick: false };
  };

  const turn = async (show: (activity: () => RunnerActivity) => void): Promise<Wait> => {
    const tell = (activity: RunnerActivity): void => show(() => activity);
    if (isPaused()) {
      tell({ at: "paused" });
      return { ms: Number.POSITIVE_INFINITY, quick: false };
    }
    const admitted = await gate.admit(stop);
    if ("activity" in admitted) {
      tell(admitted.activity);
      return admitted.waitMs === undefined ? idle() : { ms: Math.max(1, admitted.waitMs), quick: false };
    }
    let reservation: Reservation | undefined;
    let slot: Slot | undefined;
    let handedOver = false;
    try {
      const saidBefore = roomSaid;
      const reserved = await executor.reserve?.(stop);
      if (reserved === null) {
        tell({ at: "full" });
        meter.full();
        return saidBefore === roomSaid ? { ...idle(), forRoom: true } : atOnce;
      }
      reservation = reserved;
      const { id: token, limit, weight } = entry;
      const wish: SlotWish = { token, limit, weight, requestConcurrency: lanes };
      show(() => ({ at: "slot", ...(slots.held(wish) ?? { held: "concurrent", most: 0 }) }));
      if (slots.held(wish)?.held === "requests") meter.crowded();
      slot = await slots.acquire(wish, stop);
      if (stop.aborted || isPaused()) return atOnce;
      tell({ at: "asking", since: Date.now() });
      const session = features.terminal === true ? options.offerSession?.() : undefined;
      const answer = await questions.ask(slot, session);
      tell({ at: "idle", answeredAt: Date.now() });
      if (answer.kind !== "conflict" && answer.kind !== "job") conflicts = 0;
      switch (answer.kind) {
        case "job":
          health.accepted();
          if (answer.job.dialect === "gitlab") widen();
          else questions.neverHeld();
          handedOver = receive(answer.job, slot, reservation, admitted.told, session);
          if (!handedOver) return lostRace();
          conflicts = 0;
          return entry.strictCheckInterval ? idle() : atOnce;
        case "none":
          health.accepted();
          if (questions.wasHeld(answer.heldMs)) return atOnce;
          changed = questions.patient && answer.changed === true && !changed;
          return changed ? atOnce : idle();
        case "conflict":
          health.accepted();
          return lostRace();
        case "unauthorized": {
          if (options.isChanging()) return idle();
          meter.refused();
          const ms = health.refused(answer.status) ?? pauseMs();
          tell({ at: "refused", status: answer.status, until: Date.now() + ms });
          return { ms, quick: false };
        }
        case "trouble":
          return backOff(answer.message, answer.retryAfterMs, tell);
      }
    } finally {
      if (!handedOver) {
        admitted.told("unknown");
        slot?.release();
        await letGo(reservation, log);
      }
    }
  };

  const lane = async (firstDelayMs: number): Promise<void> => {
    const alarm = createAlarm(timing.burstMs);
    const show = (activity: () => RunnerActivity): void => void alarms.set(alarm, activity);
    show(() => ({ at: "starting" }));
    if (firstDelayMs > 0 && !stop.aborted) await alarm.wait(firstDelayMs, null);
    while (!stop.aborted) {
      const since = performance.now();
      const wait = await turn(show).catch((error): Wait => {
        if (stop.aborted) return atOnce;
        // A bug of ours, or an executor that cannot say whether it has room.
        log.debug("asking for a job failed", { stack: error instanceof Error ? error.stack : undefined });
        return backOff(describeError(error), undefined, (activity) => show(() => activity));
      });
      if (wait.ms === 0 || stop.aborted) continue;
      if (wait.forRoom) roomless.add(alarm);
      await alarm.wait(wait.ms, wait.quick ? since : null);
      roomless.delete(alarm);
    }
    alarms.delete(alarm);
  };

  let open = 0;
  const ended = Promise.withResolvers<void>();
  const begin = (firstDelayMs: number): void => {
    open++;
    void lane(firstDelayMs).finally(() => {
      if (--open > 0) return;
      clearTimeout(lastRequest);
      stop.removeEventListener("abort", onStop);
      // No jobs are asked for with this entry any more, so it must not go on being shown as unhealthy.
      meter.healthy(true);
      ended.resolve();
    });
  };
  const widen = (): void => {
    for (; lanes < entry.requestConcurrency && !stop.aborted; lanes++) begin(0);
    meter.lanes(lanes);
  };

  let lastRequest: NodeJS.Timeout | undefined;
  const onStop = (): void => {
    for (const alarm of alarms.keys()) alarm.ring();
    lastRequest = setTimeout(
      () => requests.abort(new Stop("shutting_down", "no more jobs are wanted")),
      options.lastRequestMs(),
    );
  };
  if (!stop.aborted) stop.addEventListener("abort", onStop, { once: true });
  begin(options.firstDelayMs);

  return {
    activity() {
      if (stop.aborted) return { at: "leaving" };
      if (isPaused()) return { at: "paused" };
      // A loop that was resumed a moment ago has not looked again yet.
      const all = [...alarms.values()].map((look) => look()).filter(({ at }) => at !== "paused");
      const nearest = NEAREST.flatMap((at) => all.find((one) => one.at === at) ?? [])[0];
      return nearest ?? all[0] ?? { at: "starting" };
    },
    resume: () => {
      for (const alarm of alarms.keys()) alarm.ring();
    },
    nudge: () => {
      for (const alarm of alarms.keys()) alarm.nudge();
    },
    reset: () => {
      health.reset();
      for (const alarm of alarms.keys()) alarm.ring();
    },
    done: ended.promise,
  };
}
