import type { Coordinator, RunnerInfo } from "../coordinator/contract.ts";
import type { Executor } from "../executor/executor.ts";
import type { EntryMeter } from "../metrics/meters.ts";
import type { SessionOffer } from "../session/contract.ts";
import type { PollTiming } from "./pace.ts";
import type { Slot, Slots } from "./slots.ts";

export interface QuestionsOptions {
  readonly coordinator: Pick<Coordinator, "requestJob">;
  readonly executor: Pick<Executor, "wantsPayload">;
  readonly info: RunnerInfo;
  readonly slots: Slots;
  readonly entryCount: () => number;
  readonly meter: Pick<EntryMeter, "asking">;
  readonly timing: PollTiming;
}

/** An entry's requests for a job. A coordinator may hold an empty answer back until there is a job; whether it does is learnt. */
export interface Questions {
  /** On a slot that is lent to others while there is no answer. */
  ask(slot: Slot, session: SessionOffer | undefined): ReturnType<Coordinator["requestJob"]>;
  /** It has been waited for long enough: what has come is no answer that wants a pause. */
  wasHeld(heldMs: number): boolean;
  /** AlloyCI never holds an answer back: there a late one is just a slow one. */
  neverHeld(): void;
  readonly patient: boolean;
}

/** @param signal breaks a request off, which can lose a job */
export function createQuestions(options: QuestionsOptions, signal: AbortSignal): Questions {
  const { coordinator, executor, info, slots, entryCount, meter, timing } = options;
  let holds = false;
  let patient = true;
  return {
    async ask(slot, session) {
      const hold = slots.waiting === 0 && slots.free >= entryCount() - 1;
      const lend = setTimeout(() => slot.lend(), hold && holds ? timing.lendHeldMs : timing.lendMs);
      meter.asking(1);
      try {
        const answer = await coordinator.requestJob(
          info,
          {
            hold,
            keepPayload: executor.wantsPayload === true,
            ...(session === undefined ? {} : { session: session.words }),
          },
          signal,
        );
        if (hold && answer.kind === "none" && answer.heldMs >= timing.heldMs) holds = patient;
        return answer;
      } finally {
        meter.asking(-1);
        clearTimeout(lend);
      }
    },
    wasHeld: (heldMs) => holds && patient && heldMs >= timing.heldMs,
    neverHeld: () => {
      patient = false;
    },
    get patient() {
      return patient;
    },
  };
}
