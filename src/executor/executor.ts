import type { ZodType } from "zod";
import type { ShellName } from "../shell.ts";
import type { EntrySettings, ExecutorDeps } from "./deps.ts";
import type { Environment, JobLocation } from "./environment.ts";
import type { KeepBudgets, Tidied } from "./keeping.ts";
import type { AdoptRequest, Note, Notes, PrepareRequest, Reservation } from "./prepare.ts";
import type { ExecutorWords } from "./words.ts";

/** What an executor can do, sent with each job request as part of `info.features`. */
export interface ExecutorFeatures {
  readonly variables: boolean;
  readonly image: boolean;
  readonly services: boolean;
  /** Jobs see the machine that the runner works on. */
  readonly shared: boolean;
  /** A person can open a terminal in its jobs (`Environment.openTerminal`). */
  readonly terminal?: boolean;
}

/** What became of what a dead job had left, in sentences for its trace. */
export interface Recovered {
  /** Such as `ended 3 processes`. */
  readonly done: readonly string[];
  /** What is still there, and why. */
  readonly left: readonly string[];
}

/** What stands behind an executor, for `doctor`. */
export interface Diagnosis {
  /** In a few words: `Docker 27.1, API 1.46`. */
  readonly state: string;
  /** What jobs can do without, but for those that need it. */
  readonly doubts?: readonly Doubt[];
}

export interface Doubt {
  readonly cause: string;
  /** What to do. */
  readonly remedy: string;
}

/**
 * Where jobs can run: this host, a Docker daemon, a host behind SSH. One per `[[runners]]` entry, shared by its jobs.
 *
 * What may be called at the same time, and how often:
 * - `reserve`: once per request for a job, so up to `request_concurrency` times at once; what it gave is kept until a job came
 *   and ended, or no job came. There may be more reservations than jobs that `concurrent` allows.
 * - `ready`, `disks`: once per request for a job, beside all the rest.
 * - `prepare`: for any number of jobs at once, at most `concurrent`. For one job one at a time, up to three times, and only after
 *   the one before was rejected. Each environment that it gave is destroyed, at least once.
 * - `adopt`: for any number of jobs at once, for one job one at a time; for none that `recover` was called for. What it gave is
 *   destroyed as what `prepare` gave.
 * - `tidy`: once at a time, beside all the rest.
 * - `recover`: for other jobs than those that are prepared, up to four at once, beside all the rest; for one job again where it
 *   was rejected. It may be all that an executor is ever asked for.
 * - `close`: once, after all else: the last `destroy` and the last reservation. An executor that was never used is closed, too.
 * - A reload that changes nothing of this executor's changes nothing of it: it goes on for the new version of its entry, also
 *   beside jobs of the old one. `reconfigure` is called between any of these.
 * - Nothing is called before `create` returns, and `create` does not wait, connect or read.
 */
