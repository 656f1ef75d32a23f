import { describeError } from "../../errors.ts";
import type { Log } from "../../log.ts";

export interface RoomOptions {
  /** Is there disk space for another job's files? */
  readonly hasRoom: () => Promise<boolean>;
  readonly log: Log;
  readonly onChange: (paused: boolean) => void;
}

/** Asked before each request by every entry; says in the log, once for all of them, when room runs out and returns. */
export function createRoomGate({ hasRoom, log, onChange }: RoomOptions): () => Promise<boolean> {
  let room = true;
  return async () => {
    // A disk that cannot be looked at is not a full one; the job will tell.
    const now = await hasRoom().catch((error) => {
      log.debug("cannot look for free disk space", { problem: describeError(error) });
      return true;
    });
    if (now !== room) {
      room = now;
      onChange(!now);
      if (now) log.info("enough disk space again: asking for jobs");
      else
        log.error(
          "too little disk space (min_free_disk), or state_dir cannot be written: no job is asked for until that is over",
        );
    }
    return now;
  };
}
