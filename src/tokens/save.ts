import type { ExchangedToken } from "../config/config.ts";
import { type StoredRunner, setRunnerKeys } from "../config/file/save.ts";
import { digest } from "../config/identity.ts";
import type { EntryTable } from "../executor/words.ts";

/** Where entries are, and what `$NAME` in them means. */
export interface ConfigPlace {
  readonly file: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Told of each change of the file, and of each that failed. */
  readonly onSaved?: (well: boolean) => void;
}

/** What GitLab Runner writes for "never". */
const NEVER = new Date("0001-01-01T00:00:00Z");

/** A token that takes the place of another one in the file. */
export interface Replacement extends ExchangedToken {
  readonly url: string;
  readonly oldDigest: string;
}

/**
 * Put a new token into every entry that has the old one, with its times and what the entry was known as before.
 * @returns how many there were
 */
export async function saveToken(place: ConfigPlace, fresh: Replacement, signal: AbortSignal): Promise<number> {
  return await setKeys(
    place,
    (runner) => {
      if (!runner.written || runner.url !== fresh.url || digest(runner.token) !== fresh.oldDigest) return null;
      return {
        token: fresh.token,
        ...timesOf(fresh, runner),
        ...(runner.keys.has("known_as") ? {} : { known_as: runner.id }),
      };
    },
    signal,
  );
}

/** Write down how long a token lives, where the coordinator says something else than the file. */
export async function saveTimes(
  place: ConfigPlace,
  { url, token, ...times }: { readonly url: string } & ExchangedToken,
  signal: AbortSignal,
): Promise<void> {
  const ofToken = (runner: StoredRunner): EntryTable | null =>
    runner.url === url && runner.token === token ? timesOf(times, runner) : null;
  await setKeys(place, ofToken, signal);
}

/** @returns how many entries were changed */
async function setKeys(
  { file, env, onSaved }: ConfigPlace,
  keysFor: (runner: StoredRunner) => EntryTable | null,
  signal: AbortSignal,
): Promise<number> {
  try {
    const changed = await setRunnerKeys(file, keysFor, env, signal);
    if (changed.length > 0) onSaved?.(true);
    return changed.length;
  } catch (error) {
    onSaved?.(false);
    throw error;
  }
}

/** Without an expiry there is nothing to say, unless the file says that there is one. */
export function timesOf(
  { obtainedAtMs, expiresAtMs }: Pick<ExchangedToken, "obtainedAtMs" | "expiresAtMs">,
  { keys }: Pick<StoredRunner, "keys">,
): EntryTable {
  if (expiresAtMs === null && !keys.has("token_expires_at")) return {};
  return {
    token_obtained_at: new Date(obtainedAtMs),
    token_expires_at: expiresAtMs === null ? NEVER : new Date(expiresAtMs),
  };
}