export interface Executor {
  readonly name: string;
  /** As its jobs' traces call it: `Docker-SSH`. */
  readonly title: string;
  readonly features: ExecutorFeatures;
  /** Shell that jobs get, as `info.shell` of a job request. */
  readonly shell: ShellName;
  /** Shell that is there in any case, and starts at once: for the runner's own scripts where jobs have a PowerShell. Default: sh. */
  readonly plainShell?: ShellName;
  /** Jobs are wanted with the text that they were received as: `Job.payload`. */
  readonly wantsPayload?: true;
  /** Whose network jobs will be in, as far as that is known before one is there. Default: this machine's. */
  readonly location?: JobLocation;
  /**
   * The same where it must be asked for, as with a cluster that is named elsewhere. Called before a job is there, and beside
   * others.
   */
  locate?(signal: AbortSignal): Promise<JobLocation>;
  /**
   * Room for one more job? Asked before a slot of `concurrent` is taken, so that a machine that takes minutes holds nobody up.
   * `null`: ask for no job now.
   */
  reserve?(signal: AbortSignal): Promise<Reservation | null>;
  /** `wake` is to be called when there may be room where there was none. The last one that was given counts. */
  onRoom?(wake: () => void): void;
  /**
   * Could a job run now? Asked before each request for a job, and answered from what was seen a moment ago; it looks again only
   * where it is asked. Not needed where `reserve` tells.
   * @throws {SystemFailure} why not: what jobs need does not answer
   */
  ready?(signal: AbortSignal): Promise<void>;
  /** Directories of this machine that jobs fill, as far as they are known by now: while their disks are full no job is asked for. */
  disks?(): readonly string[];
  /**
   * What stands behind it. Changes nothing there. Not needed where there is nothing to reach.
   * @throws {SystemFailure} why no job could run
   */
  diagnose?(asked: Pick<PrepareRequest, "environment">, signal: AbortSignal): Promise<Diagnosis>;
  /** An image that jobs may have as a service with a command of their own, and that is surely there: `doctor` tries services with it. */
  readonly serviceImage?: string;
  /**
   * Build what one job runs in. `notes` shows in the trace ("Pulling image …"). Nothing half-built outlives a rejection, but for
   * the reservation, which the next try gets again.
   * @throws {SystemFailure} `retry` tells a registry that timed out from an image that is not allowed.
   * @throws {ScriptFailure} the job asked for something that cannot be.
   */
  prepare(request: PrepareRequest, notes: Notes, signal: AbortSignal): Promise<Environment>;
  /**
   * The environment of a job that an earlier process of the runner has prepared, by its `handle`. What runs in it goes on, and is
   * not touched: the job's scripts are gone on with by `ScriptKeeping.resume`. Absent: jobs end with the process.
   * @throws {SystemFailure} it is gone, or somebody else's by now; `retry`: it may only not be reached. Where the loss of it has words
   * of its own, the job's next script may say them instead, unless `request.fresh`
   */
  adopt?(request: AdoptRequest, handle: Note, signal: AbortSignal): Promise<Environment>;
  /** Longest that `adopt` may take, where what it has to reach may be away for longer than usual. */
  readonly adoptMs?: number;
  /**
   * A reload changed what concerns this executor: `tables` as they are given to `create`, and the entry's word. `true`: it works by
   * these from now on, and jobs that are prepared go on as they are. Otherwise another executor takes its place, and this one is
   * closed after its last job.
   */
  reconfigure?(tables: Readonly<Record<string, unknown>>, entry: EntrySettings): boolean;
  /**
   * Removes what it keeps between jobs and brought in itself, until that is within the budgets: what was not used for longest first, and
   * nothing that a job, or somebody else, uses.
   * @param options `dry`: only say what would go
   * @returns what has gone, or could not be removed
   */
  tidy?(budgets: KeepBudgets, options: { readonly dry: boolean }, signal: AbortSignal): Promise<readonly Tidied[]>;
  /** After a crash: end and remove what the notes of one dead job name, and nothing else. */
  recover(jobKey: string, notes: readonly Note[], signal: AbortSignal): Promise<Recovered>;
  /** Longest that its end may take, where that may be longer than usual. */
  readonly closeMs?: number;
  /** Lets go of what jobs shared. When `signal` fires it is not waited for any longer: what is not let go by then stays. */
  close(signal: AbortSignal): Promise<void>;
}

/** One folder of `executors/`. `settings` reads the entry's TOML tables that belong to it, so `config/` never learns them. */
export interface ExecutorDefinition extends ExecutorWords {
  /** Tables it reads, as they are named below `[[runners]]`: `docker`, `ssh`. `required` ones must be there. */
  readonly tables: readonly { readonly name: string; readonly required: boolean; readonly schema: ZodType }[];
  /** Shells it can run; the first is the default. */
  readonly shells: readonly ShellName[];
  /** `tables` maps each table's name to its checked value, or `undefined` where it is absent and not required. */
  create(tables: Readonly<Record<string, unknown>>, deps: ExecutorDeps): Executor;
  /** What must hold before the first job, beyond the schema: a ConfigError's message, or null. */
  check?(tables: Readonly<Record<string, unknown>>): string | null;
  /**
   * Whether jobs have directories of their own with these tables and this `builds_dir`: which one they work in is nobody else's business
   * then (`[runners.custom_build_dir]`). Absent: they have not.
   */
  buildDirsAreApart?(tables: Readonly<Record<string, unknown>>, buildsDir: string | undefined): boolean;
  /**
   * What its scripts can be started to outlive: the connection to their host, or the runner as well. It reads `deps.entry.durable`.
   * Absent: neither.
   */
  readonly canOutlive?: "connection" | "runner";
  /** They are started so where the configuration says nothing, too. */
  readonly outlivesUnasked?: true;
  /** It makes machines: `deps.entry.machines` says whose they are. */
  readonly makesMachines?: true;
  /** Programs of this machine that it cannot do without. `key` is where the table names one; without, it is always that one. */
  programs?(
    tables: Readonly<Record<string, unknown>>,
  ): readonly { readonly table: string; readonly key?: string; readonly program: string }[];
}

/** `name` in config.toml → its definition, loaded when first asked for. Handed in by `main.ts`. */
export interface ExecutorCatalog {
  readonly names: readonly string[];
  /** Of all of them, in the order of `names`. */
  readonly words: readonly ExecutorWords[];
  /** What other runners of the family have besides: executors, and tables below `[[runners]]` with their keys. */
  readonly absent: Pick<ExecutorCatalog, "names"> & { readonly keys: ExecutorWords["foreignKeys"] };
  load(name: string): Promise<ExecutorDefinition>;
}

export function defineExecutor(definition: ExecutorDefinition): ExecutorDefinition {
  return definition;
}
