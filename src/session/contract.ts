import type { SessionWords } from "../coordinator/contract.ts";
import type { Terminal } from "../executor/environment.ts";

/** A session that was told to a coordinator with a request for a job. Nothing is kept of it until a job takes it. */
export interface SessionOffer {
  readonly words: SessionWords;
  /** The request has brought a job: its terminal can be reached from now on, until `close`. */
  claim(): JobSession;
}

export interface SessionHost {
  /** @throws {SystemFailure} the job's place has no terminal to give */
  open(signal: AbortSignal): Promise<Terminal>;
  /** Told of each terminal's beginning and end. */
  tell(event: TerminalEvent): void;
}

export type TerminalEvent = { readonly is: "opened" } | { readonly is: "closed"; readonly seconds: number };

/** The terminal of one job: at most one person at a time. */
export interface JobSession {
  /** The job's place is there; who has come before has waited for it. */
  ready(host: SessionHost): void;
  /**
   * Where a terminal is open, waits until it is closed, until the limit, or until the signal fires; else not at all.
   * @param told called once where it waits, with the limit
   */
  hold(mostMs: number, told: (limitMs: number) => void, signal: AbortSignal): Promise<void>;
  /** Ends its terminal, and whoever comes later finds nothing. Never rejects. */
  close(): Promise<void>;
}
