import type { Seen } from "./decide/contract.ts";

/** Where instances come from: a cloud, or a program that speaks to one. What it hands over is plain data. */
export interface Provider<Connection> {
  /**
   * Once, before all else: what was left by the process before is taken up again.
   * @throws {SystemFailure} it cannot work like this
   */
  init(signal: AbortSignal): Promise<void>;
  /** All instances that are this runner's, each time. What it does not name is gone. */
  list(signal: AbortSignal): Promise<readonly Seen[]>;
  /** @returns how many of them it took up; `list` names them as soon as they have names */
  grow(count: number, signal: AbortSignal): Promise<number>;
  /** One that is not known counts as removed. Whether it is gone tells `list`. */
  shrink(ids: readonly string[], signal: AbortSignal): Promise<void>;
  /** How jobs reach it. @throws {SystemFailure} it cannot be told now */
  connect(id: string, signal: AbortSignal): Promise<Connection>;
  /** Whether jobs could be there now. @throws {SystemFailure} they could not */
  check(id: string, connection: Connection, signal: AbortSignal): Promise<void>;
  /** Lets go of what is on this machine; instances stay. What has begun may end until `signal` fires. */
  close(signal: AbortSignal): Promise<void>;
}
