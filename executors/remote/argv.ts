import type { RemoteCommand } from "./commands.ts";

/** Sets `$@` to what stands there with octal escapes, and goes on with the program. */
const DECODE =
  's=$1; shift; n=$#; while [ "$n" -gt 0 ]; do a=$(printf %b. "$1"); shift; set -- "$@" "${a%.}"; n=$((n - 1)); done; exec sh -c "$s" alloy-runner "$@"';

/**
 * Engines and clusters take arguments as text and so as UTF-8. Bytes that are none go as escapes that the shell turns back.
 */
export function argvOf({ script, args }: Pick<RemoteCommand, "script" | "args">): string[] {
  const decoded = args.map((arg) => Buffer.from(arg, "latin1").toString());
  const exact = decoded.every((text, index) => Buffer.from(text).toString("latin1") === args[index]);
  if (exact) return ["sh", "-c", script, "alloy-runner", ...decoded];
  const escaped = args.map((arg) =>
    arg.replace(/[^ -[\]-~]/g, (byte) => `\\0${byte.charCodeAt(0).toString(8).padStart(3, "0")}`),
  );
  // In any other locale the shell could take bytes for halves of characters.
  return ["env", "LC_ALL=C", "sh", "-c", DECODE, "alloy-runner", script, ...escaped];
}
