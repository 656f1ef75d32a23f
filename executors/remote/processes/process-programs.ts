/**
 * POSIX sh that finds the processes of a job. Candidates are lines `pid parent group session start name`; the start is of use
 * only for comparing. With /proc all of it is known; with `ps` alone no session is, and a start cannot be ordered.
 *
 * Input: `$mark`; `$rootPid`, `$rootGroup`, `$rootSession`, `$rootStart` of what waits for the script's shell, which is none of
 * them (empty: unknown). Output: `$members`, numbers between blanks, and `$memberLines`, in the candidates' form.
 */
const FIND_MEMBERS = `
LC_ALL=C; export LC_ALL
set -f
newline='
'
# From \`pid (name) state parent group session …\`, the start as 22nd. Neither zombies nor the kernel's own have a group.
PROC_ROWS='s/^\\([0-9]*\\) (\\(.*\\)) [^ZXx] \\([0-9]*\\) \\([1-9][0-9]*\\) \\([0-9]*\\)\\( [-0-9]*\\)\\{15\\} \\([0-9]*\\) .*/\\1 \\3 \\4 \\5 \\7 \\2/p'
# From \`pid parent group state Sun Nov 22 14:37:01 2026 name\`.
PS_ROWS='s/^ *\\([0-9]*\\)  *\\([0-9]*\\)  *\\([0-9]*\\)  *[^Z ][^ ]*  *\\([^ ]*\\)  *\\([^ ]*\\)  *\\([^ ]*\\)  *\\([^ ]*\\)  *\\([^ ]*\\)  *\\(.*\\)/\\1 \\2 \\3 0 \\4_\\5_\\6_\\7_\\8 \\9/p'
proc_rows() {
  if command -v sed >/dev/null 2>&1; then sed -n "$PROC_ROWS"; return; fi
  while IFS= read -r line; do
    name=\${line#*\\(}; name=\${name%)*} pid=\${line%% *}
    set -f; IFS=' '; set -- \${line##*) }
    case $1$3 in Z*|X*|x*|?0) ;; *) [ $# -lt 20 ] || printf '%s %s\\n' "$pid $2 $3 $4 \${20}" "$name";; esac
  done
}
candidates() {
  set +f
  if [ -r /proc/self/stat ]; then
    lines=$(cd /proc && cat [0-9]*/stat 2>/dev/null | proc_rows)
  else
    lines=$(ps -axww -o pid=,ppid=,pgid=,state=,lstart=,ucomm= 2>/dev/null | sed -n "$PS_ROWS")
  fi
  set -f
}
# Never what this is, or the script's root, or what these were started by.
find_self() {
  self=' '
  for pid in $$ $rootPid; do
    while [ "\${pid:-0}" -gt 1 ]; do
      case $self in *" $pid "*) break;; esac
      self="$self$pid "
      eval "pid=\\$parent_$pid"
    done
  done
}
# Starts are longer numbers than some shells can count with.
since() { case $1$2 in *[!0-9]*|'') return 0;; esac; [ "0\${1%???}" -ge "0\${2%???}" ]; }
find_members() {
  candidates
  members=' ' memberLines= pool= unsure= mine=" $$ " rootHere= reused=
  IFS=$newline
  for line in $lines; do
    IFS=' '; set -- $line
    case $1,$2 in ,*|*,|*[!0-9,]*) continue;; esac
    eval "parent_$1=$2"
    if [ "$1" = "$rootPid" ]; then
      # Its number may have gone to somebody else.
      if [ "$5" = "$rootStart" ]; then rootHere=1; else reused=1; fi
    fi
    [ "$1" -gt 1 ] || continue
    [ -z "$rootPid" ] || since "$5" "$rootStart" || continue
    pool="$pool$line$newline"
  done
  IFS=' '
  find_self
  # What looks at the processes now is two generations away at most.
  for generation in 1 2; do
    IFS=$newline
    for line in $pool; do
      IFS=' '; set -- $line
      case $mine in *" $2 "*) mine="$mine$1 ";; esac
    done
  done
  IFS=$newline
  for line in $pool; do
    IFS=' '; set -- $line
    case $mine$self in *" $1 "*) continue;; esac
    if [ -n "$rootPid" ] && [ -z "$reused" ] && {
      { [ "$rootGroup" -gt 1 ] && [ "$3" = "$rootGroup" ]; } || { [ "$rootSession" -gt 1 ] && [ "$4" = "$rootSession" ]; }
    }; then
      members="$members$1 " memberLines="$memberLines$line$newline"
    else
      unsure="$unsure $1"
    fi
  done
  IFS=' '
  find_marked $unsure
  changed=1
  while [ -n "$changed" ]; do
    changed=
    IFS=$newline
    for line in $pool; do
      IFS=' '; set -- $line
      case $members$mine$self in *" $1 "*) continue;; esac
      case $marked in *" $1 "*) ;; *)
        case $members in *" $2 "*|*" $3 "*) ;; *)
          [ "$4" -gt 0 ] || continue
          case $members in *" $4 "*) ;; *) continue;; esac;;
        esac;;
      esac
      members="$members$1 " memberLines="$memberLines$line$newline" changed=1
    done
  done
  IFS=' '
}
# A process may say of itself that its environment has gigabytes; this is more than the kernel gives any to start with.
holds_mark() { (cd /proc && head -c 6291456 "$@") 2>/dev/null | tr '\\0' '\\n' | grep -q -F -e "$mark"; }
# Some at once first, because programs cost more than what they read.
find_marked() {
  marked=' '
  [ $# -gt 0 ] || return 0
  if [ -r /proc/self/stat ]; then
    if printf 'a\\0b' | head -c 3 2>/dev/null | tr '\\0' '\\n' 2>/dev/null | grep -q -F -e b 2>/dev/null; then
      IFS=' '
      while [ $# -gt 0 ]; do
        few= files=
        for pid do few="$few $pid" files="$files $pid/environ"; [ \${#few} -lt 100 ] || break; done
        for pid in $few; do shift; done
        holds_mark $files || continue
        for pid in $few; do ! holds_mark "$pid/environ" || marked="$marked$pid "; done
      done
    else
      for pid do
        case $( { cat "/proc/$pid/environ"; } 2>/dev/null) in *"$mark"*) marked="$marked$pid ";; esac
      done 2>/dev/null
    fi
  else
    case $(uname -s) in Darwin) options=-axwwE;; *) options=-axwwe;; esac
    all=$(ps $options -o pid=,command= 2>/dev/null)
    IFS=$newline
    for line in $all; do
      case " $line " in *" $mark"*) IFS=' '; set -- $line; marked="$marked$1 ";; esac
    done
    IFS=' '
  fi
}
`;

