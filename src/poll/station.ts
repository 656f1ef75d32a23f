import type { Board } from "../board/contract.ts";
import type { Config, RunnerConfig } from "../config/config.ts";
import { Stop } from "../errors.ts";
import type { EntryMeter } from "../metrics/meters.ts";
import type { SessionOffer } from "../session/contract.ts";
import type { Admission } from "./admission/admission.ts";
import type { Lease } from "./leases.ts";
import type { PollTiming } from "./pace.ts";
import { type Poller, startPoller } from "./poller.ts";
import { openReception, type Reception, type ReceptionOptions } from "./reception.ts";
import type { Slots } from "./slots.ts";

/** A polled entry, and what was opened for it. */
export interface Station {
  readonly id: string;
  readonly origin: string;
  readonly poller: Poller;
  readonly reception: Reception;
  readonly lease: Lease;
  readonly onRequest: EntryMeter["request"];
  readonly labels: RunnerConfig["labels"];
  /** Ask no more. Resolves when the entry's last job has ended and all is closed; never rejects. */
  end(): Promise<void>;
}

/** What all stations share, and what each has to know of the others. */
export interface Beside extends ReceptionOptions {
  readonly board: Board;
  readonly admission: Admission;
  readonly slots: Slots;
  readonly timing: PollTiming;
  readonly offerSession: (() => SessionOffer) | undefined;
  isPaused(id: string): boolean;
  isChanging(entry: RunnerConfig): boolean;
  /** Between two questions. */
  pauseMs(entry: RunnerConfig, origin: string): number;
  entryCount(): number;
  /** Longest that a request may go on which is under way when no more jobs are wanted. */
  lastRequestMs(from: Config): number;
  /** A job's report has arrived. */
  onDelivered(origin: string, own: Poller): void;
}

/**
 * Asks for an entry's jobs from now on.
 * @param delayMs before the first question, by the pause between two
 * @throws {Error} its coordinator's address, or its executor, cannot be used
 */
export function openStation(
  entry: RunnerConfig,
  from: Config,
  beside: Beside,
  delayMs: (pauseMs: number) => number,
): Station {
  const { board, admission, slots, timing, offerSession } = beside;
  const stop = new AbortController();
  const reception = openReception(entry, from, beside);
  const { executor, lease, coordinator, meter, log } = reception;
  const { origin } = coordinator;
  const gate = admission.gate({ executor, meter, log });
  const poller: Poller = startPoller(
    {
      entry,
      coordinator,
      executor,
      ...(offerSession === undefined ? {} : { offerSession }),
      slots,
      gate,
      isPaused: () => beside.isPaused(entry.id),
      isChanging: () => beside.isChanging(entry),
      pauseMs: () => beside.pauseMs(entry, origin),
      entryCount: () => beside.entryCount(),
      lastRequestMs: () => beside.lastRequestMs(from),
      firstDelayMs: delayMs(beside.pauseMs(entry, origin)),
      receive: (job, slot, reservation, onPlace, session) => {
        const onDelivered = (): void => beside.onDelivered(origin, poller);
        return reception.take({ job, slot, reservation, session, onPlace, onDelivered });
      },
      meter,
      timing,
      log,
    },
    stop.signal,
  );
  const { id, name, limit } = entry;
  const shown = board.addRunner({ id, name, executor: entry.executor, origin, limit }, () => poller.activity());
  let ended: Promise<void> | undefined;
  const leave = async (): Promise<void> => {
    stop.abort(new Stop("shutting_down", "no more jobs are wanted from this entry"));
    await poller.done;
    await reception.close();
    shown[Symbol.dispose]();
  };
  return {
    id,
    origin,
    poller,
    reception,
    lease,
    labels: entry.labels,
    onRequest: meter.request,
    end: () => (ended ??= leave()),
  };
}
