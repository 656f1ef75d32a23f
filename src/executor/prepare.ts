import type { Writable } from "node:stream";
import type { Job, Trust, Variable } from "../job/job.ts";
import type { Tone } from "../shell.ts";

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
  /** What other runners of the family call whatever they have kept for this project in that slot, the newest first. */
  formerNames?(projectSlot: number): readonly string[];
  /**
   * What `reserve` gave for this job: the same one each time that the job is prepared. The executor must not dispose of it.
   */
  readonly reservation?: Reservation;
  /** What it does is not kept, so that it ends with the runner: its scripts need not be started so that they outlive that. */
  readonly endsWithRunner?: true;
  /**
   * Kept on disk before this resolves. After a crash `recover` gets the notes back, in order, to clean up with.
   * Call it before the thing exists that would have to be cleaned.
   */
  remember(note: Note): Promise<void>;
}

/** What is to be known of a job to go on with it. */
export type AdoptRequest = Pick<
  PrepareRequest,
  "job" | "jobKey" | "runnerId" | "concurrentId" | "projectPath" | "trust" | "remember"
> & {
  /** No script of it has begun: where its surroundings are gone, it gets others. */
  readonly fresh?: boolean;
};

/** JSON that survives a restart. */
export type Note = { readonly [key: string]: string | number | boolean | null | readonly string[] };

/** What the runner says in a job's trace while its surroundings are made. */
export interface Notes {
  /** A line of the runner's own, in the look that all of them have. Secrets in it do not show. */
  print(text: string, tone?: Tone): void;
  /** For what others print, such as a container's first program. Never ended by its writers. */
  readonly stream: Writable;
  /** For what services print, whole lines at a time: they stand by themselves between those of scripts. Default: `stream`. */
  readonly services?: Writable;
}

/** Where a job is going to work. */
export interface JobPlace {
  readonly root: string;
  readonly tmpDir: string;
  readonly buildsDir: string;
  readonly projectSlot: number;
}

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

/** A job's variables for what is started beside its scripts. */
export interface PreparedVariables {
  /** Each name once. */
  readonly open: readonly OpenVariable[];
  /**
   * What the job's scripts will see but for what would change which programs run, and how: secrets too, a file by its path. For
   * an operator who wants them in a container's settings.
   */
  withSecrets(): readonly { readonly key: string; readonly value: string }[];
  /** As `PrepareRequest.expand`, with names that come before the job's. */
  expandWith(own: ReadonlyMap<string, string>, text: string): string;
}

/** A place that was set aside for one job: a machine, a slot on an instance. Whoever has it lets it go, once. */
export interface Reservation extends AsyncDisposable {
  /** For logs and the trace. */
  readonly name: string;
}
