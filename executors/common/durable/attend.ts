import type { Argv } from "../../../src/shell.ts";
import { OFFSET_BASE, PIECE_READS, READ_BYTES, readsPerPiece } from "./files.ts";

/**
 * What dd said, as `in`, `out` and `bytes`, the last empty where it does not count them. It may warn before it counts, and counts
 * whole and partial reads: `252+4 records in`.
 */
const DD_SAID = `
dd_said() {
  in=0 out=0 bytes= last= before=
  set -f; set -- $1; set +f
  for word do
    case "$last $word" in
      'records in') in=$((\${before%+*} + \${before#*+}));;
      'records out') out=$((\${before%+*} + \${before#*+}));;
      *[!0-9]*' bytes' | ' bytes') ;;
      *' bytes') bytes=$last;;
    esac
    before=$last last=$word
  done
}`;

/**
 * Moves the pipe on descriptor 3 into pieces. A piece ends after so many reads; a short one with the output. Where a read could not
 * be saved it waits until there is room for the next one before it reads on, so that a full disk takes one read and not all of them.
 */
const PUMP = `
exec 0<&3 3<&- 4>&- 5>&-
umask 077
window=$4 reads=$5 dd=$6 sleep=$8 wc=$9 at=${OFFSET_BASE} first= losses=0
${DD_SAID}
swallow_if_removed() { [ -e code ] || exec "$dd" bs=${READ_BYTES} of=/dev/null 2>/dev/null; }
nap() { "$sleep" "$1" 2>/dev/null || "$sleep" 1; }
while :; do
  while set -- o.*; [ -e "$1" ] && [ $((at - \${1#o.})) -ge $window ]; do nap 0.05; done
  said=$(LC_ALL=C "$dd" bs=${READ_BYTES} count=$reads of="o.$at" 2>&1)
  status=$?
  dd_said "$said"
  if [ $status -ne 0 ] || [ -z "$bytes" ]; then
    bytes=0
    [ ! -e "o.$at" ] || bytes=$("$wc" -c <"o.$at") || bytes=0
  fi
  at=$((at + bytes))
  if [ $status -eq 0 ]; then
    [ $in -eq $reads ] || break
    continue
  fi
  swallow_if_removed
  why=
  if [ $status -gt 128 ]; then why=killed; elif [ $in -gt $out ]; then why=full; fi
  if [ -n "$why" ]; then
    losses=$((losses + 1)) first=\${first:-$((at - ${OFFSET_BASE}))}
    printf '%-63s\\n' "$first $losses $why" 1<>lost
  fi
  until "$dd" if=/dev/zero of=room bs=${READ_BYTES} count=2 2>/dev/null; do
    : >room
    swallow_if_removed
    nap 0.2
  done
  : >room
done
printf '%-31s\\n' $((at - ${OFFSET_BASE})) 1<>end
`;

/**
 * Becomes the script's shell, and founds a session: enters the control group, says who it is before anything of the script has run,
 * and is the first to go when memory is short. Where a subshell is no process (ksh), the script does not start.
 */
const ENLIST = `
trap - HUP INT QUIT TERM
{ echo 500 >/proc/self/oom_score_adj; echo 0 >"$2"; } 2>/dev/null
IFS= read -r alloy_row </proc/self/stat
alloy_root() { set -- $alloy_row; [ $1 -ne $$ ] || exit 126; printf '%-63s\\n' "$1 \${22} $$" 1<>root; }
alloy_root
alloy_row=$7
cd /
unset OLDPWD
shift 9
set -- "$alloy_row" "$@"
unset alloy_row
exec "$@" >&4 2>&4 4>&- 5>&-
`;

/**
 * `$0` what it is called, `$1` directory of the script, `$2` door of its control group, `$3` door of the attendant's, `$4` window,
 * `$5` reads per piece, `$6` dd, `$7` setsid, `$8` sleep, `$9` wc, then the program. Descriptor 0 is the program's stdin; 3 and 4
 * are the ends of its output's pipe; 5 is held as long as the attendant is there, and it waits for its pump. It sets no variable
 * that the program would see. The program gets back the signals that it ignores: only the shell that gave them up can do that.
 */
const ATTEND = `# attends to a script of alloy-runner
cd "$1" || exit 70
{ echo 0 >"$3"; } 2>/dev/null
trap '' HUP INT QUIT TERM
(${PUMP}) &
exec 3<&-
(${ENLIST})
printf '%-31s\\n' $? 1<>code
exec 4>&-
wait
`;

/** Absolute paths: whoever runs as another account than the script must not look for them where that account says. */
export interface AttendantTools {
  readonly sh: string;
  readonly dd: string;
  readonly setsid: string;
  readonly sleep: string;
  readonly wc: string;
}

export interface AttendOptions {
  readonly tools: AttendantTools;
  /** The script's own directory, with its blank files. */
  readonly directory: string;
  /** Files that put whoever writes `0` into a control group. */
  readonly scriptDoor: string;
  readonly attendantDoor: string;
  readonly windowBytes: number;
}

/** Starts `argv` so that it, its output and its status outlive whoever asks for it. */
export function attended(argv: Argv, options: AttendOptions): Argv {
  const { tools, directory, scriptDoor, attendantDoor, windowBytes } = options;
  const { sh, dd, setsid, sleep, wc } = tools;
  const bounds = [String(windowBytes), String(Math.min(PIECE_READS, readsPerPiece(windowBytes)))];
  return [
    sh,
    "-c",
    ATTEND,
    "alloy-runner",
    directory,
    scriptDoor,
    attendantDoor,
    ...bounds,
    dd,
    setsid,
    sleep,
    wc,
    ...argv,
  ];
}
