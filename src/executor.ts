import type { Readable, Writable } from "node:stream";
import type { ZodType } from "zod";
import type { EntrySettings, ExecutorDeps } from "./executor-deps.ts";
import type { KeepBudgets, Tidied } from "./executor-keeping.ts";
import type { ExecutorWords } from "./executor-words.ts";
import type { Job, JobUsage, StageName, Trust, Variable } from "./job/job.ts";

import type { ScriptParts, ShellCommand, ShellName, Tone } from "./shell.ts";
import type { Workspace } from "./workspace.ts";

export type { KeepBudgets, KeptThing, Tidied } from "./executor-keeping.ts";
export type { JobUsage } from "./job/job.ts";

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

/** A shell on a pseudo-terminal, for a person. */
export interface Terminal {
  /** What it shows. It ends with the shell, and has back-pressure. Must be read or destroyed. */
  readonly output: Readable;
  /** What the person types. */
  readonly input: Writable;
  /** Ends the shell and all that was started in it. Never rejects, and may be called more than once. */
  close(): Promise<void>;
}

/** What a person's shell begins with. */
export interface TerminalRequest {
  /** Variables of the job that are no secret, each name once. */
  readonly variables: readonly { readonly key: string; readonly value: string }[];
}

/** JSON that survives a restart. */
export type Note = { readonly [key: string]: string | number | boolean | null | readonly string[] };

/** A variable of a job, as far as others than its scripts may know it. */
export interface OpenVariable {
  readonly key: string;
  /** The expanded value; secrets that it refers to are left empty in it. */
  readonly value: string;
  /** All variables that the value refers to are there. */
  readonly complete: boolean;
  /** The name sounds like a password, whoever calls the variable public. */
  readonly secretName: boolean;
  /** The variable stands in `environment` of the entry. */
  readonly ofOperator: boolean;
  /** The job's own variable of a name that would change which programs run, and how. */
  readonly redirecting: boolean;
}

/** Where a job is going to work. */
export interface JobPlace {
  readonly root: string;
  readonly tmpDir: string;
  readonly buildsDir: string;
  readonly projectSlot: number;
}

/** A place that was set aside for one job: a machine, a slot on an instance. Whoever has it lets it go, once. */
export interface Reservation extends AsyncDisposable {
  /** For logs and the trace. */
  readonly name: string;
}

/** What the runner says in a job's trace while its surroundings are made. */
export interface Notes {
  /** A line of the runner's own, in the look that all of them have. Secrets in it do not show. */
  print(text: string, tone?: Tone): void;
  /** For what others print, such as a container's first program. Never ended by its writers. */
  readonly stream: Writable;
  /** For what services print, whole lines at a time: they stand by themselves between those of scripts. Default: `stream`. */
  readonly services?: Writable;
}

/** What became of what a dead job had left, in sentences for its trace. */
export interface Recovered {
  /** Such as `ended 3 processes`. */
  readonly done: readonly string[];
  /** What is still there, and why. */
  readonly left: readonly string[];
}

/** A job's variables for what is started beside its scripts. */
export interface PreparedVariables {
  /** Each name once. */
  readonly open: readonly OpenVariable[];
  /** As `PrepareRequest.expand`, with names that come before the job's. */
  expandWith(own: ReadonlyMap<string, string>, text: string): string;
}

