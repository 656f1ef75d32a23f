import { CommandError } from "../../errors.ts";

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

/** Where nobody but the signals of a stop tells of a restart, as in containers. */
const HAND_OVER = "hand-over";
const STOPS: ReadonlySet<string> = new Set(["SIGTERM", "SIGQUIT"]);

/**
 * Whether the first SIGTERM or SIGQUIT hands over (`ALLOY_RUNNER_STOP`).
 * @throws {CommandError} the variable is something else
 */
export function stopHandsOver(env: Readonly<Record<string, string | undefined>>): boolean {
  const { ALLOY_RUNNER_STOP: given = "" } = env;
  if (given === "" || given === HAND_OVER) return given !== "";
  throw new CommandError(
    `ALLOY_RUNNER_STOP is ${JSON.stringify(given.slice(0, 100))}: it can be "${HAND_OVER}", or absent`,
  );
}

/**
 * Calls `onWish` for each signal until disposed of. Signals may come at any moment and in any number.
 * @param handsOver the first one that is for a stop hands over instead; a further one means what it says
 */
export function listenToSignals(onWish: (wish: Wish, signal: string) => void, handsOver: boolean): Disposable {
  let left = handsOver;
  const listeners = Object.entries(WISHES).map(([signal, wish]) => {
    const listener = (): void => {
      const now = left && STOPS.has(signal) ? "hand over" : wish;
      if (now === "hand over") left = false;
      onWish(now, signal);
    };
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
