import type { RunnerConfig } from "../config/config.ts";

/** Why a token is not exchanged by the runner itself. */
export interface Obstacle {
  /** As the end of "its token expires and is not exchanged: …", with what to do. */
  readonly why: string;
  /** Nobody chose it: it is said at the start, too, not only when time gets short. */
  readonly unchosen: boolean;
}

/** @param fixed why the file cannot be changed, or null */
export function obstacleOf(entries: readonly RunnerConfig[], fixed: string | null): Obstacle | null {
  const byHand = "exchange it by hand: alloy-runner reset-token";
  if (entries.some(({ tokenLife }) => !tokenLife.rotates))
    return { why: `rotate_token is false; ${byHand}`, unchosen: false };
  if (entries.some(({ featureFlags }) => featureFlags.FF_DISABLE_AUTOMATIC_TOKEN_ROTATION === true))
    return { why: `FF_DISABLE_AUTOMATIC_TOKEN_ROTATION is set; ${byHand}`, unchosen: false };
  if (entries.some(({ tokenLife }) => !tokenLife.written)) {
    const why = "the file names a variable in its place; give that variable a new token and restart the runner";
    return { why, unchosen: true };
  }
  if (fixed === null) return null;
  return { why: `${fixed}; make it writable, or put a new token into it yourself`, unchosen: true };
}
