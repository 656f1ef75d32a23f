import type { Config, RunnerConfig } from "../config/config.ts";
import { whyFixed } from "../config/file/fixed.ts";
import type { CoordinatorDeps } from "../coordinator/calls.ts";
import type { RunnerInfo } from "../coordinator/contract.ts";
import { type VerifyAnswer, verifyToken } from "../coordinator/registration.ts";
import { describeError } from "../errors.ts";
import type { Log } from "../log.ts";
import { never, unlessAborted } from "../time.ts";
import type { ExchangeDeps } from "./exchange.ts";
import {
  type Duty,
  dutiesOf,
  type KeeperTiming,
  keeperTiming,
  keyOf,
  newStanding,
  renewStanding,
  type Standing,
} from "./standing.ts";

export interface KeeperOptions extends ExchangeDeps {
  /** What requests of an entry say of it, and who counts its answers; `undefined` for one that is not at work. */
  readonly about: (id: string) => WorkingEntry | undefined;
  /** The file has a new token, or should have: load it. */
  readonly onExchanged: () => void;
  readonly log: Log;
  readonly timing?: KeeperTiming;
}

export interface WorkingEntry {
  readonly info: RunnerInfo;
  readonly onRequest: NonNullable<CoordinatorDeps["onRequest"]>;
}

/** When a token expires. */
export interface TokenExpiry {
  readonly id: string;
  readonly name: string;
  readonly expiresAtMs: number;
}

export interface TokenKeeper {
  /** This configuration is in force. */
  take(config: Config): Promise<void>;
  /** The entry's token is being exchanged, or was a moment ago: requests with it may be refused without a meaning. */
  isChanging(entry: Pick<RunnerConfig, "url" | "token">): boolean;
  readonly expiries: readonly TokenExpiry[];
  /** Does nothing more. What is under way may end until the signal fires. */
  close(signal: AbortSignal): Promise<void>;
}

/** No timer is longer, so that a clock that is set or a machine that slept is noticed. */
const LONGEST_WAIT_MS = 600_000;

/**
 * Exchanges tokens when three quarters of their lives are over, one after another, the earliest first; asks the coordinator once
 * how long each lives. Jobs have tokens of their own and notice nothing.
 */
