import { printable } from "../../local/report/text-width.ts";
import type { CommandContext } from "../context.ts";

/** Says each note once. */
export function sayNotes(notes: readonly string[], context: Pick<CommandContext, "say">): void {
  for (const note of new Set(notes)) context.say(`note: ${note.split("\n").map(printable).join("\n  ")}`);
}
