import type { Writable } from "node:stream";
import type { Notes } from "../../src/executor/prepare.ts";
import { runnerLine } from "../../src/trace/lines.ts";

/** Notes where only a script's output is there to take them. */
export function notesOn(output: Writable): Notes {
  const notes: Notes = {
    stream: output,
    print: (text, tone = "plain") => passOn(notes, runnerLine(text, tone)),
  };
  return notes;
}

/** What others have printed, as it is. A trace that takes nothing any more is not written to. */
export function passOn({ stream }: Notes, bytes: string | Buffer): void {
  if (bytes.length > 0 && !stream.destroyed && !stream.writableEnded) stream.write(bytes);
}