export function createTokenKeeper(options: KeeperOptions): TokenKeeper {
  const { about, log, timing = keeperTiming } = options;
  const standings = new Map<string, Standing>();
  /** Until when requests with a token may be refused. */
  const changing = new Map<string, number>();
  const closed = new AbortController();
  let wake = (): void => {};
  let fixed: string | null = null;

  const fieldsOf = ({ entries: [entry], expiresAtMs }: Standing) => ({
    runner: entry?.id,
    name: entry?.name,
    expires: expiresAtMs === null ? "never" : new Date(expiresAtMs).toISOString(),
  });

  const verify = async (standing: Standing): Promise<void> => {
    const [entry] = standing.entries;
    const working = entry === undefined ? undefined : about(entry.id);
    standing.verifyAtMs = Date.now() + standing.verifyWaits.next();
    if (entry === undefined || working === undefined) return;
    const { info, onRequest } = working;
    const deps = { ...options.coordinator, onRequest };
    const answer: VerifyAnswer = await verifyToken(entry, entry.token, info, deps, closed.signal);
    if (answer.kind === "trouble") {
      log.debug("cannot ask how long a token lives", { runner: entry.id, problem: answer.message });
      return;
    }
    standing.verifyAtMs = null;
    if (answer.kind === "unknown") return;
    const { expiresAtMs } = answer;
    const known = entry.tokenLife.expiresAtMs;
    standing.expiresAtMs = expiresAtMs;
    standing.expirySaid = true;
    // The file has whole seconds.
    const same = expiresAtMs === null ? known === null : known !== null && Math.abs(expiresAtMs - known) < 1000;
    if (same || fixed !== null || !entry.tokenLife.written) return;
    const { token, url } = entry;
    const { saveTimes } = await import("./save.ts");
    await saveTimes(options, { url: url.href, token, obtainedAtMs: standing.obtainedAtMs, expiresAtMs }, never).catch(
      (error: unknown) => {
        log.warn("cannot write down how long a token lives", { ...fieldsOf(standing), problem: describeError(error) });
      },
    );
  };

  const exchange = async (key: string, standing: Standing): Promise<void> => {
    const [entry] = standing.entries;
    if (entry === undefined) return;
    const { onRequest } = about(entry.id) ?? {};
    const coordinator = { ...options.coordinator, ...(onRequest === undefined ? {} : { onRequest }) };
    // Most runners never need it.
    const { exchangeToken } = await import("./exchange.ts");
    // Until the answer is there nobody knows which of the two is good.
    changing.set(key, Number.POSITIVE_INFINITY);
    const result = await exchangeToken(entry, { token: entry.token }, { ...options, coordinator });
    if (result.kind !== "exchanged") {
      changing.delete(key);
      standing.retryAtMs = Date.now() + standing.retryWaits.next();
      tellTrouble(standing, result.message);
      return;
    }
    changing.set(key, Date.now() + timing.graceMs);
    const { token, obtainedAtMs, expiresAtMs, unsaved } = result;
    const entries = standing.entries.map((one) => ({
      ...one,
      token,
      tokenLife: { ...one.tokenLife, obtainedAtMs, expiresAtMs },
    }));
    const context = { fixed, nowMs: obtainedAtMs, timing };
    const next: Standing = { ...newStanding(entries, context), expirySaid: true, verifyAtMs: null };
    standings.delete(key);
    standings.set(keyOf({ ...entry, token }), next);
    log.info("the runner's token was exchanged for a new one before it expired", fieldsOf(next));
    if (unsaved !== null)
      log.error("the new token is not in the configuration yet", { ...fieldsOf(next), problem: unsaved });
    options.onExchanged();
  };

  const tellTrouble = (standing: Standing, problem: string): void => {
    const fields = { ...fieldsOf(standing), problem };
    const expired = standing.expiresAtMs !== null && standing.expiresAtMs <= Date.now();
    if (expired && !standing.expiryTold) {
      standing.expiryTold = true;
      standing.troubleTold = true;
      log.error(
        "the runner's token has expired and cannot be exchanged: reset it in the coordinator's web pages, or register the runner again",
        fields,
      );
    } else if (!standing.troubleTold) {
      standing.troubleTold = true;
      log.error("the runner's token expires and cannot be exchanged; trying again with growing pauses", fields);
    } else log.debug("the runner's token cannot be exchanged", fields);
  };

  const warn = (standing: Standing): void => {
    standing.warnedAtMs = Date.now();
    log.warn("the runner's token expires and is not exchanged", {
      ...fieldsOf(standing),
      problem: standing.obstacle?.why,
    });
  };

  const perform = async ({ what, standing }: Duty): Promise<void> => {
    const key = [...standings].find(([, one]) => one === standing)?.[0];
    if (key === undefined) return;
    if (what === "verify") await verify(standing);
    else if (what === "warn") warn(standing);
    else await exchange(key, standing);
  };

  const nextDuty = (): Duty | undefined => {
    const now = Date.now();
    const duties = [...standings.values()].flatMap((standing) => dutiesOf(standing, now, timing));
    return duties.sort((a, b) => a.atMs - b.atMs)[0];
  };

  const sleep = async (ms: number): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    wake = resolve;
    const timer = setTimeout(resolve, Math.min(ms, LONGEST_WAIT_MS));
    // A runner that has nothing else to do ends all the same.
    timer.unref();
    await promise;
    clearTimeout(timer);
  };

  const work = async (): Promise<void> => {
    while (!closed.signal.aborted) {
      const duty = nextDuty();
      const waitMs = (duty?.atMs ?? Number.POSITIVE_INFINITY) - Date.now();
      if (duty === undefined || waitMs > 0) await sleep(waitMs);
      else
        await perform(duty).catch((error: unknown) => {
          if (closed.signal.aborted) return;
          duty.standing.retryAtMs = Date.now() + duty.standing.retryWaits.next();
          log.error("looking after a token failed", { ...fieldsOf(duty.standing), problem: describeError(error) });
        });
    }
  };
  const working = work();

  return {
    async take(config) {
      fixed = await whyFixed(config.file);
      const groups = Map.groupBy(config.runners, keyOf);
      const nowMs = Date.now();
      for (const key of standings.keys()) if (!groups.has(key)) standings.delete(key);
      for (const [key, entries] of groups) {
        const known = standings.get(key);
        if (known === undefined) standings.set(key, newStanding(entries, { fixed, nowMs, timing }));
        else renewStanding(known, entries, fixed);
      }
      wake();
    },
    isChanging(entry) {
      const until = changing.get(keyOf(entry));
      if (until === undefined) return false;
      if (until > Date.now()) return true;
      changing.delete(keyOf(entry));
      return false;
    },
    get expiries() {
      return [...standings.values()].flatMap(({ entries, expiresAtMs }) =>
        expiresAtMs === null ? [] : entries.map(({ id, name }) => ({ id, name, expiresAtMs })),
      );
    },
    async close(signal) {
      closed.abort();
      wake();
      await unlessAborted(working, signal).catch(() => {});
    },
  };
}
