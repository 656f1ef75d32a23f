import { IDENTITY, LOCKING } from "./lock-program.ts";

const FUNCTIONS = `umask 022
export LC_ALL=C
trap '' HUP
${LOCKING}# Shells say of a full disk what they like.
full() {
  set -- $(df -Pk "$1" 2>/dev/null | tail -n 1)
  [ "\${4:-100}" -gt 16 ] 2>/dev/null || printf ' (No space left on device)'
}
members() {
  if [ -d /proc/self ]; then
    grep -lsF -e "$1" /proc/[0-9]*/environ 2>/dev/null | sed 's|^/proc/||; s|/environ$||'
  else
    ps axeww -o pid= -o command= 2>/dev/null | grep -F -e "$1" | grep -vF -e .claims | sed 's/^ *//; s/ .*//'
  fi
}
# Whether somebody works by a claim still.
holds() {
  owner=
  { IFS= read -r owner <"$1/owner"; } 2>/dev/null
  [ -n "$owner" ] || return 1
  key=\${1##*/}
  alive $owner "$1/owner" || [ -n "$(members "$name=\${key%.*}.")" ]
}
# Ours stands before we look: of two that come at the same time, at least one sees the other.
choose() {
  there=$1
  while [ ! -e "$there" ] && [ ! -L "$there" ] && [ -n "$there" ]; do there=\${there%/*}; done
  top=$(cd -P -- "$builds" && pwd -P) && real=$(cd -P -- "\${there:-/}" 2>/dev/null && pwd -P) || { echo "refused is no directory"; return; }
  case $real/ in "$top"/*) ;; *) printf 'refused leads out of the builds directory to %s\n' "$real"; return ;; esac
  real=$real\${1#"$there"}
  first=\${real#"$top"/}
  first=$top/\${first%%/*}
  case $real in
    "$top") echo "refused is the builds directory"; return ;;
    *) [ ! -d "$first/.claims" ] || { printf 'refused is in %s, where a runner keeps the directories of its jobs\n' "$first"; return; } ;;
  esac
  printf '%s\n' "$real" >"$claim/chosen" || { echo "refused cannot be claimed"; return; }
  for each in "$builds"/*/.claims/*/chosen; do
    [ -f "$each" ] && [ "$each" != "$claim/chosen" ] || continue
    place=
    { IFS= read -r place <"$each"; } 2>/dev/null
    case $real/ in "\${place:-?}"/*) ;; *) case $place/ in "$real"/*) ;; *) continue ;; esac ;; esac
    holds "\${each%/chosen}" || continue
    rm -f "$claim/chosen"
    echo "refused is where another job works at the moment"
    return
  done
  echo chosen
}
# Nobody else has this runner's id: when no job has a claim any more, all of it goes, in one step for whoever comes just now.
vanish() {
  discard "$root" 2>/dev/null
  lock
  for other in "$claims"/*/; do
    [ ! -d "$other" ] || { unlock; return 0; }
  done
  mv "$base" "$base.gone.$$" 2>/dev/null || { unlock; return 0; }
  discard "$base.gone.$$" 2>/dev/null
}
# Another program may have taken the claim over.
mine() {
  owner=
  { IFS= read -r owner <"$claim/owner"; } 2>/dev/null
  [ "$owner" = "$me" ]
}
`;

const PLACE = `case $1 in
  /*) builds=$1 ;;
  *) [ -n "\${HOME-}" ] && [ -d "$HOME" ] || fail "the account has no home directory for its builds"
     builds=\${HOME%/}/\${1#"~/"} ;;
esac
base=$builds/$2
claims=$base/.claims
`;

/** Sets `$name`, and what `IDENTITY` sets. */
const NAMES = `name=\${6%%=*}
${IDENTITY}
`;

const ANNOUNCE = `printf 'slot %s\\nroot %s\\ntmp %s\\nclaim %s\\nbuilds %s\\nnode %s\\nready\\n' "$slot" "$root" "$tmp" "$claim" "$builds" "$node"
`;

