import type { MainProgram } from "./main-program.ts";
import type { Places } from "./places.ts";

/**
 * Programs of the helper container that make a job's directories and hand them over, as root. Other jobs may work in the same
 * directory of the host meanwhile, so no path is gone by: each step enters one directory, makes sure that it is where it seems
 * to be, and then works on `.` and on names in it. A link that was planted on the way, earlier or just now, is never followed.
 * The job's private directory is the mount point of a new volume: there is nothing in it, and no other job has it.
 */

/** `$base` is the builds directory, `$at` where it is, without links. */
const PREPARE = `
uid=$1 gid=$2 base=$3 root=$4 tmp=$5 keep=$6 proof=$7; shift 7
newline='
'
# Other volumes are not entered. A blank is octal there.
mounts=$newline$(while read -r id parent device top place rest; do printf '%b\\n' "$place"; done 2>/dev/null </proc/self/mountinfo)$newline
start() { cd -P -- "$1" && at=$(pwd -P); }
step() { at=\${at%/}/$1; cd -P "./$1" && [ "$(pwd -P)" = "$at" ]; }
moved() { echo "$at is not where it was: something moves directories about" >&2; exit 1; }
own() { chown -h "$uid:$gid" "$@"; }
give() { [ "$uid" -le 0 ] || own .; }
# Gives what is in here and below, real directories of this volume only. Inner things come first.
give_all() {
  set --
  for one in ./* ./.[!.]* ./..?*; do
    one=\${one#./}
    if [ -d "./$one" ] && [ ! -L "./$one" ]; then
      case $mounts in *"$newline\${at%/}/$one$newline"*) continue;; esac
      (step "$one" && give_all) || return 1
    elif [ ! -L "./$one" ] && [ ! -e "./$one" ]; then continue
    fi
    set -- "$@" "./$one"
    [ $# -lt 500 ] || { own "$@" || return 1; set --; }
  done
  [ $# -eq 0 ] || own "$@"
}
# Into a place below the base, which is made where it is missing.
walk() {
  start "$base" || exit 1
  rest=$1
  while [ -n "$rest" ]; do
    name=\${rest%%/*}
    if [ -L "./$name" ] || { [ -e "./$name" ] && [ ! -d "./$name" ]; }; then rm -f "./$name" || exit 1; fi
    [ -d "./$name" ] || mkdir "./$name" || exit 1
    step "$name" || moved
    [ "$at" = "$kept" ] || give || exit 1
    case $rest in */*) rest=\${rest#*/};; *) rest=;; esac
  done
}
prepare() {
  umask 022
  mkdir -p -- "$base" && start "$base" || exit 1
  kept=\${keep:+\${at%/}/$keep}
  [ -n "$keep" ] || give || exit 1
  # Given last: without CAP_FOWNER (\`cap_drop\`) root changes only what is root's.
  start "$tmp" || exit 1
  if [ -n "$proof" ]; then chmod 711 . && mkdir ./started && chmod 1733 ./started || exit 1
  else chmod 700 . || exit 1
  fi
  give || exit 1
  walk "$root"
  [ "$uid" -gt 0 ] || return 0
  # What an earlier user left; most times there is nothing.
  if [ -n "$(find . -xdev ! -user "$uid" 2>&1 | head -n 1)" ]; then give_all || exit 1; fi
  for place do
    start "$place" || exit 1
    # One that lies in the checkout could have been moved by those who own that.
    case $place in "$base"/*) [ "$at" = "$place" ] || moved;; esac
    chmod 777 . || exit 1
  done
}
`;

export interface PreparePlaces {
  readonly places: Places;
  /** Of the job's scripts; 0: everything stays root's. */
  readonly uid: number;
  readonly gid: number;
  /** Directories of volumes that everybody may write to. */
  readonly open: readonly string[];
}

function args({ places, uid, gid, open }: PreparePlaces, proof: boolean): string[] {
  const { buildsDir, root, tmpDir, shared } = places;
  const checkout = root.slice(buildsDir.length + 1);
  // `<builds_dir>/<runner id>` is there for all jobs of the runner, whoever they run as.
  const keep = shared ? (checkout.split("/")[0] ?? "") : "";
  return [String(uid), String(gid), buildsDir, checkout, tmpDir, keep, proof ? "yes" : "", ...open];
}

/** @param proof whether whoever starts in the build container is to show who it is: `showAccount` */
export function preparePlaces(options: PreparePlaces, proof: boolean): MainProgram {
  return { script: `${PREPARE}prepare "$@"`, args: args(options, proof) };
}

/**
 * For a build container that is root's, whose ENTRYPOINT may go on as somebody else: that one makes a file, whose owner is the
 * kernel's word, as no answer of the image is. Who is root still may do what `handOver` does otherwise: the directory is closed.
 */
export function showAccount({ tmpDir }: Places): MainProgram {
  const script = `cd "$1" || exit 0
(umask 077; : >./started/account) 2>/dev/null
if chmod 700 . 2>/dev/null; then rm -f ./started/account && rmdir ./started; fi
:`;
  return { script, args: [tmpDir] };
}

/** Gives the places to whoever made that file, and prints uid and gid; root's stays root's. */
export function handOver(options: PreparePlaces): MainProgram {
  const script = `${PREPARE}
start "$tmp" && [ -d ./started ] && step started && [ -f ./account ] && [ ! -L ./account ] || exit 0
owner() { set -f; set -- $(ls -nd ./account); set +f; uid=$3 gid=$4; }
owner
[ "$uid" -gt 0 ] || exit 0
rm -f ./account && start "$tmp" || exit 1
# More in it is that one's doing, and stays.
rmdir ./started 2>/dev/null
prepare "$@"
echo "$uid $gid"`;
  return { script, args: args(options, false) };
}