export interface PrepareRequest {
  readonly job: Job;
  /** Unique over all jobs of this host and all times, `[a-z0-9-]`, ≤ 63 characters: for labels, names and process marks. */
  readonly jobKey: string;
  /** 8 hex digits that stand for the runner's token in public places. */
  readonly runnerId: string;
  /** Lowest number that no other running job of this token has: `CI_CONCURRENT_ID`. */
  readonly concurrentId: number;
  /** `group/project`: clean relative path, safe to join, never empty. */
  readonly projectPath: string;
  /** Jobs of different trust share no working copy and no volume, and nothing that a fork's job leaves is kept. */
  readonly trust: Trust;
  /** Secrets that only the executor comes to know, such as the login of a registry: they will not show in the trace. */
  hide?(secrets: readonly string[]): void;
  /** `$NAME` expansion over the job's variables, for image and service names. */
  expand(text: string): string;
  /**
   * The directory inside of `buildsDir` that the job chose for its sources (`GIT_CLONE_PATH`); `null`: it chose none.
   * @throws {SystemFailure} it chose one that it may not have
   */
  chosenRoot?(place: Pick<JobPlace, "buildsDir" | "projectSlot">): string | null;
  /** `CI_DEBUG_SERVICES`: what services print is to be in the trace, until `scriptsOver`. */
  readonly debugServices?: boolean;
  /** The same over what a job cannot change: `environment` of the entry, and what the runner sets. For the operator's own images. */
  expandSettled(text: string): string;
  /** `environment` of the entry, as it stands there. */
  readonly environment: readonly { readonly key: string; readonly value: string }[];
  /**
   * All variables of the job as far as they are known before its place is: expanded, each name once, a file's content as it is.
   * Secrets are among them: for programs of the operator's, never for labels, logs or the settings of a container.
   */
  readonly variables: readonly Variable[];
  /** The same variables, once the job's place is known. */
  variablesAt(place: JobPlace): readonly Variable[];
  /** What others than the job's scripts may know of its variables, once its place is known. */
  openVariables(place: JobPlace): PreparedVariables;
  /**
   * What `reserve` gave for this job: the same one each time that the job is prepared. The executor must not dispose of it.
   */
  readonly reservation?: Reservation;
  /**
   * Kept on disk before this resolves. After a crash `recover` gets the notes back, in order, to clean up with.
   * Call it before the thing exists that would have to be cleaned.
   */
  remember(note: Note): Promise<void>;
}

export interface Script {
  readonly text: string;
  /** What the text relies on. An executor that takes shells whose writers make parts hands them over, others see none. */
  readonly parts?: ScriptParts;
  readonly command: ShellCommand;
  /**
   * The stage that the script belongs to, as sections of the trace name it. Executors that treat all scripts alike have no
   * use for it.
   */
  readonly stage: StageName;
  /** Where there are two environments: the one with git, or the one that the job asked for. */
  readonly runIn: "helper" | "build";
  /** Whether `command` starts a login shell. One that does not still finds the programs and proxies that profiles set. */
  readonly login: boolean;
  /** Given where the script may outlive the runner; environments without a `handle` have no use for it. */
  readonly keeping?: ScriptKeeping;
}

/** What is written down of a script, so that the runner's next process finds it again. */
export interface ScriptKeeping {
  /** Kept before anything of the script starts. No secrets. */
  begins(place: Note): void;
  /** Raw bytes of its output that need not be kept any more. */
  settled(): number;
  /** It was begun at this place before: go on with it, from this raw byte of its output. What never ran is started. */
  readonly resume?: { readonly place: Note; readonly from: number };
}

/** How a script ended. `signal` names the signal that ended it (`SIGKILL`); `code` is then 128 + its number. */
export interface Exit {
  readonly code: number;
  readonly signal: string | null;
}

/**
 * One job's surroundings. Whether it is a directory, a container or a far host shows nowhere else. Scripts come one after the
 * other, but for a stage that was given up and still ends; files may be moved while none runs.
 */
