import { IDENTITY, LOCKING } from "./lock-program.ts";

/**
 * Measures or removes working copies on the far host that no job has. `$1` `measure` or `remove`, `$2` their builds directory. On
 * stdin three lines each: the directory of their runner, their place as claims name it (without what trust adds), and themselves. For each
 * a line: `gone`, `held`, `link`, its size in KiB, `removed`, or `failed` and why; then `disk` with the size of the disk of `$2` and what is free there, in KiB.
 *
 * A claim stands before its job makes a directory, and is made under the same lock. So what nobody claims is moved away while the lock
 * is held, and the next job makes a new one.
 */
export const TIDY_PROGRAM = `umask 022
export LC_ALL=C
trap '' HUP
${LOCKING}${IDENTITY}
isHeld() {
  for each in "$claims"/*/root; do
    [ -f "$each" ] || continue
    other=
    { IFS= read -r other <"$each"; } 2>/dev/null
    case $1/ in "\${other:-?}"/*) return 0 ;; esac
    case $other/ in "$1"/*) return 0 ;; esac
  done
  return 1
}
measure() {
  # du says what it counted also where it could not read all of it.
  kib=$(du -skx "$root" 2>/dev/null | sed 's/[^0-9].*//' | tail -n 1)
  printf '%s%s\\n' "$1" "\${kib:-0}"
}
broken() { printf 'failed %s\\n' "$(printf '%s' "$1" | tr '\\n' ' ')"; }
# In a shell of its own, as the lock ends its program when it cannot be had.
away() (
  lock
  if isHeld "$1"; then unlock; echo held; exit 0; fi
  why=$(mv "$root" "$base/.gone.$$" 2>&1) || { unlock; broken "$why"; exit 0; }
  unlock
  why=$(discard "$base/.gone.$$" 2>&1) && { echo removed; exit 0; }
  # What is left counts again, and is named again.
  lock
  [ -e "$root" ] || mv "$base/.gone.$$" "$root" 2>/dev/null
  unlock
  broken "$why"
)
while IFS= read -r base && IFS= read -r place && IFS= read -r root; do
  claims=$base/.claims
  # What an earlier one could not bring to its end.
  [ "$1" = measure ] || for rest in "$base"/.gone.*; do discard "$rest" 2>/dev/null; done
  if [ -L "$root" ]; then echo link
  elif [ ! -d "$root" ]; then echo gone
  elif [ "$1" = remove ]; then away "$place"
  elif isHeld "$place"; then measure 'held '
  else measure ''
  fi
done
set -- $(df -Pk "$2" 2>/dev/null | tail -n 1)
printf 'disk %s %s\\n' "\${2:-0}" "\${4:-0}"
`;