const HOLD = `word=
while IFS= read -r word; do
  case $word in
    beat) touch "$claim/owner" 2>/dev/null ;;
    "chosen "*) choose "\${word#"chosen "}" ;;
    bye | leave) [ "\${11:-0}" = 0 ] || mine || { echo gone; exit 0; } ;;
  esac
  case $word in
    bye)
      if [ -n "$(members "$6")" ]; then echo left; continue; fi ;;
  esac
  case $word in
    bye | leave)
      why=$(discard "$tmp" 2>&1) || { rm -rf "$claim"; fail "cannot remove $tmp: $why"; }
      rm -rf "$claim"
      [ "$8" != ephemeral ] || (vanish) >/dev/null 2>&1
      echo done
      exit 0 ;;
  esac
done
# Whoever dials again, or comes for a runner that is gone, takes the claim over by writing its own name into it.
late=0
while [ "$late" -lt "\${11:-0}" ] && mine; do
  sleep 1
  late=$((late + 1))
  [ $((late % 60)) -ne 0 ] || touch "$claim/owner" 2>/dev/null
done
if [ "\${11:-0}" -gt 0 ]; then
  (lock) >/dev/null 2>&1
  mine || { unlock; exit 0; }
  : >"$claim/ended"
  unlock
fi
waited=0
while found=$(members "$6") && [ -n "$found" ] && [ "$waited" -le $(($7 + 10)) ]; do
  if [ "$waited" -lt "$7" ]; then
    [ "$waited" -gt 0 ] || { kill -TERM $found; kill -CONT $found; } 2>/dev/null
  else
    kill -KILL $found 2>/dev/null
  fi
  sleep 1
  waited=$((waited + 1))
done
discard "$tmp" 2>/dev/null
rm -rf "$claim"
[ "$8" != ephemeral ] || (vanish) >/dev/null 2>&1
`;

/**
 * Holds a job's working copy on the far host, for as long as this program runs there.
 *
 * `$1` builds directory, `$2` runner id, `$3` the project's path, `$4` its other name, `$5` job key, `$6` mark of the job's
 * processes, `$7` seconds from SIGTERM to SIGKILL, `$8` `ephemeral`: the working copy goes with the job; `$9` what the names
 * of the job's directories of a slot end with, `${10}` the endings that there are, `${11}` for how many seconds after its input has ended
 * without a farewell somebody may still take the claim over, by `RESUME_PROGRAM`. On stdin: `beat` once a minute; `bye` at the
 * end, which is answered by `left` where processes of the job are left, else by `done`; `leave` does not look for any.
 * `chosen PATH` asks for a directory inside of the builds directory that the job wants its sources in, and is answered by `chosen`, or by
 * `refused` and why.
 *
 * Below `<builds>/<runner id>/.claims` each running job has a directory: `root` is the checkout it works in (without `$9`: a slot has one job), `owner` names this
 * program (pid, its start, boot, host), `chosen` is the real path of what the job chose, so that a claim whose program is gone is void; claims of other hosts that share the
 * directory count by their heartbeat. `.lock` is a link, which is made in one step or not at all.
 * When the input ends without a farewell and nobody has taken the claim over in time, nobody will stop the job: then this does it.
 */
export const CLAIM_PROGRAM = `${FUNCTIONS}${PLACE}why=$(mkdir -p "$claims" 2>&1) || fail "cannot make the directory $claims: $why"
${NAMES}lock
live=
for dir in "$claims"/*/; do
  dir=\${dir%/}
  [ -d "$dir" ] || continue
  root=
  tmp=
  owner=
  { IFS= read -r root <"$dir/root"; IFS= read -r tmp <"$dir/tmp"; IFS= read -r owner <"$dir/owner"; } 2>/dev/null
  key=\${dir##*/}
  key=\${key%.*}
  if [ -n "$owner" ] && alive $owner "$dir/owner"; then live="$live$root
"
  elif [ -n "$owner" ] && [ -n "$(members "\${6%%=*}=$key.")" ]; then live="$live$root
"
  else
    case $tmp in "$base"/*.tmp/*) discard "$tmp" ;; esac
    rm -rf "$dir"
  fi
done
slot=0
while :; do
  path=$3
  above=$3
  while :; do
    case $above in */*) above=\${above%/*} ;; *) break ;; esac
    for ending in '' \${10}; do
      if [ -e "$base/$slot$ending/$above/.git" ]; then path=$4; break 2; fi
    done
  done
  taken=
  rest=$live
  while [ -n "$rest" ]; do
    root=\${rest%%"
"*}
    rest=\${rest#*"
"}
    case $slot/$path/ in "$root"/*) taken=1; break ;; esac
    case $root/ in "$slot/$path"/*) taken=1; break ;; esac
  done
  [ -n "$taken" ] || break
  slot=$((slot + 1))
done
claim=$claims/$5.$$
root=$base/$slot$9/$path
tmp=$base/$slot$9.tmp/$path
why=$({ mkdir "$claim" && printf '%s\\n' "$slot/$path" >"$claim/root" && printf '%s\\n' "$tmp" >"$claim/tmp" &&
  printf '%s\\n' "$me" >"$claim/owner"; } 2>&1) || { rm -rf "$claim"; unlock; fail "cannot claim a working copy in $claims: $why$(full "$claims")"; }
unlock
why=$({ discard "$tmp" && mkdir -p "\${tmp%/*}" "\${root%/*}" && mkdir -m 700 "$tmp"; } 2>&1) || {
  rm -rf "$claim"
  fail "cannot make the directory $tmp: $why$(full "$claims")"
}
${ANNOUNCE}
${HOLD}`;

