import { constants } from "node:os";
import { Stop } from "../../errors.ts";

export interface Cancel extends Disposable {
  /** Fires at the first signal. */
  readonly signal: AbortSignal;
  /** 130 for Ctrl-C, 143 for SIGTERM; 130 as long as none came. */
  readonly status: number;
  /** Resolves with the exit status at the second signal: then the program has to leave at once. */
  readonly hurried: Promise<number>;
}

/** Listens for Ctrl-C and the like, the first and the second time, and for `given`, by which a caller cancels. */
export function listenForCancel(say: (text: string) => void, given: AbortSignal): Cancel {
  const controller = new AbortController();
  const hurried = Promise.withResolvers<number>();
  let status = 130;
  const listeners = (["SIGINT", "SIGTERM", "SIGHUP"] as const).map((name) => {
    const listener = (): void => {
      status = 128 + constants.signals[name];
      if (controller.signal.aborted) {
        say("left at once: what still runs goes on until the next exec, which ends it");
        hurried.resolve(status);
        return;
      }
      controller.abort(new Stop("canceling", `canceled by ${name}`));
    };
    process.on(name, listener);
    return () => process.off(name, listener);
  });
  const onGiven = (): void => controller.abort(new Stop("canceling", "canceled by the operator"));
  given.addEventListener("abort", onGiven, { once: true });
  return {
    signal: controller.signal,
    get status() {
      return status;
    },
    hurried: hurried.promise,
    [Symbol.dispose]: () => {
      for (const remove of listeners) remove();
      given.removeEventListener("abort", onGiven);
    },
  };
}