/**
 * `$1` mark, `$2`–`$5` pid, group, session and start of the root, `$6` grace and `$7` limit in milliseconds. Prints a
 * line `E|K|S pid name` for each that is gone, had to be killed, is still there; then `end`.
 */
export const END_TREE = `${FIND_MEMBERS}
mark=$1 rootPid=$2 rootGroup=$3 rootSession=$4 rootStart=$5 graceMs=$6 limitMs=$7
seen=' ' seenLines= killed=' '
nap() {
  case $1 in 20) length=0.02;; 50) length=0.05;; 100) length=0.1;; *) length=0.2;; esac
  if sleep $length 2>/dev/null; then waited=$((waited + $1)); else sleep 1; waited=$((waited + 1000)); fi
}
longer() { case $pause in 20) pause=50;; 50) pause=100;; *) pause=200;; esac; }
note() {
  fresh=
  IFS=$newline
  for line in $memberLines; do
    IFS=' '; set -- $line
    case $seen in *" $1:$5 "*) continue;; esac
    seen="$seen$1:$5 " seenLines="$seenLines$line$newline" fresh="$fresh $1"
  done
  IFS=' '
}
send() { name=$1; shift; for pid do kill -"$name" "$pid" 2>/dev/null; done; }
waited=0 pause=20
find_members
# It would look for leftovers now, and nobody waits for what it says.
[ -z "$rootHere" ] || kill -KILL "$rootPid" 2>/dev/null
while [ "$members" != ' ' ] && [ $waited -lt "$graceMs" ]; do
  note
  send TERM $fresh; send CONT $fresh
  nap $pause; longer
  find_members
done
waited=0 pause=20
while [ "$members" != ' ' ] && [ $waited -lt "$limitMs" ]; do
  for pass in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    frozen=$members
    note; send STOP $members
    find_members
    stable=1
    for pid in $members; do case $frozen in *" $pid "*) ;; *) stable=;; esac; done
    [ -z "$stable" ] || break
  done
  note
  for pid in $members; do case $killed in *" $pid "*) ;; *) killed="$killed$pid ";; esac; done
  send KILL $members
  nap $pause; longer
  find_members
done
IFS=$newline
for line in $seenLines; do
  IFS=' '; set -- $line
  pid=$1; shift 5
  case $members in
    *" $pid "*) printf 'S %s %s\\n' "$pid" "$*";;
    *) printf 'E %s %s\\n' "$pid" "$*"
      case $killed in *" $pid "*) printf 'K %s %s\\n' "$pid" "$*";; esac;;
  esac
done
echo end
`;

