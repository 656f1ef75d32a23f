import { SystemFailure } from "../../../src/errors.ts";
import { pause } from "../../../src/time.ts";
import type { RemoteCommands } from "../../remote/index.ts";

const MOST_TRIES = 20;
const PAUSE_MS = 250;

/** Programs that may run twice: where a connection breaks while one is started, it is started over the next. */
export function steadyCommands(commands: RemoteCommands): RemoteCommands {
  return {
    start: async (command, signal) => {
      for (let tries = 1; ; tries++) {
        try {
          return await commands.start(command, signal);
        } catch (error) {
          signal.throwIfAborted();
          if (!(error instanceof SystemFailure) || !error.retry || tries === MOST_TRIES) throw error;
          await pause(PAUSE_MS, signal);
        }
      }
    },
  };
}
