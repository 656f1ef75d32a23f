# shellcheck shell=bash
# Sourced by the scripts that fetch a part for the tests into a cache outside the tree, where it is missing.

# fetched NAME VERSION [--help]: sets `parts`, the folder for that version, and has the script's function `fetch` fill it unless it
# is whole. With --help it prints the comment that the script begins with.
fetched() {
  if [ "${3:-}" = "--help" ]; then
    sed -n '2,/^[^#]/s/^# //p' "$0"
    exit 0
  fi
  local cache="${XDG_CACHE_HOME:-$HOME/.cache}/alloy-runner/$1"
  parts="$cache/$2"
  mkdir -p "$cache"
  # Descriptor 9 holds the lock: whoever comes second waits, and finds it there.
  exec 9>"$cache/lock"
  flock 9
  if [ ! -e "$parts/complete" ]; then
    rm -rf "$parts"
    mkdir -p "$parts"
    fetch
    touch "$parts/complete"
  fi
}
