import type { RunnerConfig } from "../../config/config.ts";
import type { Journal, Outbox } from "../../journal/contract.ts";
import type { Log } from "../../log.ts";
import type { ShellName, ShellWriter } from "../../shell.ts";
import type { ShipTiming } from "../../trace/ship.ts";
import type { KeptCaches } from "../../transfer/cache/kept-caches.ts";
import type { OpenCaches } from "../../transfer/cache/open-caches.ts";
import type { RunnerIdentity } from "../variables/variables.ts";
import type { AcknowledgeTiming } from "./acknowledge.ts";
import type { ResolveSecrets, RunJobRequest } from "./request.ts";
import type { LiveMasks } from "./trace/live-masks.ts";

/** What handling jobs takes besides the jobs. */
export interface HandleDeps {
  readonly journal: Pick<Journal, "accept" | "boot">;
  readonly outbox: Pick<Outbox, "deliver" | "answer">;
  readonly identity: RunnerIdentity;
  readonly findWriter: (shell: ShellName) => ShellWriter | undefined;
  readonly log: Log;
  readonly liveMasks: Pick<LiveMasks, "hold">;
  readonly openCaches: OpenCaches;
  /** @param entry whose certificates are trusted */
  readonly resolveSecrets: (entry: RunnerConfig, ...rest: Parameters<ResolveSecrets>) => ReturnType<ResolveSecrets>;
  readonly keptCaches: KeptCaches;
  /** With what secrets of running jobs are kept for the runner's next process; `null`: there is nothing. */
  readonly liveKey?: () => Promise<Buffer | null>;
  /** Private to the runner, for archives under way. */
  readonly scratchDir: string;
  /** What disks must still have free after a transfer. */
  readonly minFreeBytes: () => number;
  /** How long a job stays open for a terminal. */
  readonly sessionTimeoutMs: number;
  readonly timing?: HandleTiming;
}

export interface HandleTiming
  extends Pick<RunJobRequest, "preparePauseMs" | "attemptPauseMs" | "secretsPauseMs" | "destroyTimeoutMs">,
    AcknowledgeTiming {
  readonly ship?: ShipTiming;
  /** How long a piece of trace that is under way at the job's end may take. By default 10 s. */
  readonly lastPieceMs?: number;
}
