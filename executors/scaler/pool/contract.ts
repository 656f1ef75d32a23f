import type { Reservation } from "../../../src/executor/prepare.ts";
import type { Log } from "../../../src/log.ts";
import type { Inputs, ScalerSettings } from "../decide/contract.ts";
import type { Instance } from "../decide/fleet.ts";
import type { Provider } from "../provider.ts";

export interface PoolSettings extends ScalerSettings {
  /** Longest that a job waits for its instance. */
  readonly acquireTimeoutMs: number;
  /** Between two looks at all instances; and while something is awaited. */
  readonly updateMs: number;
  readonly updateSoonMs: number;
  /** Between two checks of an instance. */
  readonly checkMs: number;
  /** Idle instances go with the runner. */
  readonly removeOnClose: boolean;
}

export interface PoolOptions<C> {
  readonly provider: Provider<C>;
  readonly settings: PoolSettings;
  readonly log: Log;
  /** Of this pool alone; made when needed. */
  readonly dir: string;
  /** What an instance is called in sentences: `machine`. */
  readonly word: string;
  readonly events?: PoolEvents;
}

/** For metrics. */
export interface PoolEvents {
  /** A job got an instance, after so long. */
  used?(waitedMs: number): void;
  /** It is to be removed. */
  removed?(): void;
  /** It runs, so long after it was asked for. */
  created?(ms: number): void;
  /** Jobs could be there, so long after it ran. */
  connected?(ms: number): void;
  /** It is there no more, so long after it was to be removed. */
  gone?(ms: number): void;
}

/** Where a job runs. */
export interface Place<C> {
  readonly id: string;
  /** What it is called in sentences: `machine`. */
  readonly word: string;
  readonly connection: C;
  /** Fires with a `SystemFailure` when it is gone, or does not answer any more. */
  readonly lost: AbortSignal;
  /** Asks it, after something went wrong there. `false`: it is not there any more, which `lost` says, too. */
  isThere(signal: AbortSignal): Promise<boolean>;
}

/** A reservation of one of the pool's slots. */
export interface Lease<C> extends Reservation {
  /**
   * Its job has come: waits for an instance. The same one again for a job that is prepared once more, as long as it can be used.
   * @throws {SystemFailure} there is none in time
   */
  take(signal: AbortSignal): Promise<Place<C>>;
}

/** Instances of one provider, as many as a scaler wants. Nothing happens before somebody wants a slot. */
export interface Pool<C> {
  /** @throws {SystemFailure} the provider cannot be used like this */
  reserve(signal: AbortSignal): Promise<Lease<C> | null>;
  /** A slot for a job that has come already. */
  lease(signal: AbortSignal): Promise<Lease<C>>;
  leaseOf(reservation: Reservation | undefined): Lease<C> | undefined;
  onRoom(wake: () => void): void;
  configure(settings: PoolSettings): void;
  instances(): readonly Instance[];
  inputs(): Inputs;
  close(signal: AbortSignal): Promise<void>;
}
