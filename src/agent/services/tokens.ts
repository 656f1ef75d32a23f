import { join } from "node:path";
import type { CommandContext } from "../../commands/context.ts";
import type { RunServices } from "../../commands/run/deps.ts";
import type { Log } from "../../log.ts";
import type { Metrics } from "../../metrics/metrics.ts";
import type { Exchanges } from "../../tokens/exchanges.ts";
import { createTokenKeeper, type TokenKeeper } from "../../tokens/keeper.ts";
import { openNotes, TOKEN_NOTES } from "../../tokens/notes.ts";

export interface TokenServicesOptions {
  /** The configuration that has the tokens. */
  readonly file: string;
  readonly stateDir: string;
  readonly context: CommandContext;
  readonly exchanges: Exchanges;
  readonly log: Log;
  readonly metrics: Pick<Metrics, "observe" | "configSaved">;
}

export interface TokenServices {
  readonly finish: NonNullable<RunServices["finishExchanges"]>;
  readonly keep: NonNullable<RunServices["keepTokens"]>;
  close(signal: AbortSignal): Promise<void>;
}

/** Tokens that expire, looked after for as long as the runner works. */
export function createTokenServices(options: TokenServicesOptions): TokenServices {
  const { file, stateDir, context, exchanges, log, metrics } = options;
  const notes = openNotes(join(stateDir, TOKEN_NOTES));
  const { env, coordinator } = context;
  const onSaved = metrics.configSaved;
  let keeper: TokenKeeper | undefined;
  metrics.observe({ tokens: () => keeper?.expiries ?? [] });
  return {
    async finish() {
      // Next to never is anything left, and then nothing of it is loaded.
      if (await notes.isEmpty()) return false;
      const { finishExchanges } = await import("../../tokens/exchange.ts");
      return await finishExchanges(
        { file, env, notes, exchanges, onSaved },
        {
          finished: () =>
            log.warn("a token that was exchanged when the last process ended is in the configuration now", {
              config: file,
            }),
          unsaved: (path, problem) =>
            log.error("a token that was exchanged is used, but cannot be put into the configuration", {
              config: file,
              kept: path,
              problem,
            }),
          broken: (path) => log.error("a note of an exchanged token cannot be read and is left alone", { path }),
        },
      );
    },
    keep(hooks) {
      keeper = createTokenKeeper({ ...hooks, file, env, notes, exchanges, coordinator, onSaved, log });
      return keeper;
    },
    async close(signal) {
      await keeper?.close(signal);
    },
  };
}
