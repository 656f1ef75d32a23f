import type { RunnerConfig } from "../config/config.ts";
import { backoff } from "../time.ts";
import { exchangeAt } from "./lifetime.ts";
import { type Obstacle, obstacleOf } from "./obstacle.ts";

/** One token of the configuration, and what is to be done about it. */
export interface Standing {
  /** All that have it, at least one. */
  entries: readonly RunnerConfig[];
  obstacle: Obstacle | null;
  obtainedAtMs: number;
  expiresAtMs: number | null;
  /** It is the coordinator's word, which counts more than the file's. */
  expirySaid: boolean;
  /** When the coordinator is asked how long it lives; `null`: it has said so. */
  verifyAtMs: number | null;
  /** Not to be tried sooner after a try that failed. */
  retryAtMs: number;
  /** When it was last said that it is not exchanged. */
  warnedAtMs: number | null;
  /** It was said that exchanging fails, and that it has expired without it. */
  troubleTold: boolean;
  expiryTold: boolean;
  readonly verifyWaits: ReturnType<typeof backoff>;
  readonly retryWaits: ReturnType<typeof backoff>;
}

export interface KeeperTiming {
  /** Pause after the first failure, doubled with each further one up to `mostMs`. */
  readonly firstMs: number;
  readonly mostMs: number;
  /** Between two warnings that a token is not exchanged. */
  readonly remindMs: number;
  /** Requests that were under way with the old token may be refused for so long. */
  readonly graceMs: number;
}

export const keeperTiming: KeeperTiming = {
  firstMs: 120_000,
  mostMs: 3_600_000,
  remindMs: 86_400_000,
  graceMs: 60_000,
};

/** What is next for a token, and when. */
export interface Duty {
  readonly what: "verify" | "exchange" | "warn";
  readonly atMs: number;
  readonly standing: Standing;
}

/** GitLab alone limits how long tokens live. AlloyCI, whose tokens end in "==", would be asked for nothing. */
function mayExpire({ token, tokenLife }: RunnerConfig): boolean {
  if (token.endsWith("==")) return false;
  return /^(?:gl|GR1348941)/.test(token) || tokenLife.runnerId !== "" || tokenLife.expiresAtMs !== null;
}

/** Which token of which coordinator an entry has. */
export function keyOf({ url, token }: Pick<RunnerConfig, "url" | "token">): string {
  return `${url.href} ${token}`;
}

export interface StandingContext {
  /** Why the file cannot be changed, or null. */
  readonly fixed: string | null;
  readonly nowMs: number;
  readonly timing: KeeperTiming;
}

/** What a configuration says of a token that has not been met before. */
export function newStanding(entries: readonly RunnerConfig[], { fixed, nowMs, timing }: StandingContext): Standing {
  const { firstMs, mostMs } = timing;
  return {
    entries,
    obstacle: obstacleOf(entries, fixed),
    obtainedAtMs: timesOf(entries).obtainedAtMs ?? nowMs,
    expiresAtMs: timesOf(entries).expiresAtMs,
    expirySaid: false,
    verifyAtMs: entries.some(mayExpire) ? nowMs : null,
    retryAtMs: 0,
    warnedAtMs: null,
    troubleTold: false,
    expiryTold: false,
    verifyWaits: backoff({ firstMs, maxMs: mostMs }),
    retryWaits: backoff({ firstMs, maxMs: mostMs }),
  };
}

/** The same token in the next configuration. */
export function renewStanding(standing: Standing, entries: readonly RunnerConfig[], fixed: string | null): void {
  const { obtainedAtMs, expiresAtMs } = timesOf(entries);
  standing.entries = entries;
  standing.obstacle = obstacleOf(entries, fixed);
  if (obtainedAtMs !== null) standing.obtainedAtMs = obtainedAtMs;
  if (!standing.expirySaid) standing.expiresAtMs = expiresAtMs;
}

function timesOf(entries: readonly RunnerConfig[]): Pick<RunnerConfig["tokenLife"], "obtainedAtMs" | "expiresAtMs"> {
  const lives = entries.map(({ tokenLife }) => tokenLife);
  return {
    obtainedAtMs: lives.flatMap((life) => life.obtainedAtMs ?? [])[0] ?? null,
    expiresAtMs: lives.flatMap((life) => life.expiresAtMs ?? [])[0] ?? null,
  };
}

/** What is to be done about it, each with its time. */
export function dutiesOf(standing: Standing, nowMs: number, { remindMs }: KeeperTiming): readonly Duty[] {
  const { verifyAtMs, obstacle, warnedAtMs, retryAtMs } = standing;
  const duties: Duty[] = verifyAtMs === null ? [] : [{ what: "verify", atMs: verifyAtMs, standing }];
  const due = exchangeAt(standing, standing.obtainedAtMs);
  if (due === null) return duties;
  if (obstacle === null) return [...duties, { what: "exchange", atMs: Math.max(due, retryAtMs), standing }];
  if (warnedAtMs === null && obstacle.unchosen) return [...duties, { what: "warn", atMs: nowMs, standing }];
  const again = warnedAtMs === null || warnedAtMs < due ? due : warnedAtMs + remindMs;
  return [...duties, { what: "warn", atMs: again, standing }];
}
