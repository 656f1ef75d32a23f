/** Status of a program that refuses the directory which the job chose. */
export const REFUSED = 3;

/**
 * Parts of programs that make a job's directories and give them to the user of its scripts, as root. Other jobs may work in the same
 * directory of the host meanwhile, so no path is gone by: each step enters one directory, makes sure that it is where it seems to be, and
 * then works on `.` and on names in it. A link that was planted on the way, earlier or just now, is never followed.
 *
 * `$uid` and `$gid` get what is given, from 1 on; `$base` is the builds directory, `$at` where it is, without links; `$kept` a
 * directory that stays root's. `$only` is empty, or says that the job chose the place (`ChosenRoot`): no volume is entered then,
 * and `among-others` nothing is given that was there before, or removed.
 */
export const WALK = `
newline='
'
# Other volumes are not entered. A blank is octal there.
mounts=$newline$(while read -r id parent device top place rest; do printf '%b\\n' "$place"; done 2>/dev/null </proc/self/mountinfo)$newline
start() { cd -P -- "$1" && at=$(pwd -P); }
step() { at=\${at%/}/$1; cd -P "./$1" && [ "$(pwd -P)" = "$at" ]; }
moved() { echo "$at is not where it was: something moves directories about" >&2; exit 1; }
refuse() { echo "GIT_CLONE_PATH leads to $at, which $1: choose another directory" >&2; exit ${REFUSED}; }
own() { chown -h "$uid:$gid" "$@"; }
give() { [ "$uid" -le 0 ] || own .; }
empty() { [ -z "$(ls -A .)" ]; }
owner() { set -f; set -- $(ls -nd .); set +f; owner=$3; }
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
# Gives what was made just now, and the place itself if it is nobody's. Another's directory on the way could change its mind.
give_new() {
  [ "$uid" -gt 0 ] || return 0
  owner
  if [ -n "$made" ]; then [ "$owner" = 0 ] && empty || moved
  elif [ "$owner" = "$uid" ]; then return 0
  elif [ "$owner" != 0 ]; then refuse "is another user's"
  elif [ -n "$rest" ]; then return 0
  else empty || refuse "is not the job's"
  fi
  give
}
# Into a place below the base, which is made where it is missing.
walk() {
  start "$base" || exit 1
  rest=$1
  while [ -n "$rest" ]; do
    name=\${rest%%/*} made=
    case $rest in */*) rest=\${rest#*/};; *) rest=;; esac
    if [ -L "./$name" ] || { [ -e "./$name" ] && [ ! -d "./$name" ]; }; then
      [ "$only" != among-others ] || { at=\${at%/}/$name; refuse "is no directory"; }
      rm -f "./$name" || exit 1
    fi
    [ -d "./$name" ] || { mkdir "./$name" && made=yes; } || exit 1
    step "$name" || moved
    [ -z "$only" ] || case $mounts in *"$newline$at$newline"*) refuse "is a volume";; esac
    if [ "$only" = among-others ]; then give_new || exit 1
    else [ "$at" = "$kept" ] || give || exit 1
    fi
  done
}
`;
