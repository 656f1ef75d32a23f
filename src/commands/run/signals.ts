/** What the operator asks of a running runner. */
export type Wish = "drain" | "hand over" | "stop" | "reload" | "show";

const WISHES: Partial<Record<NodeJS.Signals, Wish>> =
  process.platform === "win32"
    ? { SIGINT: "stop", SIGTERM: "stop", SIGBREAK: "stop", SIGHUP: "stop" }
    : {
        SIGQUIT: "drain",
        SIGUSR2: "hand over",
        SIGTERM: "stop",
        SIGINT: "stop",
        SIGHUP: "reload",
        // A listener of ours keeps Node from opening a debugger for whoever can send this signal.
        SIGUSR1: "show",
      };

/** Calls `onWish` for each signal until disposed of. Signals may come at any moment and in any number. */
export function listenToSignals(onWish: (wish: Wish, signal: string) => void): Disposable {
  const listeners = Object.entries(WISHES).map(([signal, wish]) => {
    const listener = (): void => onWish(wish, signal);
    process.on(signal, listener);
    return () => process.off(signal, listener);
  });
  return {
    [Symbol.dispose]: () => {
      for (const remove of listeners) remove();
    },
  };
}

/** Calls `onError` for errors that nobody caught, until disposed of: an error of one job never ends the process. */
export function listenToAccidents(onError: (error: unknown, kind: string) => void): Disposable {
  const onException = (error: unknown): void => onError(error, "uncaught exception");
  const onRejection = (error: unknown): void => onError(error, "unhandled rejection");
  process.on("uncaughtException", onException);
  process.on("unhandledRejection", onRejection);
  return {
    [Symbol.dispose]: () => {
      process.off("uncaughtException", onException);
      process.off("unhandledRejection", onRejection);
    },
  };
}
