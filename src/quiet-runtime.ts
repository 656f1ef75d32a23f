/**
 * Loaded before anything else. What the runtime warns of (a deprecated call, too many listeners) and what libraries print on the
 * console is no line of the log and no answer of a command: it is handed to `hearOthers`, and lost where nobody listens.
 */
import { format } from "node:util";

let listener: (words: string) => void = () => {};

/** `hear` gets what the runtime and libraries say from now on. */
export function hearOthers(hear: (words: string) => void): void {
  listener = hear;
}

// The runtime prints warnings by a listener of its own, or where there is none.
process.removeAllListeners("warning");
process.on("warning", ({ name, message }) => listener(`${name}: ${message}`));

const METHODS = [
  "assert",
  "debug",
  "dir",
  "dirxml",
  "error",
  "group",
  "info",
  "log",
  "table",
  "trace",
  "warn",
] as const;
for (const method of METHODS) console[method] = (...words: unknown[]) => listener(format(...words));
