import type { MainProgram } from "./main-program.ts";
import type { Places } from "./places.ts";

/**
 * Makes the checkout, and gives it and the job's private directory, a new volume, to the job's user. Runs as root where containers are
 * the job's alone; a link that an earlier job planted on the way is removed, never followed.
 */
const PREPARE = `uid=$1 gid=$2 base=$3 root=$4 tmp=$5 keep=$6; shift 6
umask 022
give() { [ "$uid" -le 0 ] || chown -h "$uid:$gid" "$1" || exit 1; }
own() {
  if [ -L "$1" ] || { [ -e "$1" ] && [ ! -d "$1" ]; }; then rm -f "$1" || exit 1; fi
  [ -d "$1" ] || mkdir "$1" || exit 1
  [ "$1" = "$keep" ] || give "$1"
}
walk() {
  rest=\${1#"$base"/} at=$base
  while [ -n "$rest" ]; do
    at=$at/\${rest%%/*}
    own "$at"
    case $rest in */*) rest=\${rest#*/};; *) rest=;; esac
  done
}
mkdir -p "$base" || exit 1
[ -n "$keep" ] || give "$base"
walk "$root"
give "$tmp"
chmod 700 "$tmp" || exit 1
if [ "$uid" -gt 0 ]; then find "$root" -xdev ! -user "$uid" -exec chown -h "$uid:$gid" {} + || exit 1; fi
for open do chmod 777 "$open" || exit 1; done`;

export interface PreparePlaces {
  readonly places: Places;
  /** Of the job's scripts; not positive: root, or not known. */
  readonly uid: number;
  readonly gid: number;
  /** Directories of volumes that everybody may write to. */
  readonly open: readonly string[];
}

export function preparePlaces({ places, uid, gid, open }: PreparePlaces): MainProgram {
  const { buildsDir, root, tmpDir, shared } = places;
  // `<builds_dir>/<runner id>` is there for all jobs of the runner, whoever they run as.
  const keep = shared ? `${buildsDir}/${root.slice(buildsDir.length + 1).split("/")[0]}` : "";
  return {
    script: PREPARE,
    args: [String(uid), String(Math.max(gid, 0)), buildsDir, root, tmpDir, keep, ...(uid > 0 ? open : [])],
  };
}
