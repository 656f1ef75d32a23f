import type { Readable } from "node:stream";
import type { Board, DiskState } from "../../board/contract.ts";
import type { Config, RunnerConfig } from "../../config/config.ts";
import type { Coordinator } from "../../coordinator/contract.ts";
import type { Executor } from "../../executor/executor.ts";
import type { HandleJob } from "../../job/life/received.ts";
import type { LogFormat, LogLevel, RunnerLog } from "../../log.ts";
import type { EntryMeter } from "../../metrics/meters.ts";
import type { Metrics } from "../../metrics/metrics.ts";
import type { Notifier } from "../../notify.ts";
import type { PollTiming } from "../../poll/pace.ts";
import type { EntryJob } from "../../poll/reception.ts";
import type { SessionOffer } from "../../session/contract.ts";
import type { KeeperOptions, TokenKeeper } from "../../tokens/keeper.ts";

/** What looking after tokens needs of the runner at work. */
export type TokenHooks = Pick<KeeperOptions, "about" | "onExchanged">;

export interface RunOptions {
  /** As typed; relative ones are meant from where the command was started, not from `workingDirectory`. */
  readonly config: string;
  readonly workingDirectory: string | undefined;
  /** `--syslog` was given: accepted, as the log on stderr ends there anyway. */
  readonly syslog: boolean;
  /** These values win over those of the file, also after a reload. */
  readonly listenAddress: string | undefined;
  readonly logLevel: LogLevel | undefined;
  readonly logFormat: LogFormat | undefined;
  /** The first SIGTERM or SIGQUIT hands over, as SIGUSR2 does. */
  readonly stopHandsOver?: boolean;
  /** Drains as after SIGQUIT once it fires. */
  readonly drainOn?: AbortSignal;
  /** Where a service host writes `drain` and `stop`. */
  readonly wishes?: Readable;
}

/** What jobs need beside their entry: journal, outbox, connections. Opened once the configuration is known. */
export interface RunServices {
  readonly handleJob: HandleJob;
  /** What the last process left running. */
  readonly living?: readonly EntryJob[];
  openCoordinator(entry: RunnerConfig, meter: EntryMeter): Coordinator;
  openExecutor(entry: RunnerConfig, config: Config, meter: EntryMeter): Executor;
  /** A terminal for the job that one request may bring; absent: terminals are not served. */
  readonly offerSession?: () => SessionOffer;
  hasRoom(): Promise<boolean>;
  /** The state of the disk at the last check. */
  disk(): DiskState;
  /** Whether jobs are kept that may outlive the runner; `undefined`: no entry has such. */
  durable?(): boolean | undefined;
  isPending(origin: string, jobId: string): boolean;
  /** Puts tokens into the file that the last process got and did not live to put there. @returns whether to load it again */
  finishExchanges?(): Promise<boolean>;
  /** Keeps tokens from expiring from now on; ended by `close`. */
  keepTokens?(hooks: TokenHooks): TokenKeeper;
  /** Called when a new configuration is in force, with its limits of disk space and the like. */
  reconfigure?(config: Config): void;
  /** Ends background work. Work that is under way may finish until the signal fires; its data is on disk. */
  close(signal: AbortSignal): Promise<void>;
}

/** Changes of the configuration file, and loading it on demand. */
export interface ConfigChanges extends AsyncIterable<{ readonly config: Config } | { readonly error: unknown }> {
  /** Loads the file now, changed or not, and yields like any change. */
  reload(): void;
}

export interface RunDeps {
  /** Such as `2.0.0 (1a2b3c4d)`. */
  readonly version: string;
  readonly log: RunnerLog;
  readonly metrics: Metrics;
  readonly notifier: Notifier;
  readonly board: Board;
  /** @throws {ConfigError} */
  loadConfig(file: string): Promise<Config>;
  watchConfig(file: string, signal: AbortSignal): ConfigChanges;
  /**
   * @param stopping fires when jobs shall end, also while this is still at work
   * @throws {ConfigError} the state directory cannot be used
   */
  openServices(config: Config, stopping: AbortSignal): Promise<RunServices>;
  readonly timing?: PollTiming;
}