/** The shell's own group, session and start, as the candidates have them. */
const OWN_ROW = `
if [ -r /proc/$$/stat ]; then
  row=; while IFS= read -r part || [ -n "$part" ]; do row="$row $part"; done </proc/$$/stat
  set -f; set -- \${row##*)}
  printf '%s %s %s' "$3" "$4" "\${20}"
else
  set -f; set -- $(ps -o pgid=,lstart= -p $$ 2>/dev/null)
  group=$1; shift; IFS=_; printf '%s 0 %s' "$group" "$*"
fi
`;

/** Waits while something that was left has the output open: until it is gone, or two seconds are over. */
const LINGER = `
holds_output() {
  for pid in $members; do
    for fd in 1 2; do [ ! "/proc/$pid/fd/$fd" -ef "/proc/$$/fd/1" ] || return 0; done
  done
  return 1
}
tick=0
while [ $tick -lt 20 ] && holds_output; do
  sleep 0.1 2>/dev/null || { sleep 1; tick=$((tick + 9)); }
  tick=$((tick + 1))
  find_members
done
`;

/** How many processes the kernel of this machine has killed for want of memory; nothing where it does not count. */
const KILLED = "sed -n 's/^oom_kill //p' /proc/vmstat 2>/dev/null";

const attend = (afterwards: string): string => `
{ echo 500 >/proc/self/oom_score_adj; } 2>/dev/null
printf 'alloy-runner %s root %s %s\\n' "$1" $$ "$(${OWN_ROW})"
set -- "$(${KILLED})" "$@"
if [ -n "$7" ]; then
  (shift 7; exec "$@" 2>&1 </dev/null)
  code=$?
  rm -f "$7"
else
  (shift 7; exec "$@" 2>&1)
  code=$?
fi
printf '\\nalloy-runner used\\n' >&2
times >&2
[ $code -eq 0 ] || [ -z "$1" ] || printf 'alloy-runner killed %s %s %s\\n' "$1" "$(${KILLED})" "$(sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo)" >&2
set -- $(${OWN_ROW})
mark=$ALLOY_RUNNER_JOB_KEY rootPid=$$ rootGroup=$1 rootSession=$2 rootStart=$3
mark=ALLOY_RUNNER_JOB_KEY=$mark
${FIND_MEMBERS}
find_members
${afterwards}
printf '\\nalloy-runner left %s\\n' "$members" >&2
exit $code
`;

/** Runs the shell and looks for what it left. Sets no variable before: it might be one of the environment. */
export const ATTEND = attend("");
/** The same where the output ends with this program and not with the last that holds it open. */
export const ATTEND_WRITERS = attend(LINGER);

/**
 * Starts a script's shell in a session of its own and hands on its status. `$1` nonce, `$2` mark, `$3` setsid or nothing, `$4`
 * sh, `$5` `ATTEND`, `$6` file for the script or nothing, `$7`… the shell. The first line of stdout is `alloy-runner NONCE` and
 * `root PID GROUP SESSION START`, `missing`, or `unwritable`. stderr ends with what `farewell.ts` reads.
 * With SHLVL, bash knows that it is nobody's console: otherwise it reads ~/.bashrc on some stdins, and the ~/.bash_logout of
 * Debian clears a screen that is not there, which spoils the status of `exit 7`.
 */
export const LAUNCH = `
export "$2" SHLVL=1
command -v "$7" >/dev/null 2>&1 || { printf 'alloy-runner %s missing\\n' "$1"; exit 127; }
if [ -n "$6" ]; then
  (umask 077 && mkdir -p "\${6%/*}" && cat >"$6") || { printf 'alloy-runner %s unwritable\\n' "$1"; exit 126; }
  set -- "$@" "$6"
fi
\${3:+"$3"} "$4" -c "$5" alloy-runner "$@"
exit $?
`;
