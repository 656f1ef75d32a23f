import { SystemFailure } from "../../../src/errors.ts";
import { pause, unlessAborted } from "../../../src/time.ts";
import type { Claim, HeldClaim } from "./claim.ts";

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;

/** A claim that is taken over again where its connection breaks. */
export interface LastingClaim extends Claim {
  /** Why nothing of the job is there any more; `null`: it is, or nobody can tell. */
  lost(): SystemFailure | null;
  /** What is said where nothing was heard of the host for as long as it waits. */
  missed(): SystemFailure;
  /** It is let go of as it is, for the host or another process to go on with. */
  close(): void;
}

interface LastingOptions {
  /** Takes it over again, over a connection that is made anew. */
  again(signal: AbortSignal): Promise<HeldClaim | null>;
  /** For how long the host waits for that. */
  readonly leaseMs: number;
  /** For messages. */
  readonly host: string;
}

export function keepClaim(first: HeldClaim, { again, leaseMs, host }: LastingOptions): LastingClaim {
  const life = new AbortController();
  let loss: SystemFailure | null = null;
  /** The end of its program is what was asked for. */
  let releasing = false;
  let current = Promise.resolve<HeldClaim>(first);

  const missed = (): SystemFailure =>
    outside(`${host} could not be reached for ${shown(leaseMs)}; what ran there is ended there by itself`);

  /** @throws {SystemFailure} it is gone, or was out of reach for as long as the host waits */
  const takeOver = async (): Promise<HeldClaim> => {
    const since = performance.now();
    for (let waitMs = FIRST_PAUSE_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_PAUSE_MS)) {
      try {
        const held = await again(life.signal);
        if (held !== null) return watched(held);
        loss = outside(
          `${host} has ended the job: nobody came for it within ${shown(leaseMs)}, or the host was restarted`,
        );
        throw loss;
      } catch (error) {
        life.signal.throwIfAborted();
        if (loss !== null || !(error instanceof SystemFailure)) throw error;
        if (performance.now() - since > leaseMs) {
          loss = missed();
          throw loss;
        }
      }
      await pause(waitMs, life.signal);
    }
  };
  const watched = (held: HeldClaim): HeldClaim => {
    void held.over.then(() => {
      if (life.signal.aborted || releasing) return;
      current = takeOver();
      // It is awaited by whoever needs it.
      current.catch(() => {});
    });
    return held;
  };
  watched(first);

  const { slot, root, tmpDir, ownDir, buildsDir, node } = first;
  return {
    slot,
    root,
    tmpDir,
    ownDir,
    buildsDir,
    node,
    lost: () => loss,
    missed,
    choose: async (path, signal) => await (await unlessAborted(current, signal)).choose(path, signal),
    release: async (evenIfLeft, signal) => {
      const held = await unlessAborted(current, signal);
      releasing = true;
      const result = await held.release(evenIfLeft, signal);
      releasing = result !== "left";
      return result;
    },
    close: () => life.abort(new Error("nobody needs the claim any more")),
  };
}

function outside(message: string): SystemFailure {
  return new SystemFailure(message, { reason: "runner_external_dependency_failure" });
}

function shown(ms: number): string {
  return ms >= 120_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 1000)} s`;
}
