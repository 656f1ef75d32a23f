import type { Log } from "../log.ts";
import { backoff } from "../time.ts";
import type { PollTiming } from "./pace.ts";

/** What an entry's answers say about it, and how long to wait for the next. Says so in the log, sparingly. */
export interface Health {
  /** The coordinator answered as it should. */
  accepted(): void;
  /** 401 or 403. @returns the pause, or `null` while it may be a passing whim */
  refused(status: number): number | null;
  /** Out of reach, 5xx, nonsense. @returns the pause */
  troubled(message: string, retryAfterMs: number | undefined): number;
  /** Forget everything: the configuration was loaded anew. */
  reset(): void;
}

export interface HealthOptions {
  readonly origin: string;
  /** Refusals in a row from which on the entry is asked for rarely. */
  readonly refusalLimit: number;
  /** Longest pause between two tries with a token that is not accepted. */
  readonly longestProbeMs: number;
  readonly timing: Pick<PollTiming, "troubleFirstMs" | "troubleMaxMs" | "probesMs" | "outageReminderMs">;
  readonly log: Log;
  /** Told when the token is not accepted any more, and when it is again. */
  readonly onChange: (healthy: boolean) => void;
}

/** One line when an outage starts, one every ten minutes, one when it ends; one error for a token that is not accepted. */
export function createHealth({ origin, refusalLimit, longestProbeMs, timing, log, onChange }: HealthOptions): Health {
  const waits = backoff({ firstMs: timing.troubleFirstMs, maxMs: timing.troubleMaxMs });
  let outage: { since: number; told: number } | undefined;
  let refusals = 0;
  let probes = 0;

  const reachable = (): void => {
    waits.reset();
    if (outage === undefined) return;
    log.info("the coordinator answers again", { url: origin, after_seconds: secondsSince(outage.since) });
    outage = undefined;
  };
  const trusted = (): void => {
    if (probes > 0) onChange(true);
    refusals = 0;
    probes = 0;
  };

  return {
    accepted() {
      reachable();
      if (probes > 0) log.info("the coordinator accepts this runner's token again", { url: origin });
      trusted();
    },
    refused(status) {
      reachable();
      if (++refusals < refusalLimit) return null;
      if (probes === 0) {
        onChange(false);
        log.error(
          "the coordinator does not accept this runner's token: register the runner again, or remove its [[runners]] entry; asking again every few minutes",
          { url: origin, status, in_a_row: refusals },
        );
      }
      const probeMs = timing.probesMs[Math.min(probes, timing.probesMs.length - 1)] ?? longestProbeMs;
      probes++;
      return Math.max(Math.min(probeMs, longestProbeMs), timing.troubleFirstMs);
    },
    troubled(message, retryAfterMs) {
      const now = performance.now();
      if (outage === undefined) {
        outage = { since: now, told: now };
        log.warn("cannot ask for jobs; trying again with growing pauses", { url: origin, problem: message });
      } else if (now - outage.told >= timing.outageReminderMs) {
        outage.told = now;
        log.warn("still cannot ask for jobs", {
          url: origin,
          problem: message,
          for_seconds: secondsSince(outage.since),
        });
      } else log.debug("cannot ask for jobs", { url: origin, problem: message });
      return Math.max(waits.next(), retryAfterMs ?? 0);
    },
    reset() {
      waits.reset();
      trusted();
    },
  };
}

function secondsSince(time: number): number {
  return Math.round((performance.now() - time) / 1000);
}
