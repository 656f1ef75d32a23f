import type { Argv } from "../../../src/shell.ts";

/** What starts this program again: the binary by itself, or a runtime with its script. */
export function findOwnProgram(execPath: string, script: string | undefined): Argv {
  // In a compiled binary the script has a name inside of it.
  const compiled = script === undefined || script === execPath || /^(?:\/\$bunfs\/|[A-Z]:[\\/]~BUN[\\/])/.test(script);
  return compiled ? [execPath] : [execPath, script];
}
