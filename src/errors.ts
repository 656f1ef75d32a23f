/**
 * What can end a job or a command, and who is to blame for it. Classes only where `instanceof` decides something.
 */

/** Reasons that a coordinator may be told. Which of them it knows differs: `coordinator/wire.ts` maps them down. */
export type FailureReason =
  | "script_failure"
  | "runner_system_failure"
  | "job_execution_timeout"
  | "runner_interrupted"
  | "job_canceled"
  | "image_pull_failure"
  | "runner_configuration_error"
  | "runner_external_dependency_failure";

/** The job's own fault: a script that failed, a ref that does not exist, an artifact that was refused. */
export class ScriptFailure extends Error {
  override readonly name = "ScriptFailure";
  readonly exitCode: number | undefined;
  constructor(message: string, options: { exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode;
  }
}

/** The runner's or the platform's fault. `retry` is set where the cause is known: may the same thing work next time? */
export class SystemFailure extends Error {
  override readonly name = "SystemFailure";
  readonly retry: boolean;
  readonly reason: FailureReason;
  /** Status of the command that failed for a reason that is not the job's: git without a network. */
  readonly exitCode: number | undefined;
  constructor(
    message: string,
    options: { retry?: boolean; reason?: FailureReason; exitCode?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.retry = options.retry ?? false;
    this.reason = options.reason ?? "runner_system_failure";
    this.exitCode = options.exitCode;
  }
}

/** A configuration that cannot be used. The message is complete: file, line or key, what was expected, what to do. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly file: string | undefined;
  readonly line: number | undefined;
  /** What the message says, a line each, where it says where each of them stands. */
  readonly problems: readonly ConfigProblem[];
  constructor(message: string, options: ConfigErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.file = options.file;
    this.line = options.line;
    this.problems = options.problems ?? [];
  }
}

export interface ConfigErrorOptions {
  readonly file?: string;
  readonly line?: number;
  readonly cause?: unknown;
  readonly problems?: readonly ConfigProblem[];
}

/** One thing that is wrong with a configuration. */
export interface ConfigProblem {
  /** `config.toml:12`. */
  readonly place: string;
  /** What is wrong there, naming the key. */
  readonly text: string;
  /** The table that an entry's executor cannot do without. */
  readonly missing?: { readonly executor: string; readonly table: string };
}

/** `config.toml:12: runners.limit: expected a whole number, found "two"`. */
export function problemLine({ place, text }: ConfigProblem): string {
  return `${place}: ${text}`;
}

/** A command that ends with `exitCode` after `message` was shown to the person who typed it; no stack is printed. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly exitCode: number;
  constructor(message: string, options: { exitCode?: number; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.exitCode = options.exitCode ?? 1;
  }
}

/**
 * Why a signal fired.
 * `canceling`: the coordinator wants the script stopped, after_script may still run (GitLab `canceling`, AlloyCI `cancelled`).
 * `canceled`: the job is over for the coordinator (`canceled`, `failed`, 403, 404): nothing more runs.
 * `handing_over`: the runner's next process goes on with the job. What runs is let be, and no verdict comes of it.
 */
export type StopReason = "canceling" | "canceled" | "timed_out" | "shutting_down" | "handing_over";

/** A `signal.reason`; never thrown by hand. */
export class Stop extends Error {
  override readonly name = "Stop";
  readonly why: StopReason;
  constructor(why: StopReason, message: string) {
    super(message);
    this.why = why;
  }
}

/** Whoever heeds `signal` lets be what runs, instead of ending it. */
export function handsOver(signal: AbortSignal): boolean {
  return signal.reason instanceof Stop && signal.reason.why === "handing_over";
}

/** `error` as one line for a person: its message and those of its causes, each once. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  let current: unknown = error;
  for (let depth = 0; depth < 5 && current !== undefined && current !== null; depth++) {
    let text = current instanceof Error ? current.message : String(current);
    // `connect ECONNREFUSED` arrives as an AggregateError without a message of its own when a host has two addresses.
    if (text === "" && current instanceof AggregateError) text = current.errors.map(describeError).join("; ");
    if (text !== "" && !parts.some((part) => part.includes(text))) parts.push(text);
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join(": ").replace(/\s*\n\s*/g, " ");
}
