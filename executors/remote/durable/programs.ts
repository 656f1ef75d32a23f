import { OFFSET_BASE, PIECE_READS, READ_BYTES, WINDOW_BYTES } from "../../common/durable/files.ts";

/**
 * A script whose output outlives the connection that it was started over: an attendant runs it, a pump writes what it prints into
 * files that are named after the offset of their first byte, and a follower reads on from any offset. Plain sh, dd, cat.
 */

const PUMP = `
pump() {
  at=0 in=${PIECE_READS}
  while [ $in -ge ${PIECE_READS} ]; do
    while set -- "$dir"/o.*; low=\${1##*.}; [ -e "$1" ] && [ $((at + ${OFFSET_BASE} - low)) -ge ${WINDOW_BYTES} ]; do
      sleep 0.05 2>/dev/null || sleep 1
    done
    piece=$dir/o.$((${OFFSET_BASE} + at))
    trouble=
    said=$(LC_ALL=C dd bs=${READ_BYTES} count=${PIECE_READS} of="$piece" 2>&1) || trouble=full
    set -f; set -- $said; set +f
    in=0 before= last=
    for word do
      [ "$last $word" != 'records in' ] || in=$((in + \${before%+*} + \${before#*+}))
      before=$last last=$word
    done
    size=$(wc -c <"$piece") || break
    [ $size -gt 0 ] || rm -f "$piece"
    at=$((at + size))
    [ -z "$trouble" ] || break
  done
  echo "$at $trouble" 1<>"$dir/end.new"; mv "$dir/end.new" "$dir/end"
}`;

/**
 * `$1` directory, then the program. Its pid is what tells whether it lives. What will be said at the end has its place on the disk
 * from the beginning: there may be no other by then.
 */
const ATTENDANT = `
dir=$1; shift
trap '' HUP INT QUIT TERM
for last in code end; do echo '                              ' >"$dir/$last.new" || exit; done
echo "$$ $(start_of $$)" >"$dir/attendant.new"; mv "$dir/attendant.new" "$dir/attendant"
exec 3<"$dir/in" && rm -f "$dir/in"
{
  (trap - HUP INT QUIT TERM; exec "$@" <&3 3<&- 2>"$dir/e")
  echo $? 1<>"$dir/code.new"; mv "$dir/code.new" "$dir/code"
} | { exec 3<&-; pump; }
:`;

/** When a process was started, which tells it from a later one of the same number. */
const START_OF = `
start_of() {
  row=; while IFS= read -r part || [ -n "$part" ]; do row="$row $part"; done 2>/dev/null <"/proc/$1/stat"
  set -f; set -- \${row##*)}; set +f
  echo "\${20:-0}"
}`;

const ATTEND = `${START_OF}${PUMP}${ATTENDANT}`;

/**
 * `$1` directory of the script, `$2` bytes of stdin, `$3` directories that are done with, one a line, `$4` `ATTEND`, then the
 * program that gets stdin's bytes. Nothing is started unless all bytes are there; started once, however often it is asked for.
 */
export const START = `
dir=$1 bytes=$2 done=$3 attend=$4; shift 4
IFS='
'
set -f; [ -z "$done" ] || rm -rf $done; set +f
unset IFS
if [ ! -d "$dir/started" ]; then
  umask 077
  mkdir -p "\${dir%/*}" && chmod 711 "\${dir%/*}" 2>/dev/null
  [ -d "$dir" ] || mkdir "$dir" || exit 95
  chmod 777 "$dir"
  cat >"$dir/in.$$" || exit 95
  [ "$(wc -c <"$dir/in.$$")" -eq "$bytes" ] || { rm -f "$dir/in.$$"; exit 94; }
  mv "$dir/in.$$" "$dir/in"
  if mkdir "$dir/started" 2>/dev/null; then
    umask 022
    # A script that begins keeps the terminal's signals as they were.
    if command -v setsid >/dev/null 2>&1; then setsid sh -c "$attend" alloy-runner "$dir" "$@" </dev/null >/dev/null 2>&1 &
    else (trap '' HUP; exec sh -c "$attend" alloy-runner "$dir" "$@") </dev/null >/dev/null 2>&1 &
    fi
  fi
else cat >/dev/null
fi
tick=0
while [ ! -e "$dir/attendant" ] && [ $tick -lt 500 ]; do sleep 0.01 2>/dev/null || sleep 1; tick=$((tick + 1)); done
[ -e "$dir/attendant" ] || exit 96
rm -f "$dir/in.$$"
`;

export const attendant: string = ATTEND;

/** `$1` directory. 0: the attendant lives, or the end is known. 1: it is gone, and nothing more will be known. */
export const ALIVE = `${START_OF}
[ -e "$1/end" ] && [ -e "$1/code" ] && exit 0
{ read -r pid start <"$1/attendant"; } 2>/dev/null || exit 1
now=$(start_of "$pid")
[ "$now" = "$start" ] && kill -0 "$pid" 2>/dev/null && exit 0
# It may have ended since.
[ -e "$1/end" ] && [ -e "$1/code" ]
`;

