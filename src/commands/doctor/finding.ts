import { printable, printableLines } from "../../local/report/text-width.ts";
import type { CommandContext } from "../context.ts";

/** What was looked at, and what is wrong with it. */
export interface Finding {
  readonly severity: "error" | "warning";
  /** The subject of the check: `configuration`, `coordinator`. */
  readonly check: string;
  /** The checked thing itself: an entry's name, a path. */
  readonly of: string;
  readonly cause: string;
  readonly remedy: string;
}

/** Something that is as it should be. */
export interface Fact {
  readonly severity: "ok";
  readonly check: string;
  readonly of: string;
  readonly cause: string;
}

export type Note = Finding | Fact;

export function ok(check: string, of: string, cause: string): Fact {
  return { severity: "ok", check, of, cause };
}

/** @returns 0 nothing is wrong, 1 there are warnings, 2 something cannot work */
export function statusOf(notes: readonly Note[]): number {
  if (notes.some(({ severity }) => severity === "error")) return 2;
  return notes.some(({ severity }) => severity === "warning") ? 1 : 0;
}

export function printNotes(notes: readonly Note[], json: boolean, context: CommandContext): void {
  const count = (severity: Note["severity"]): number => notes.filter((note) => note.severity === severity).length;
  if (json) {
    context.print(JSON.stringify({ errors: count("error"), warnings: count("warning"), notes }));
    return;
  }
  for (const note of notes) {
    const of = note.of === "" ? "" : ` ${printable(note.of)}`;
    context.print(`${note.severity.padEnd(7)} ${note.check}${of}: ${printableLines(note.cause)}`);
    if (note.severity !== "ok" && note.remedy !== "") context.print(`        → ${printableLines(note.remedy)}`);
  }
  const [errors, warnings] = [count("error"), count("warning")];
  if (errors + warnings === 0) context.print("nothing is wrong");
  else context.print(`${plural(errors, "error")}, ${plural(warnings, "warning")}`);
}

function plural(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}
