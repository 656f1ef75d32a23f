import type { Writable } from "node:stream";
import type { ScriptKeeping } from "../../../src/executor/environment.ts";
import type { Tone } from "../../../src/shell.ts";
import type { Forwarding } from "./forward.ts";

/** A process as a trace names it. */
export interface NamedProcess {
  readonly pid: number;
  /** The program's name, printable. Never its arguments: they may be secret. */
  readonly name: string;
}

/** How the end of a set of processes went. */
export interface Ended<P extends NamedProcess = NamedProcess> {
  /** All that were there and are gone. */
  readonly ended: readonly P[];
  /** Those of them that had to be killed. */
  readonly killed: readonly P[];
  /** Those that are still there. */
  readonly survived: readonly P[];
}

const TONES: Readonly<Record<Extract<Tone, "warning" | "error">, string>> = {
  warning: "\x1b[0;33m",
  error: "\x1b[31;1m",
};

/** A line of the runner's own in a script's output. */
export function say(output: Writable, reader: Forwarding, tone: keyof typeof TONES, text: string): void {
  if (output.destroyed || output.writableEnded) return;
  output.write(`${reader.atLineStart ? "" : "\n"}${TONES[tone]}${text}\x1b[0;m\n`);
}

/** The same as a function of what is said. */
export function sayingTo(output: Writable, reader: Forwarding): Say {
  return (tone, text) => say(output, reader, tone, text);
}

/** What is said while a script is kept is no part of its output. */
export function sayerOf(keeping: Pick<ScriptKeeping, "say"> | undefined, otherwise: Say): Say {
  return keeping === undefined ? otherwise : (tone, text) => keeping.say(text, tone);
}

/** Says a line of the runner's own in a trace. */
export type Say = (tone: keyof typeof TONES, text: string) => void;

/** Tell the trace what was ended: what a script left running, or what was stopped with it. */
export function sayEnded(say: Say, result: Ended, graceMs: number, leftovers: boolean): void {
  const { ended, killed, survived } = result;
  if (ended.length > 0) {
    const what = leftovers
      ? `WARNING: The script left ${ended.length === 1 ? "a process" : `${ended.length} processes`} running; ended`
      : `WARNING: Stopped`;
    const hard = killed.length > 0 ? `; ${nameProcesses(killed)} had to be killed after ${graceMs / 1000} s` : "";
    say("warning", `${what} ${nameProcesses(ended)}${hard}`);
  }
  if (survived.length > 0) {
    say("error", `ERROR: Cannot end ${nameProcesses(survived)}: still there after SIGKILL`);
  }
}

/** `make (812), cc1 (830) and 12 more` */
function nameProcesses(processes: readonly NamedProcess[]): string {
  const shown = processes.slice(0, 8).map((one) => `${one.name} (${one.pid})`);
  const more = processes.length - shown.length;
  return more > 0 ? `${shown.join(", ")} and ${more} more` : shown.join(", ");
}

/** Control characters would reach somebody's terminal. */
export function printable(name: string): string {
  return name.replace(/[^\x20-\x7e\u00a0-\uffff]/g, "?");
}