export interface Environment {
  readonly shell: ShellName;
  /** Whether scripts of authors run in a login shell, where theirs is one that reads profiles. */
  readonly login: boolean;
  readonly workspace: Workspace;
  /** Lowest number that no other running job of this token and project has: `CI_CONCURRENT_PROJECT_ID`. */
  readonly projectSlot: number;
  /** Where the job runs, for its trace: `build-07`, or `container 3f2a… on build-07`. */
  readonly host: string;
  /** Whose network this job is in: jobs of one executor may be on different machines. */
  readonly location: JobLocation;
  /** What the surroundings add to the job's variables; these win over the job's own. */
  readonly variables?: readonly Variable[];
  /** The plain shell of this environment, where it is another than the executor's. */
  readonly plainShell?: ShellName;
  /** Scripts of `runIn: "helper"` run as somebody else than the job's: nothing of the job's choice may be started by them. */
  readonly helperApart?: true;
  /** Who starts scripts here, where that is not the runner: `run_exec (/opt/driver/run)`. Named where a script was not read. */
  readonly scriptsBy?: string;
  /** By which the runner's next process finds it again, with its scripts. No secrets. Absent: it ends with this process. */
  readonly handle?: Note;
  /** Longest clean-up, where that may take longer than usual. */
  readonly destroyMs?: number;
  /** Told before each stage of the plan, with whether the job has failed by then. */
  enter?(stage: StageName, failed: boolean): void;
  /** `builds_dir` as scripts see it: `CI_BUILDS_DIR`. */
  readonly buildsDir: string;
  /**
   * Run one script to its end. stdout and stderr reach `output` as they come, in order; `output` is left open.
   * Everything that was written before the shell's end has been written to `output` when this resolves.
   * What the script left running is ended too, with a line in `output` that names it.
   * On abort the whole process tree gets SIGTERM, after 10 s SIGKILL; rejects with `signal.reason` once it is gone,
   * having written to `output` what was stopped.
   * @throws {SystemFailure} the script could not be run at all. That it failed is an `Exit`.
   */
  run(script: Script, output: Writable, signal: AbortSignal): Promise<Exit>;
  /**
   * A shell in the checkout, as the job's own user, with what the job's scripts would find. It outlives the end of scripts. Called for
   * one at a time, from `prepare` until `destroy`, whatever else runs; `close` of it comes before `destroy`.
   * @throws {SystemFailure} there can be none
   */
  openTerminal?(request: TerminalRequest, signal: AbortSignal): Promise<Terminal>;
  /**
   * What the job has used so far, and uses now, as far as that can be told. Asked after its last script, and again and again
   * while somebody looks at the job, so it must cost little.
   */
  usage?(signal: AbortSignal): Promise<JobUsage>;
  /** Called once, after the last script: what only tells of the job, such as logs of its services, has ended when it resolves. */
  scriptsOver?(): Promise<void>;
  /** Remove everything but what is kept between jobs. Safe after any failure and more than once. `signal` is its own. */
  destroy(signal: AbortSignal): Promise<void>;
}

export type JobLocation =
  | { readonly at: "this machine" | "containers of this machine" | "guests of this machine" }
  /** Another machine, by name or address. */
  | { readonly at: "host"; readonly host: string };

/**
 * Where jobs can run: this host, a Docker daemon, a host behind SSH. One per `[[runners]]` entry, shared by its jobs.
 *
 * What may be called at the same time, and how often:
 * - `reserve`: once per request for a job, so up to `request_concurrency` times at once; what it gave is kept until a job came
 *   and ended, or no job came. There may be more reservations than jobs that `concurrent` allows.
 * - `ready`, `disks`: once per request for a job, beside all the rest.
 * - `prepare`: for any number of jobs at once, at most `concurrent`. For one job one at a time, up to three times, and only after
 *   the one before was rejected. Each environment that it gave is destroyed, at least once.
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
   * What stands behind it, in a few words: `Docker 27.1`. Changes nothing there. Not needed where there is nothing to reach.
   * @throws {SystemFailure} why no job could run
   */
  diagnose?(signal: AbortSignal): Promise<string>;
  /**
   * Build what one job runs in. `notes` shows in the trace ("Pulling image …"). Nothing half-built outlives a rejection, but for
   * the reservation, which the next try gets again.
   * @throws {SystemFailure} `retry` tells a registry that timed out from an image that is not allowed.
   * @throws {ScriptFailure} the job asked for something that cannot be.
   */
  prepare(request: PrepareRequest, notes: Notes, signal: AbortSignal): Promise<Environment>;
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
  /** Its scripts can be started so that they may outlive the runner: it reads `deps.entry.durable`. */
  readonly canOutlive?: true;
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
