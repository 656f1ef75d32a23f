#!/usr/bin/env bash
# Installs moto, a server that behaves as AWS, from PyPI into a cache outside the tree, where it is missing (140 MB), and prints
# the folder of its virtual environment.
set -euo pipefail
if [ "${1:-}" = "--help" ]; then
  sed -n '2,3s/^# //p' "$0"
  exit 0
fi

cache="${XDG_CACHE_HOME:-$HOME/.cache}/alloy-runner/moto"
parts="$cache/5.2.5"
mkdir -p "$cache"
# Descriptor 9 holds the lock: whoever comes second waits, and finds it there.
exec 9>"$cache/lock"
flock 9
if [ ! -e "$parts/complete" ]; then
  rm -rf "$parts"
  python3 -m venv "$parts" >&2
  # Without "server": that would bring what other services of AWS need.
  "$parts/bin/pip" install --quiet --disable-pip-version-check "moto[ec2,autoscaling]==5.2.5" flask flask-cors >&2
  touch "$parts/complete"
fi
echo "$parts"
