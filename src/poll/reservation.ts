import { describeError } from "../errors.ts";
import type { Reservation } from "../executor/prepare.ts";
import type { Log } from "../log.ts";

/** Gives back what was set aside for a job. Never rejects. */
export async function letGo(reservation: Reservation | undefined, log: Log): Promise<void> {
  try {
    await reservation?.[Symbol.asyncDispose]();
  } catch (error) {
    log.error("cannot give back what was reserved for a job", {
      reserved: reservation?.name,
      problem: describeError(error),
    });
  }
}
