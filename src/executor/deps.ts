import type { Log } from "../log.ts";
import type { Argv, ShellName } from "../shell.ts";

/** What a `[[runners]]` entry says to its executor besides the executor's own tables. */
export interface EntrySettings {
  /** `builds_dir` and `shell` of the entry, if set. */
  readonly buildsDir: string | undefined;
  readonly shell: ShellName | undefined;
  /** End what a script left running when its stage ends. */
  readonly killLeftovers: boolean;
  /** SIGTERM → SIGKILL, milliseconds. */
  readonly killGraceMs: number;
  /** For an executor that makes machines (`makesMachines`): whose they are, and how many there may be. */
  readonly machines?: MachineOwner;
  /** Scripts are started so that they may outlive the runner, where the executor can. Default: false. */
  readonly durable?: boolean;
  /** How long the place of a durable script waits for somebody to follow it, until it ends the job by itself, milliseconds. */
  readonly resumeTimeoutMs?: number;
  /** Nothing is kept between jobs: working copies and volumes go with their job. Default: false. */
  readonly ephemeral?: boolean;
}

export interface MachineOwner {
  /** 8 hex digits that stand for the runner's token. */
  readonly runnerId: string;
  /** What its token begins with, in lower case, as the names of its machines have it; the first is for new ones. */
  readonly shortTokens: readonly string[];
  /** `limit` of the entry. */
  readonly limit: number;
}

/** This machine, as executors use it. */
export interface HostPlaces {
  /** Base of relative directories: `--working-directory`, else the directory that the runner was started in. */
  readonly working: string;
  /** Private scratch space of the runner (0700), on the disk of `state_dir`; emptied at start. */
  readonly scratch: string;
  /** Lasts over restarts, private to the runner, shared by all entries: names there begin with the executor's. */
  readonly keepDir: string;
  /**
   * Whether the job of this key is kept, to be gone on with: what it has is no leftover, whichever process made it.
   * Absent: none is kept.
   */
  readonly isKept?: (jobKey: string) => boolean;
  /** A job with this key runs, or its end is still to be reported; absent: nobody can tell. */
  readonly hasJob?: (jobKey: string) => boolean;
  /** The runner's own environment: where engines, keys and helpers of logins are. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** What only jobs on this machine itself need. */
export interface ShellHost {
  /** Account that scripts run under (`user` / `--user`), if any. */
  readonly user: string | undefined;
  /** What starts this program again, for work with other rights; by default found out from the process. */
  readonly ownProgram?: Argv;
  /** Names and globs of the runner's own variables that jobs inherit beyond the short list. */
  readonly inheritEnvironment: readonly string[];
}

/** Labels of a metric, besides those that say which entry it is. */
export type MeterLabels = Readonly<Record<string, string>>;

export interface Measured {
  readonly labels?: MeterLabels;
  readonly value: number;
}

/**
 * Metrics of an executor's own, for its entry; they go with the entry. A name begins with the executor's: `machine_idle`. One
 * that begins with `ci_` is the Go runner's, and is published as it is.
 */
export interface ExecutorMeter {
  /** What can be counted at any time, such as machines that idle: read when somebody looks. */
  gauge(name: string, help: string, labelNames: readonly string[], read: () => readonly Measured[]): void;
  /** What happens, such as machines that are made. @returns counts one */
  counter(name: string, help: string, labelNames: readonly string[]): (labels?: MeterLabels) => void;
  /** How long something takes, in seconds. @returns notes one */
  histogram(name: string, help: string, buckets: readonly number[]): (seconds: number) => void;
}

/** What an executor is created with, besides its own tables. */
export interface ExecutorDeps {
  readonly log: Log;
  readonly entry: EntrySettings;
  readonly host: HostPlaces;
  readonly meter: ExecutorMeter;
  /** Where it is missing, jobs on this machine are the runner's own account's and inherit the short list. */
  readonly shell?: ShellHost;
}

/** A meter whose figures nobody reads. */
export const noMeter: ExecutorMeter = { gauge: () => {}, counter: () => () => {}, histogram: () => () => {} };
