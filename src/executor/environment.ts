import type { Readable, Writable } from "node:stream";
import type { JobUsage, StageName, Variable } from "../job/job.ts";
import type { ScriptParts, ShellCommand, ShellName, Tone } from "../shell.ts";
import type { Workspace } from "../workspace.ts";
import type { Note, Notes } from "./prepare.ts";

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
  /** Settings of git that its scripts have from their surroundings: they stay where a job adds some (`GIT_CONFIG_COUNT`). */
  readonly gitSettings?: readonly (readonly [key: string, value: string])[];
  /** Scripts of `runIn: "helper"` run as somebody else than the job's: nothing of the job's choice may be started by them. */
  readonly helperApart?: true;
  /** Who starts scripts here, where that is not the runner: `run_exec (/opt/driver/run)`. Named where a script was not read. */
  readonly scriptsBy?: string;
  /** By which the runner's next process finds it again, with its scripts. No secrets. Absent: it ends with this process. */
  readonly handle?: Note;
  /**
   * Told once where it was adopted, before its next script: what it says beside scripts goes there from then on.
   * @param since when nobody looked after it any more, by this machine's clock
   */
  adopted?(notes: Notes, since: Date): void;
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
   * having written to `output` what was stopped. On a `Stop` that hands over, which only environments with a `handle` get, it
   * rejects and lets the script be: its output goes on to where another process finds it.
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
  /**
   * What another runner of the family has kept of a cache here, by its path below the directory of caches (`group/project/key/cache.zip`).
   * Only read. Absent: nobody could have kept one. `null`: there is none.
   * @throws {SystemFailure} it cannot be had
   */
  formerCache?(path: string, signal: AbortSignal): Promise<FormerCache | null>;
  /** Called once, after the last script: what only tells of the job, such as logs of its services, has ended when it resolves. */
  scriptsOver?(): Promise<void>;
  /** Remove everything but what is kept between jobs. Safe after any failure and more than once. `signal` is its own. */
  destroy(signal: AbortSignal): Promise<void>;
}

/** An archive that another runner of the family has made. Must be disposed of. */
export interface FormerCache extends AsyncDisposable {
  readonly content: Readable;
  readonly bytes: number;
  /** For sentences: `slot 0 of another runner`. */
  readonly from: string;
}

export type JobLocation =
  | { readonly at: "this machine" | "containers of this machine" | "guests of this machine" }
  /** Another machine, by name or address. */
  | { readonly at: "host"; readonly host: string };

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
  /** Run a second time it does the same and prints the same, and it is over soon: it need not outlive the runner. */
  readonly repeatable?: true;
  /** Given where the script may outlive the runner; environments without a `handle` have no use for it. */
  readonly keeping?: ScriptKeeping;
}

/** What is written down of a script, so that the runner's next process finds it again. */
export interface ScriptKeeping {
  /** Kept before anything of the script starts. No secrets. */
  begins(place: Note): void;
  /** Raw bytes of its output that need not be kept any more. */
  settled(): number;
  /**
   * A line of the runner's own between those of the script: written to `output` it would count as the script's, whose bytes
   * another process has to count the same.
   */
  say(text: string, tone: Tone): void;
  /** The same behind the end of the line that the script is printing; where absent, `say` has to do. */
  aside?(text: string, tone: Tone): void;
  /**
   * It has ended so, and all of its output was written: kept when this resolves. Only then may what would tell it another time go.
   * Not called for a script that was stopped.
   * @param used by it, where whoever goes on with the job could not tell any more
   */
  ended(exit: Exit, used?: JobUsage): Promise<void>;
  /**
   * It was begun at this place before: go on with it, from this raw byte of its output. What never ran is started, and where the
   * signal has fired what is left of it is ended.
   */
  readonly resume?: { readonly place: Note; readonly from: number };
}

/** How a script ended. `signal` names the signal that ended it (`SIGKILL`); `code` is then 128 + its number. */
export interface Exit {
  readonly code: number;
  readonly signal: string | null;
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
