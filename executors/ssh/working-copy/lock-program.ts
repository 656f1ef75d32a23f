/**
 * What programs share that come to the claims of a runner's jobs on a far host. Each claim and the lock name the program that
 * made them (pid, its start, boot, host), so that those of a dead one are void.
 */

/** Functions that say who is alive, remove, and lock the directory `$claims` for the program `$me`. */
export const LOCKING = `fail() { printf 'failed %s\\n' "$*"; exit 1; }
started() {
  since=-
  { IFS= read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
  line=\${line##*") "}
  set -- $line
  shift 19
  since=$1
}
# pid, start, boot and host of a program, and a file whose time is its heartbeat
alive() {
  [ "$4" = "$node" ] || { [ -n "$(find "$5" -prune -mmin -10 2>/dev/null)" ]; return; }
  [ "$3" = "$boot" ] || return 1
  [ -d "/proc/$1" ] || kill -0 "$1" 2>/dev/null || return 1
  started "$1"
  [ "$2" = - ] || [ "$since" = - ] || [ "$2" = "$since" ]
}
discard() {
  [ -e "$1" ] || [ -L "$1" ] || return 0
  rm -rf "$1" 2>/dev/null && return 0
  find "$1" -xdev -type d ! -perm -700 -exec chmod u+rwx {} \\; 2>/dev/null
  rm -rf "$1"
}
unlock() { rm -f "$claims/.lock"; }
lock() {
  tries=0
  until ln -s "$me" "$claims/.lock" 2>/dev/null; do
    tries=$((tries + 1))
    held=$(readlink "$claims/.lock" 2>/dev/null)
    if [ -n "$held" ] && ! alive $held "$claims/.lock"; then
      mv "$claims/.lock" "$claims/.dead.$$" 2>/dev/null && {
        [ "$(readlink "$claims/.dead.$$")" = "$held" ] || ln -s "$(readlink "$claims/.dead.$$")" "$claims/.lock" 2>/dev/null
        rm -f "$claims/.dead.$$"
        continue
      }
    fi
    mkdir -p "$claims" 2>/dev/null
    [ -d "$claims" ] && [ -w "$claims" ] || fail "cannot write to $claims"
    [ "$tries" -lt 600 ] || fail "$claims/.lock is held for too long by process $held; remove it if that is none of a runner"
    sleep 0.1 2>/dev/null || sleep 1
  done
}
`;

/** Sets `$node`, `$boot` and `$me`. */
export const IDENTITY = `node=$(uname -n)
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || sysctl -n kern.bootsessionuuid 2>/dev/null || echo none)
started $$
me="$$ $since $boot $node"
`;