/**
 * Takes over the claim `$3` of the job `$5`, whose connection or runner is gone, and holds it as `CLAIM_PROGRAM` does, with the same further
 * arguments (`$4` and `${10}` mean nothing). Prints `gone` where there is none any more: it was let go, was ended for want of anybody who
 * came for it, or the host was restarted.
 */
export const RESUME_PROGRAM = `${FUNCTIONS}${PLACE}${NAMES}[ -d "$claims" ] || { echo gone; exit 0; }
of_this_boot() { [ "$3" = "$boot" ] && [ "$4" = "$node" ]; }
lock
claim=$claims/$3
owner=
{ IFS= read -r owner <"$claim/owner"; } 2>/dev/null
[ -n "$owner" ] && [ ! -e "$claim/ended" ] && of_this_boot $owner || { unlock; echo gone; exit 0; }
place=
tmp=
{ IFS= read -r place <"$claim/root"; IFS= read -r tmp <"$claim/tmp"; } 2>/dev/null
why=$({ printf '%s\\n' "$me" >"$claim/owner.new" && mv "$claim/owner.new" "$claim/owner"; } 2>&1) || {
  unlock
  fail "cannot take over the working copy in $claims: $why$(full "$claims")"
}
unlock
slot=\${place%%/*}
root=$base/$slot$9/\${place#*/}
${ANNOUNCE}
${HOLD}`;

/**
 * Removes what a dead job has left besides its processes. `$1` builds directory, `$2` runner id, `$3` job key, `$4` `ephemeral`:
 * with all that its runner had there.
 */
export const FORGET_PROGRAM = `case $1 in /*) builds=$1 ;; *) builds=\${HOME%/}/\${1#"~/"} ;; esac
base=$builds/$2
for claim in "$base/.claims/$3".*; do
  [ -d "$claim" ] || continue
  tmp=
  owner=
  { IFS= read -r tmp <"$claim/tmp"; IFS= read -r owner <"$claim/owner"; } 2>/dev/null
  case $tmp in "$base"/*.tmp/*)
    if [ -e "$tmp" ]; then
      rm -rf "$tmp" 2>/dev/null || { find "$tmp" -xdev -type d ! -perm -700 -exec chmod u+rwx {} \\; 2>/dev/null; rm -rf "$tmp"; } || exit 1
      echo removed
    fi ;;
  esac
  rm -rf "$claim"
  # Its program waits for a runner that is dead; its command line names the job, that of a stranger with its number does not.
  pid=\${owner%% *}
  [ -n "$pid" ] || continue
  if [ -d /proc/self ]; then line=$(tr '\\0' ' ' <"/proc/$pid/cmdline"); else line=$(ps -ww -o command= -p "$pid"); fi 2>/dev/null
  case $line in *"$3"*) kill -9 "$pid" 2>/dev/null ;; esac
done
if [ "$4" = ephemeral ] && [ -d "$base" ]; then
  for claim in "$base"/.claims/*/; do
    [ ! -d "$claim" ] || exit 0
  done
  find "$base" -xdev -type d ! -perm -700 -exec chmod u+rwx {} \\; 2>/dev/null
  rm -rf "$base"
fi
exit 0
`;
