#!/usr/bin/env bash
# Installs Azurite, a server that behaves as Azure's storage, from npm into a cache outside the tree, where it is missing (360 MB),
# and prints the folder of its packages.
set -euo pipefail
if [ "${1:-}" = "--help" ]; then
  sed -n '2,3s/^# //p' "$0"
  exit 0
fi

cache="${XDG_CACHE_HOME:-$HOME/.cache}/alloy-runner/azurite"
parts="$cache/3.37.0"
mkdir -p "$cache"
# Descriptor 9 holds the lock: whoever comes second waits, and finds it there.
exec 9>"$cache/lock"
flock 9
if [ ! -e "$parts/complete" ]; then
  rm -rf "$parts"
  mkdir -p "$parts"
  echo '{"private":true}' >"$parts/package.json"
  npm install --prefix "$parts" --ignore-scripts --no-audit --no-fund --silent azurite@3.37.0 >&2
  touch "$parts/complete"
fi
echo "$parts/node_modules"
