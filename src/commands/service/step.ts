import type { Argv } from "../../shell.ts";

/** One thing that a service command does. Plain data: `--dry-run` prints it, and tests compare it. */
export type Step =
  /** Absolute path. A file that is there and does not carry `MARKER` is somebody else's: refused. */
  | { readonly do: "write"; readonly file: string; readonly text: string; readonly mode: number }
  /** Made where it is missing, never changed. */
  | { readonly do: "create"; readonly file: string; readonly text: string; readonly mode: number }
  | { readonly do: "directory"; readonly path: string; readonly mode: number }
  /** A missing one is fine; one without `MARKER` is refused. */
  | { readonly do: "remove"; readonly file: string }
  | RunStep
  /** Wait until the service manager says that the service has stopped: as long as running jobs may take. */
  | { readonly do: "await-stopped" };

export interface RunStep {
  readonly do: "run";
  readonly argv: Argv;
  /** May fail, where the aim is reached already. */
  readonly optional: boolean;
  /** Left out where the service is in this state already. */
  readonly needlessWhen?: "running" | "stopped";
  /** What it reads on its standard input: a secret, never shown. */
  readonly input?: string;
}

/** What each definition of a service that this program wrote contains. */
export const MARKER = "Written by alloy-runner install";

export function run(...argv: readonly [string, ...string[]]): RunStep {
  return { do: "run", argv, optional: false };
}

export function tryRun(...argv: readonly [string, ...string[]]): RunStep {
  return { do: "run", argv, optional: true };
}

/** For a person: what would happen, with the whole text of files that would be written. */
export function describeStep(step: Step): string {
  switch (step.do) {
    case "write":
      return `write ${step.file} (mode ${octal(step.mode)}):\n${indent(step.text)}`;
    case "create":
      return `create ${step.file} (mode ${octal(step.mode)}), unless it is there`;
    case "directory":
      return `make the directory ${step.path} (mode ${octal(step.mode)}), unless it is there`;
    case "remove":
      return `remove ${step.file}`;
    case "run":
      return `run ${describeRun(step.argv)}${step.input === undefined ? "" : " (with a password on its standard input)"}`;
    case "await-stopped":
      return "wait until it has stopped";
  }
}

export function describeRun(argv: Argv): string {
  return argv.map(quote).join(" ");
}

function octal(mode: number): string {
  return `0${mode.toString(8)}`;
}

function indent(text: string): string {
  return text
    .trimEnd()
    .split("\n")
    .map((line) => (line === "" ? "" : `    ${line}`))
    .join("\n");
}

function quote(word: string): string {
  return /^[\w@%+=:,./\\-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
