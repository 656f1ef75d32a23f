import type { Writable } from "node:stream";
import type { ZodType } from "zod";
import type { ExecutorWords } from "./executor-words.ts";
import type { Job, Trust } from "./job/job.ts";
import type { Log } from "./log.ts";
import type { Argv, ScriptParts, ShellCommand, ShellName } from "./shell.ts";
import type { Workspace } from "./workspace.ts";

/** What an executor can do, sent with each job request as part of `info.features`. */
export interface ExecutorFeatures {
  readonly variables: boolean;
  readonly image: boolean;
  readonly services: boolean;
  /** Jobs see the machine that the runner works on. */
  readonly shared: boolean;
}

/** JSON that survives a restart. */
export type Note = { readonly [key: string]: string | number | boolean | null | readonly string[] };

/** A variable of a job, as far as others than its scripts may know it. */
export interface OpenVariable {
  readonly key: string;
  /** Expanded; what it refers to and is secret, is empty. */
  readonly value: string;
  /** Nothing that it refers to is missing. */
  readonly complete: boolean;
  /** It sounds like a password, whoever calls it public. */
  readonly secretName: boolean;
  /** It stands in `environment` of the entry. */
  readonly ofOperator: boolean;
  /** A job's own that would change which programs run, and how. */
  readonly redirecting: boolean;
}

/** Where a job is going to work. */
export interface JobPlace {
  readonly root: string;
  readonly tmpDir: string;
  readonly buildsDir: string;
  readonly projectSlot: number;
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
  /** `environment` of the entry, as it stands there. */
  readonly environment: readonly { readonly key: string; readonly value: string }[];
  /** The job's variables once its place is known. */
  variables(place: JobPlace): PreparedVariables;
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
  /** Where there are two environments: the one with git, or the one that the job asked for. */
  readonly runIn: "helper" | "build";
  /** Whether `command` starts a login shell. One that does not still finds the programs and proxies that profiles set. */
  readonly login: boolean;
}

/** How a script ended. `signal` names the signal that ended it (`SIGKILL`); `code` is then 128 + its number. */
export interface Exit {
  readonly code: number;
  readonly signal: string | null;
}

/** One job's surroundings. Whether it is a directory, a container or a far host shows nowhere else. */
export interface Environment {
  readonly shell: ShellName;
  /** Whether scripts of authors run in a login shell, where theirs is one that reads profiles. */
  readonly login: boolean;
  readonly workspace: Workspace;
  /** Lowest number that no other running job of this token and project has: `CI_CONCURRENT_PROJECT_ID`. */
  readonly projectSlot: number;
  /** Where the job runs, for its trace: `build-07`, or `container 3f2a… on build-07`. */
  readonly host: string;
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
  /** Remove everything but what is kept between jobs. Safe after any failure and more than once. `signal` is its own. */
  destroy(signal: AbortSignal): Promise<void>;
}

export type JobLocation =
  | { readonly at: "this machine" | "containers of this machine" }
  /** Another machine, by name or address. */
  | { readonly at: "host"; readonly host: string };

/** Where jobs can run: this host, a Docker daemon, a host behind SSH. One per `[[runners]]` entry, shared by its jobs. */
export interface Executor {
  readonly name: string;
  /** As its jobs' traces call it: `Docker-SSH`. */
  readonly title: string;
  readonly features: ExecutorFeatures;
  /** Shell that jobs get, as `info.shell` of a job request. */
  readonly shell: ShellName;
  /** Shell that is there in any case, and starts at once: for the runner's own scripts where jobs have a PowerShell. Default: sh. */
  readonly plainShell?: ShellName;
  /** Whose network jobs are in, for what they are to reach at the runner. Default: this machine's. */
  readonly location?: JobLocation;
  /** Room for one more job? Asked first where room is scarce (docker+machine); `null` means: ask for no job now. */
  reserve?(signal: AbortSignal): Promise<Disposable | null>;
  /**
   * Build what one job runs in. `notes` shows in the trace ("Pulling image …"). Nothing half-built outlives a rejection.
   * @throws {SystemFailure} `retry` tells a registry that timed out from an image that is not allowed.
   * @throws {ScriptFailure} the job asked for something that cannot be.
   */
  prepare(request: PrepareRequest, notes: Writable, signal: AbortSignal): Promise<Environment>;
  /**
   * After a crash: end and remove what the notes of one dead job name, and nothing else.
   * @returns sentences for its trace, such as `ended 3 processes`.
   */
  recover(jobKey: string, notes: readonly Note[], signal: AbortSignal): Promise<string[]>;
  close(): Promise<void>; // lets go of what jobs shared; called once, after the last `destroy`
}

/** What an executor is given of its `[[runners]]` entry besides its own tables. */
export interface ExecutorDeps {
  readonly log: Log;
  /** `builds_dir`, `cache_dir`, `shell` of the entry, if set. */
  readonly buildsDir: string | undefined;
  readonly cacheDir: string | undefined;
  readonly shell: ShellName | undefined;
  /** Base of relative directories: `--working-directory`, else the directory that the runner was started in. */
  readonly workingDirectory: string;
  /** Account that scripts of the shell executor run under (`user` / `--user`), if any. */
  readonly user: string | undefined;
  /** Private scratch space of the runner (0700), on the disk of `state_dir`; emptied at start. */
  readonly scratchDir: string;
  /** What starts this program again, for work with other rights; by default found out from the process. */
  readonly ownProgram?: Argv;
  /** Names and globs of the runner's own variables that shell jobs inherit beyond the short list. */
  readonly inheritEnvironment: readonly string[];
  /** End what a script left running when its stage ends. */
  readonly killLeftovers: boolean;
  /** SIGTERM → SIGKILL, milliseconds. */
  readonly killGraceMs: number;
  /** Nothing is kept between jobs: working copies and volumes go with their job. Default: false. */
  readonly ephemeral?: boolean;
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
