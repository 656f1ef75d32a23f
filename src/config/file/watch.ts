import { readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { ConfigError, problemLine } from "../../errors.ts";
import type { Config } from "../config.ts";
import { errorCode } from "../error-code.ts";
import { digest } from "../identity.ts";
import { createAlarm, watchDirectories } from "./directory-events.ts";

/** A new version, or why there is none: the one before stays in force then. */
export type ConfigChange = { readonly config: Config } | { readonly error: unknown };

export interface ConfigWatch extends AsyncIterable<ConfigChange> {
  /** Load now, whether or not the content changed (SIGHUP). What comes of it arrives as the next change. */
  reload(): void;
}

export interface WatchOptions {
  /** The version in force. Without it, what the first look finds counts as known. */
  readonly current?: Config | undefined;
  /** A file that was put in place as a whole is taken when it has been still for this long. Default 250 ms. */
  readonly settleMs?: number;
  /**
   * A file that was written in place may be half of one, and so may a broken one; a missing one may be about to be
   * replaced: these are taken when they have been still for this long. Default 2500 ms.
   */
  readonly slowSettleMs?: number;
  /** How often the content is looked at although no event came: network disks send none. Default 5000 ms. */
  readonly lookEveryMs?: number;
}

/**
 * Changes of `file`'s content, each once; ends when `signal` fires. Dates don't matter, nor how the content got there:
 * written, renamed, a link that now leads elsewhere, a directory exchanged above it.
 * @param load makes a Config of the file; its rejections are reported, once per content
 */
export function watchConfig(
  file: string,
  load: () => Promise<Config>,
  signal: AbortSignal,
  options: WatchOptions = {},
): ConfigWatch {
  const path = resolve(file);
  const { settleMs = 250, slowSettleMs = 2500, lookEveryMs = 5000, current } = options;
  const alarm = createAlarm();
  let reloads = 0;

  async function* changes(): AsyncGenerator<ConfigChange, void, undefined> {
    const events = watchDirectories(path, alarm.ring);
    let served = 0;
    let seen = await look(path);
    /** What the last report was about; the text of its error, or null after a good one. */
    let reported = current === undefined ? seen.content : (current.textDigest ?? MISSING);
    let trouble = current === undefined ? null : troubleOf({ config: current });
    let takenFrom = seen.place;
    let stillSince = performance.now();
    let retryAt = performance.now() + lookEveryMs;
    let hasty = true; // this content has not been tried yet before it has been still for long
    let gap = false; // between the last version and this one there was none
    try {
      await events.follow();
      while (!signal.aborted) {
        const now = await look(path);
        if (now.content !== seen.content || now.place !== seen.place) {
          await events.follow();
          stillSince = performance.now();
          hasty = true;
          gap ||= now.content === MISSING;
        }
        seen = now;
        const still = performance.now() - stillSince;
        const asked = served !== reloads;
        const pending = now.content !== reported;
        const settled = still >= slowSettleMs;
        const whole = hasty && !gap && now.place !== takenFrom;
        const retry = !pending && trouble !== null && now.content !== MISSING && performance.now() >= retryAt;
        if (asked || retry || (pending && (settled || (whole && still >= settleMs)))) {
          served = reloads;
          const outcome = await attempt(path, load, now.content);
          retryAt = performance.now() + lookEveryMs;
          if (outcome === null) continue; // it vanished just now
          const text = troubleOf(outcome);
          if (text !== null) {
            hasty = false;
            if (pending && !settled && !asked) continue;
          }
          const repeats = retry && !asked && text === trouble;
          reported = "config" in outcome ? (outcome.config.textDigest ?? now.content) : now.content;
          trouble = text;
          takenFrom = now.place;
          gap = now.content === MISSING;
          if (!repeats && !signal.aborted) yield outcome;
          continue;
        }
        const due = (whole ? settleMs : slowSettleMs) - still;
        const waitMs = pending ? Math.max(10, Math.min(due, settleMs)) : lookEveryMs;
        // Events come in bursts; one look is enough for each.
        if (await alarm.wait(waitMs, signal)) await alarm.rest(Math.min(50, settleMs), signal);
      }
    } finally {
      await events.close();
    }
  }

  return {
    reload() {
      reloads++;
      alarm.ring();
    },
    [Symbol.asyncIterator]: changes,
  };
}

const MISSING = "missing";

interface Look {
  /** Digest of the bytes, `missing`, or the code of what prevents reading. */
  readonly content: string;
  /** Tells a file that was replaced from one that was written to. */
  readonly place: string;
}

async function look(path: string): Promise<Look> {
  try {
    const { dev, ino, size, mtimeMs } = await stat(path);
    // Too large to be taken: `load` says so. Its bytes need not be read to notice a change.
    const content = size > 64 * 2 ** 20 ? `large ${size} ${mtimeMs}` : digest(await readFile(path));
    return { content, place: `${dev}:${ino}` };
  } catch (error) {
    const code = errorCode(error);
    return { content: code === "ENOENT" ? MISSING : code, place: "" };
  }
}

/** What is wrong with it or with one of its entries: it may pass without a change of the file. */
function troubleOf(outcome: ConfigChange): string | null {
  if ("error" in outcome) return String(outcome.error);
  const { broken } = outcome.config;
  return broken.length === 0 ? null : broken.flatMap(({ problems }) => problems.map(problemLine)).join("\n");
}

/** @returns null when the file vanished while it was read */
async function attempt(path: string, load: () => Promise<Config>, content: string): Promise<ConfigChange | null> {
  if (content === MISSING) {
    const text = `${path} is gone. The configuration read from it before stays in force until it is back`;
    return { error: new ConfigError(text, { file: path }) };
  }
  try {
    const config = await load();
    // An empty configuration is what a missing file means at start, not here.
    if (config.textDigest === undefined && (await look(path)).content === MISSING) return null;
    return { config };
  } catch (error) {
    return { error };
  }
}
