import { accessSync, constants } from "node:fs";

/**
 * Starts the program in "$@", passes on the signals that it knows, and reaps every process that is left to the first one.
 * Signals that come before the program was started are passed on as soon as it is.
 */
const INIT = `child= pending=
pass() { if [ -n "$child" ]; then kill "-$1" "$child" 2>/dev/null; else pending="$pending $1"; fi; }
for signal in HUP INT QUIT TERM USR1 USR2; do trap "pass $signal" "$signal"; done
"$@" <&0 & child=$!
for signal in $pending; do pass "$signal"; done
while :; do
  wait "$child"; status=$?
  kill -0 "$child" 2>/dev/null || exit "$status"
done`;

const SHELL = "/bin/sh";

/**
 * As the first process of a container this one would inherit what jobs leave, and cannot reap what it did not start: such
 * processes would fill the table. Then a shell takes the place of the first process, with this program, started anew, as
 * its child. Returns where that is not needed, or not possible: without a shell, and without `execve`.
 * @param program starts this program again, with all its arguments
 */
export function leaveFirstPlace(program: readonly string[]): void {
  if (process.pid !== 1 || process.platform !== "linux" || process.execve === undefined) return;
  try {
    accessSync(SHELL, constants.X_OK);
  } catch {
    return;
  }
  process.execve(SHELL, ["sh", "-c", INIT, "sh", ...program], process.env);
}
