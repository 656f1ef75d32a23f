#!/usr/bin/env bash
# Unpacks Debian's git-lfs into a cache outside the tree, where it is missing, and prints the folder of its program. It is not
# installed: its package would change the settings of git for all of this machine.
set -euo pipefail
if [ "${1:-}" = "--help" ]; then
  sed -n '2,3s/^# //p' "$0"
  exit 0
fi

cache="${XDG_CACHE_HOME:-$HOME/.cache}/alloy-runner/git-lfs"
mkdir -p "$cache"
# Descriptor 9 holds the lock: whoever comes second waits, and finds it there.
exec 9>"$cache/lock"
flock 9
if [ ! -e "$cache/complete" ]; then
  rm -rf "$cache/parts"
  mkdir -p "$cache/parts"
  (cd "$cache/parts" && apt-get download -qq git-lfs >&2 && dpkg -x git-lfs_*.deb .)
  touch "$cache/complete"
fi
echo "$cache/parts/usr/bin"
