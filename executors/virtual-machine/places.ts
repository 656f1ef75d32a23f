import { join } from "node:path";
import type { Notes } from "../../src/executor/prepare.ts";
import { deadline, never, pause } from "../../src/time.ts";
import { beforeAbort } from "../common/processes/forward.ts";
import { openHostClaims } from "../shell/places/host-claims.ts";
import type { Base } from "./hypervisor.ts";
import { shortHash } from "./kept.ts";

/** A number that is one job's until it is let go, once or more often. */
export interface Slot {
  readonly number: number;
  /** @param until settles when the place can be had again: who comes next waits for it for a while */
  leave(until: Promise<unknown>): Promise<void>;
}

/** No job waits longer than this for a machine that another job is leaving: a new one takes about as long. */
const LEAVING_MS = 30_000;
const LOOK_MS = 200;
/** A job waits this long before it says in its trace what it waits for. */
const QUIET_MS = 3000;

/** A name that is held until it is let go, which may be done several times. */
export interface Held {
  free(): void;
}

/** Which slots and names are in use, over all runner processes of this account. */
export interface Places {
  /** Takes the lowest number below `name` that nobody has. */
  take(name: string, signal: AbortSignal): Promise<Slot>;
  /** `null`: somebody else holds the name. */
  tryHold(name: string): Held | null;
  /** Waits until nobody else holds the name. */
  hold(name: string, signal: AbortSignal): Promise<Held>;
  /** Runs `body` while nobody else, in any process, works on this base. */
  alone<T>(hypervisor: string, base: Base, notes: Notes, body: () => Promise<T>, signal: AbortSignal): Promise<T>;
}

/** @param keepDir what is the runner's own: another one's numbers have nothing to do with these */
export function createPlaces({ keepDir, scratch }: { keepDir: string; scratch: string }): Places {
  const claims = openHostClaims(scratch);
  const leaving = new Map<string, Promise<unknown>>();

  const tryHold = (name: string): Held | null => {
    const claim = claims.claim(join(keepDir, name));
    if (claim === null) return null;
    let held = true;
    return {
      free: () => {
        // Only once: afterwards the name may be the next job's.
        if (held) claim[Symbol.dispose]();
        held = false;
      },
    };
  };

  return {
    tryHold,
    hold: async (name, signal) => {
      for (;;) {
        const held = tryHold(name);
        if (held !== null) return held;
        await pause(LOOK_MS, signal);
      }
    },
    take: async (name, signal) => {
      using limit = deadline(signal, LEAVING_MS, new Error("the clean-up takes too long"));
      for (let number = 0; ; number++) {
        const key = `${name}/${number}`;
        for (;;) {
          const claim = tryHold(key);
          if (claim !== null) {
            return {
              number,
              leave: async (until) => {
                const gone = until.catch(() => {}).then(() => claim.free());
                leaving.set(key, gone);
                await gone;
                if (leaving.get(key) === gone) leaving.delete(key);
              },
            };
          }
          const other = leaving.get(key);
          if (other === undefined || (await beforeAbort(other, limit.signal)) === "aborted") break;
        }
        signal.throwIfAborted();
      }
    },
    alone: async (hypervisor, base, notes, body, signal) => {
      // The path is outside of the runner's own directory, because other runners of this machine have to see it.
      const path = join("/", "alloy-runner-base", hypervisor, shortHash(base.id));
      const startMs = performance.now();
      let said = false;
      for (;;) {
        const claim = claims.claim(path);
        if (claim !== null) {
          try {
            return await body();
          } finally {
            claim[Symbol.dispose]();
          }
        }
        if (!said && performance.now() - startMs > QUIET_MS) {
          said = true;
          notes.print(`Waiting until another job has copied the virtual machine "${base.name}"`);
        }
        await pause(LOOK_MS * (0.5 + Math.random()), signal);
      }
    },
  };
}

/** Bounds what must be done whatever happens to the job. */
export async function within<T>(ms: number, what: string, body: (signal: AbortSignal) => Promise<T>): Promise<T> {
  using limit = deadline(never, ms, new Error(`${what} took longer than ${ms / 1000} s`));
  return await body(limit.signal);
}
