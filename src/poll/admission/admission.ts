import type { DiskState, RunnerActivity } from "../../board/contract.ts";
import type { AdmissionConfig, Config } from "../../config/config.ts";
import { describeError } from "../../errors.ts";
import type { Executor } from "../../executor/executor.ts";
import type { Log } from "../../log.ts";
import type { EntryMeter } from "../../metrics/meters.ts";
import { type Attempt, createBreaker } from "./breaker.ts";
import { watchDisks } from "./disks.ts";
import { type Pressed, watchPressure } from "./pressure.ts";
import { createRoomGate } from "./room.ts";

/** Why an entry must not ask for a job now. */
export interface Refusal {
  readonly activity: RunnerActivity;
  /** Longest until it makes sense to try again, where that is known. */
  readonly waitMs?: number;
}

/** One entry's question before each request for a job. */
export interface Gate {
  /** An attempt: the entry may ask, and tells what came of it. */
  admit(signal: AbortSignal): Promise<Refusal | Attempt>;
}

export interface GateOptions {
  readonly executor: Pick<Executor, "ready" | "disks">;
  readonly meter: Pick<EntryMeter, "refusedAdmission">;
  readonly log: Log;
}

/** Whether entries may ask for jobs: before one does, it must be able to run it. */
export interface Admission {
  /** Work by this configuration from now on. */
  configure(config: Pick<Config, "admission" | "minFreeDiskBytes">): void;
  gate(options: GateOptions): Gate;
}

export interface AdmissionOptions {
  /** Is there room for another job's files where the runner keeps its state? */
  readonly hasRoom: () => Promise<boolean>;
  /** As of the last look. */
  readonly disk: () => DiskState;
  /** A disk is too full, in whichever way; told again and again. */
  readonly onFull?: () => void;
  /** Told when that changes. */
  readonly onRoom: (paused: boolean) => void;
  /** Where the kernel's figures of pressure are. */
  readonly pressureDir?: string;
  readonly log: Log;
}

export function createAdmission({ hasRoom, disk, onFull, onRoom, pressureDir, log }: AdmissionOptions): Admission {
  let settings: AdmissionConfig = noAdmission;
  let minFreeBytes = 0;
  const room = createRoomGate({ hasRoom, log, onChange: onRoom });
  const lookAtDisks = watchDisks({ least: () => ({ bytes: minFreeBytes, inodes: settings.minFreeInodes }) });
  const pressure = watchPressure({
    limits: () => ({ memory: settings.maxMemoryPressure, cpu: settings.maxCpuPressure }),
    log,
    ...(pressureDir === undefined ? {} : { dir: pressureDir }),
  });

  /** What holds for all entries. */
  const ofMachine = async (): Promise<RunnerActivity | null> => {
    if (!(await room())) return { at: "disk", ...disk() };
    const pressed: Pressed | null = await pressure();
    return pressed === null ? null : { at: "pressure", ...pressed };
  };

  return {
    configure(config) {
      settings = config.admission;
      minFreeBytes = config.minFreeDiskBytes;
    },
    gate({ executor, meter, log: entryLog }) {
      const breaker = createBreaker({
        settings: () => ({ most: settings.maxSystemFailures, pauseMs: settings.failurePauseMs }),
        onOpen: (failures) =>
          entryLog.error(
            "jobs of this entry cannot be prepared, one after the other: it pauses, then tries one at a time",
            {
              in_a_row: failures,
            },
          ),
      });
      /** What the log has said last: a problem, or nothing. */
      let said = "";
      const say = (problem: string): void => {
        if (problem === said) return;
        if (problem === "") entryLog.info("jobs of this entry can run again: asking for them");
        else if (said === "") entryLog.error("no job of this entry could run: none is asked for", { problem });
        said = problem;
      };

      const ofEntry = async (signal: AbortSignal): Promise<RunnerActivity | null> => {
        try {
          await executor.ready?.(signal);
        } catch (error) {
          signal.throwIfAborted();
          const problem = describeError(error);
          say(problem);
          return { at: "place", problem };
        }
        const full = await lookAtDisks(executor.disks?.() ?? []);
        say(full === null ? "" : `the disk of ${full.directory ?? ""} is too full`);
        return full === null ? null : { at: "disk", ...full };
      };

      const refused = (activity: RunnerActivity, waitMs?: number): Refusal => {
        meter.refusedAdmission(activity.at);
        if (activity.at === "disk") onFull?.();
        return { activity, ...(waitMs === undefined ? {} : { waitMs }) };
      };

      return {
        async admit(signal) {
          const activity = (await ofMachine()) ?? (await ofEntry(signal));
          if (activity !== null) return refused(activity);
          const begun = breaker.begin();
          if (begun === "trial") return refused({ at: "trial" });
          if ("told" in begun) return begun;
          const leftMs = begun.until - performance.now();
          return refused({ at: "breaker", until: Date.now() + leftMs, failures: begun.failures }, leftMs);
        },
      };
    },
  };
}

/** Where there is no other runner that could take a job: it is asked for in any case. */
export const admitAll: Admission = {
  configure: () => {},
  gate: () => ({ admit: async () => ({ told: () => {} }) }),
};

const noAdmission: AdmissionConfig = {
  minFreeInodes: 0,
  maxMemoryPressure: null,
  maxCpuPressure: null,
  maxWeight: Number.POSITIVE_INFINITY,
  maxSystemFailures: null,
  failurePauseMs: 0,
};
