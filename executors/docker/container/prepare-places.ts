import { WALK } from "../../common/places/walk-program.ts";
import type { MainProgram } from "./main-program.ts";
import type { Places } from "./places.ts";

/**
 * Programs of the helper container that make a job's directories and hand them over, as root (`walk-program.ts`).
 * The job's private directory is the mount point of a new volume: there is nothing in it, and no other job has it.
 */

const PREPARE = `
uid=$1 gid=$2 base=$3 root=$4 tmp=$5 keep=$6 only=$7 proof=$8; shift 8
${WALK}
prepare() {
  umask 022
  mkdir -p -- "$base" && start "$base" || exit 1
  kept=\${keep:+\${at%/}/$keep}
  [ -n "$keep" ] || [ "$only" = among-others ] || give || exit 1
  # Given last: without CAP_FOWNER (\`cap_drop\`) root changes only what is root's.
  start "$tmp" || exit 1
  if [ -n "$proof" ]; then chmod 711 . && mkdir ./started && chmod 1733 ./started || exit 1
  else chmod 700 . || exit 1
  fi
  give || exit 1
  walk "$root"
  [ "$uid" -gt 0 ] || return 0
  # What an earlier user left; most times there is nothing.
  if [ "$only" != among-others ] && [ -n "$(find . -xdev ! -user "$uid" 2>&1 | head -n 1)" ]; then give_all || exit 1; fi
  for place do
    start "$place" || exit 1
    # One that lies in the checkout could have been moved by those who own that.
    case $place in "$base"/*) [ "$at" = "$place" ] || moved;; esac
    chmod 777 . || exit 1
  done
}
`;

interface PreparePlaces {
  readonly places: Places;
  /** Of the job's scripts; 0: everything stays root's. */
  readonly uid: number;
  readonly gid: number;
  /** Directories of volumes that everybody may write to. */
  readonly open: readonly string[];
}

function args({ places, uid, gid, open }: PreparePlaces, proof: boolean): string[] {
  const { buildsDir, root, tmpDir, shared, chosen } = places;
  const checkout = root.slice(buildsDir.length + 1);
  // `<builds_dir>/<runner id>` is there for all jobs of the runner, whoever they run as.
  const keep = shared && chosen === null ? (checkout.split("/")[0] ?? "") : "";
  return [String(uid), String(gid), buildsDir, checkout, tmpDir, keep, chosen ?? "", proof ? "yes" : "", ...open];
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
