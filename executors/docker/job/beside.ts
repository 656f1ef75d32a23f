import { Writable } from "node:stream";
import type { ScriptKeeping } from "../../../src/executor/environment.ts";
import type { Notes } from "../../../src/executor/prepare.ts";
import { notesOn } from "../../common/notes.ts";

/** What is said while a script is kept is no part of its output. */
export function notesBeside(keeping: ScriptKeeping | undefined, output: Writable): Notes {
  if (keeping === undefined) return notesOn(output);
  return { print: (text, tone = "plain") => keeping.say(text, tone), stream: unheard() };
}

/** Takes what an ENTRYPOINT prints where nobody reads it. */
export function unheard(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}
