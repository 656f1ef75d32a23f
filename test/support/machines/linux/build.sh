#!/usr/bin/env bash
# Builds what QEMU boots into a cache outside the tree, where it is missing, and prints the folder: the kernel of Debian 12 for
# clouds, and an initramfs of its modules for virtio, BusyBox and Dropbear. Debian's packages (30 MB) are unpacked, never installed.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [ "${1:-}" = "--help" ]; then
  sed -n '2,3s/^# //p' "$0"
  exit 0
fi

cache="${XDG_CACHE_HOME:-$HOME/.cache}/alloy-runner/linux"
parts="$cache/$(cat "$here/build.sh" "$here/init" | sha256sum | cut -c 1-12)"
# As they depend on each other.
modules="
  drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_legacy_dev drivers/virtio/virtio_pci_modern_dev
  drivers/virtio/virtio_pci net/core/failover drivers/net/net_failover drivers/net/virtio_net
"

# unpack DIR PACKAGE...
unpack() {
  local dir=$1 package
  shift
  mkdir -p "$dir/debs"
  (cd "$dir/debs" && apt-get download -qq -o APT::Sandbox::User=root "$@" >&2)
  for package in "$dir"/debs/*.deb; do dpkg-deb -x "$package" "$dir"; done
  rm -rf "$dir/debs"
}

# The package without a version depends on the one that is current.
unpack_kernel() {
  local name
  name="$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9.]*-.*\)/\1/p' | head -n 1)"
  [ -n "$name" ] || { echo "linux: apt-get knows no linux-image-cloud-amd64, which Debian has" >&2; return 1; }
  unpack "$1" "$name"
}

# build DIR
build() {
  local pieces=$1/pieces root=$1/pieces/root file
  # Old lists name packages that security updates have replaced.
  apt-get update -qq >&2
  unpack_kernel "$pieces/kernel"
  unpack "$pieces/debian" busybox-static dropbear-bin libc6 libcrypt1 libgmp10 libtomcrypt1 libtommath1 zlib1g
  cp "$pieces"/kernel/boot/vmlinuz-* "$1/vmlinuz"
  mkdir -p "$root"/{bin,dev,etc,lib64,lib/x86_64-linux-gnu,modules,proc,root,run,sys,tmp,usr/bin,usr/sbin,var}
  cp "$here/init" "$root/init"
  chmod 755 "$root/init"
  cp "$pieces/debian/bin/busybox" "$root/bin/"
  ln -s busybox "$root/bin/sh"
  cp "$pieces"/debian/usr/{sbin/dropbear,bin/dropbearconvert} "$root/bin/"
  cp -L "$pieces/debian/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$root/lib64/"
  for file in libc.so.6 libcrypt.so.1 libz.so.1; do
    cp -L "$pieces/debian/lib/x86_64-linux-gnu/$file" "$root/lib/x86_64-linux-gnu/"
  done
  for file in libgmp.so.10 libtomcrypt.so.1 libtommath.so.1; do
    cp -L "$pieces/debian/usr/lib/x86_64-linux-gnu/$file" "$root/lib/x86_64-linux-gnu/"
  done
  for file in $modules; do
    cp "$pieces"/kernel/lib/modules/*/kernel/"$file.ko" "$root/modules/"
    echo "${file##*/}" >>"$root/modules/order"
  done
  echo "root:x:0:0:root:/root:/bin/sh" >"$root/etc/passwd"
  echo "root:x:0:" >"$root/etc/group"
  (cd "$root" && find . | busybox cpio -o -H newc -R 0:0 2>/dev/null) >"$1/initramfs"
  rm -rf "$pieces"
}

mkdir -p "$cache"
# Descriptor 9 holds the lock: whoever comes second waits, and finds it built.
exec 9>"$cache/lock"
flock 9
if [ ! -e "$parts" ]; then
  rm -rf "$parts.new"
  mkdir -p "$parts.new"
  build "$parts.new"
  mv "$parts.new" "$parts"
fi
echo "$parts"
