import { deadline, never, pause } from "../../../src/time.ts";
import { processesOf } from "../container/processes.ts";
import type { Engine } from "../engine/engine.ts";

/** What runs in a container that no script has started, seen from outside. */
export interface OwnProcesses {
  /** Until that is known. `null`: it is not. */
  known(): Promise<ReadonlySet<string> | null>;
  /** The container was started anew. */
  renew(): void;
  /** Nothing is left but what was there before all scripts. The last programs are still ending when theirs have been heard of. */
  isQuiet(): Promise<boolean>;
}

const LIMIT_MS = 30_000;
const PAUSE_MS = 100;
/** On a busy machine that takes longer, and killing a container for nothing costs the last words of its script. */
const QUIET_LOOKS = 20;

/** Processes of a container; `null`: not known. */
export async function lookAtProcesses(engine: Engine, id: string): Promise<ReadonlySet<string> | null> {
  using limit = deadline(never, LIMIT_MS, new Error("no answer"));
  return await processesOf(engine, id, limit.signal).catch(() => null);
}

/** @param before what is known of it from an earlier process; by default what runs now is its own */
export function createOwnProcesses(engine: Engine, id: string, before?: ReadonlySet<string> | null): OwnProcesses {
  let own = before === undefined ? lookAtProcesses(engine, id) : Promise.resolve(before);
  return {
    known: () => own,
    renew: () => {
      own = lookAtProcesses(engine, id);
    },
    isQuiet: async () => {
      const known = await own;
      for (let look = 1; known !== null; look++) {
        const now = await lookAtProcesses(engine, id);
        if (now === null) break;
        if ([...now].every((pid) => known.has(pid))) return true;
        if (look === QUIET_LOOKS) break;
        await pause(PAUSE_MS, never);
      }
      return false;
    },
  };
}
