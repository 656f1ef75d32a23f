#!/usr/bin/env bash
# Installs what the tests need besides npm's packages, from Debian's packages, where it is missing: git, OpenSSL and the
# shells that the script writer must get along with. Run as root, or have the packages already.
set -euo pipefail
if [ "${1:-}" = "--help" ]; then
  sed -n '2,3s/^# //p' "$0"
  exit 0
fi

# program:package
needed="git:git openssl:openssl dash:dash busybox:busybox zsh:zsh mksh:mksh ksh93:ksh93u+m python3:python3 systemd-notify:systemd ps:procps setpriv:util-linux mkfifo:coreutils zip:zip unzip:unzip systemd-nspawn:systemd-container dbus-daemon:dbus nsenter:util-linux fish:fish rpmbuild:rpm qemu-aarch64-static:qemu-user-static wine:wine x86_64-w64-mingw32-gcc:gcc-mingw-w64-x86-64-win32"
packages=""
for pair in $needed; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || packages="$packages ${pair#*:}"
done
# Not programs, but what the other architecture and Wine need.
if [ "$(uname -m)" = x86_64 ]; then
  [ -e /usr/aarch64-linux-gnu/lib/libc.so.6 ] || packages="$packages libc6-arm64-cross"
  [ -e /usr/lib/wine/wine64 ] || packages="$packages wine64"
fi
[ -z "$packages" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "setup-tests: please install:$packages" >&2
  exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "setup-tests: these packages are missing, run as root: apt-get install -y$packages" >&2
  exit 1
fi
echo "setup-tests: installing$packages"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of package names
apt-get install -y -qq --no-install-recommends $packages >/dev/null