/**
 * `$1` directory, `$2` offset that is wanted next, `$3` bytes after which it ends, `$4` whether the status is known already,
 * `$5` seconds of silence after which it ends, `$6` offset below which nothing will be asked for again. The last line of stderr: `followed CODE END TROUBLE`, the first two `-` where not
 * known, the last empty or `full`; before it what the program said of itself.
 */
export const FOLLOW = `
dir=$1 at=$2 most=$3 known=$4 patience=$5 settled=$6
code=- end=- trouble= sent=0 quiet=0 nap=20
# A script may put files of any name here: shells run what stands in brackets in their arithmetic, and read through links.
is_piece() {
  case \${1#"$dir"/o.} in *[!0-9]* | ??????????????*) return 1;; esac
  [ -f "$1" ] && [ ! -h "$1" ]
}
next_of() { # first piece that begins at $1 or later, but for its own
  next=
  for piece in "$dir"/o.*; do
    is_piece "$piece" || continue
    other=$((\${piece##*.} - ${OFFSET_BASE}))
    if [ $other -gt "$1" ]; then next=$piece; return; fi
  done
}
gone() { printf '\\nfollowed gone gone \\n' >&2; exit 0; }
look() {
  [ -d "$dir/started" ] || gone
  [ ! -e "$dir/end" ] || { read -r end trouble <"$dir/end"; } 2>/dev/null
  [ ! -e "$dir/code" ] || { read -r code <"$dir/code"; } 2>/dev/null
}
finish() {
  [ "$code" = - ] || tail -c 8192 "$dir/e" >&2 2>/dev/null
  printf '\\nfollowed %s %s %s\\n' "$code" "$end" "$trouble" >&2
  exit 0
}
# What is settled goes; what is below the offset has arrived.
last=
for piece in "$dir"/o.*; do
  is_piece "$piece" || continue
  begins=$((\${piece##*.} - ${OFFSET_BASE}))
  [ $begins -le "$at" ] || break
  [ -z "$last" ] || [ $begins -gt "$settled" ] || rm -f "$last"
  last=$piece
done
current=
grace=0
waits= passed=0
has_more() { # what is only NULs shows with the next look that is a whole one
  probe=
  if [ $passed -lt 10 ] && ! IFS= read -r probe <&4 && [ -z "$probe" ]; then
    passed=$((passed + 1))
    return 1
  fi
  passed=0
}
while :; do
  look
  if [ -z "$current" ]; then
    if [ -n "$last" ] && [ -e "$last" ]; then current=$last last=
    else
      next_of $((at - 1))
      current=$next
    fi
    if [ -n "$current" ]; then
      exec 3<"$current" 4<"$current"
      begins=$((\${current##*.} - ${OFFSET_BASE}))
      [ "$at" -le $begins ] || { tail -c +$((at - begins + 1)) <&3; }
    fi
  fi
  next=
  if [ -n "$current" ]; then
    next_of "$begins"
    # Each program that is started in vain is what a quiet script costs: where it has been quiet for long, the shell looks by itself,
    # at the end of the piece.
    [ $nap -lt 150 ] || [ -n "$waits" ] || { cat <&4 >/dev/null; waits=yes passed=10; }
    if [ -n "$next" ] || [ "$code$end" != -- ] || [ $nap -lt 150 ] || has_more; then
      size=$(wc -c <"$current")
      [ $((begins + size)) -le "$at" ] || { cat <&3; at=$((begins + size)) quiet=0 nap=20 waits=; }
    fi
  fi
  if [ -n "$next" ]; then
    sent=$((sent + size))
    exec 3<&- 4<&-
    waits=
    current=$next begins=$((\${next##*.} - ${OFFSET_BASE}))
    exec 3<"$current" 4<"$current"
    # More is there already: the status has to wait for it.
    [ $sent -lt "$most" ] || { code=-; finish; }
    continue
  fi
  if [ "$end" != - ]; then
    [ "$code$trouble" = - ] || finish
  fi
  if [ "$code" != - ] && [ "$known" != yes ]; then
    # The output's end comes with it, unless something that was left holds it.
    [ $grace -lt 5 ] || finish
    grace=$((grace + 1)) nap=20
  fi
  [ $quiet -lt $((patience * 1000)) ] || finish
  case $nap in
    20) sleep 0.02 2>/dev/null || { sleep 1; quiet=$((quiet + 1000)); }; quiet=$((quiet + 20)); [ $quiet -lt 400 ] || nap=60;;
    60) sleep 0.06; quiet=$((quiet + 60)); [ $quiet -lt 3000 ] || nap=150;;
    150) sleep 0.15; quiet=$((quiet + 150)); [ $quiet -lt 30000 ] || nap=300;;
    *) sleep 0.3; quiet=$((quiet + 300));;
  esac
done
`;
