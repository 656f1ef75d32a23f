import { SystemFailure } from "../../../src/errors.ts";
import { backoff, pause, unlessAborted } from "../../../src/time.ts";
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

/** How patient a host is, and whoever wants to reach it. */
export interface Patience {
  /** For how long the host waits for somebody who takes the claim over. */
  readonly leaseMs: number;
  /** For messages. */
  readonly host: string;
}

interface LastingOptions extends Patience {
  /** Takes it over again, over a connection that is made anew. */
  again(signal: AbortSignal): Promise<HeldClaim | null>;
}

/** Does it again for as long as the host waits. @throws {SystemFailure} it was out of reach all the time, or there is no hope */
export async function withinLease<T>(patience: Patience, body: () => Promise<T>, signal: AbortSignal): Promise<T> {
  const since = performance.now();
  const waits = backoff({ firstMs: FIRST_PAUSE_MS, maxMs: LONGEST_PAUSE_MS });
  for (;;) {
    try {
      return await body();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof SystemFailure) || !error.retry) throw error;
      if (performance.now() - since > patience.leaseMs) throw missed(patience, error);
    }
    await pause(waits.next(), signal);
  }
}

/** What is said where nothing was heard of the host for as long as it waits. */
export function missed({ leaseMs, host }: Patience, cause?: unknown): SystemFailure {
  return outside(`${host} could not be reached for ${shown(leaseMs)}; what ran there is ended there by itself`, cause);
}

export function keepClaim(first: HeldClaim, { again, ...patience }: LastingOptions): LastingClaim {
  const { leaseMs, host } = patience;
  const life = new AbortController();
  let loss: SystemFailure | null = null;
  /** The end of its program is what was asked for. */
  let releasing = false;
  let current = Promise.resolve<HeldClaim>(first);

  const takeOver = async (): Promise<HeldClaim> => {
    try {
      const held = await withinLease(patience, () => again(life.signal), life.signal);
      if (held !== null) return watched(held);
      throw outside(
        `${host} has ended the job: nobody came for it within ${shown(leaseMs)}, or the host was restarted`,
      );
    } catch (error) {
      if (error instanceof SystemFailure && !life.signal.aborted) loss = error;
      throw error;
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
    missed: () => missed(patience),
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

function outside(message: string, cause?: unknown): SystemFailure {
  return new SystemFailure(message, { reason: "runner_external_dependency_failure", cause });
}

function shown(ms: number): string {
  return ms >= 120_000 ? `${Math.round(ms / 60_000)} min` : `${Math.round(ms / 1000)} s`;
}
