import { handsOver } from "../../errors.ts";

/** A signal that fires with the first of `sources`, and with its reason. Its listeners end with the block (`using`). */
export interface Joined extends Disposable {
  readonly signal: AbortSignal;
}

export interface Source {
  readonly signal: AbortSignal;
  /** Reasons that count; all by default. */
  readonly counts?: (reason: unknown) => boolean;
}

/** Join long-lived signals for a while. `AbortSignal.any` would leave an entry in each of them. */
export function joinSignals(sources: readonly Source[]): Joined {
  const controller = new AbortController();
  const listeners = sources.map(({ signal, counts = () => true }) => {
    const listener = (): void => {
      if (!controller.signal.aborted && counts(signal.reason)) controller.abort(signal.reason);
    };
    if (signal.aborted) listener();
    else signal.addEventListener("abort", listener, { once: true });
    return { signal, listener };
  });
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      for (const { signal, listener } of listeners) signal.removeEventListener("abort", listener);
    },
  };
}

/** Fires with `parent`, but only so much later where that hands over: what is soon done need not be done again. */
export function lateHandOver(parent: AbortSignal, ms: number): Joined {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const fire = (): void => controller.abort(parent.reason);
  const onParent = (): void => {
    if (handsOver(parent)) timer = setTimeout(fire, ms);
    else fire();
  };
  if (parent.aborted) onParent();
  else parent.addEventListener("abort", onParent, { once: true });
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      clearTimeout(timer);
      parent.removeEventListener("abort", onParent);
    },
  };
}
