# Last part of a guest that is a machine with a kernel of its own, in the namespaces of guest-init.sh: QEMU, by software alone. What
# comes to the address of the namespace goes on to its sshd. Its clock is wrong, as after an old snapshot.
parts=$(cat "$dir/../../linux")
address=$(cat "$dir/run/address")
# A kernel takes one archive after the other.
{ cat "$parts/initramfs" && (cd /run/disk && find . | busybox cpio -o -H newc -R 0:0 2>/dev/null); } >/run/initramfs
exec qemu-system-x86_64 -accel tcg,tb-size=64 -m 256 -no-user-config -nodefaults -display none -serial stdio -no-reboot \
  -kernel "$parts/vmlinuz" -initrd /run/initramfs -append "console=ttyS0 quiet panic=-1 mitigations=off" \
  -rtc base=2020-01-02T03:04:05 -netdev "user,id=net,restrict=on,hostfwd=tcp:$address:22-:22" \
  -device "virtio-net-pci,netdev=net,romfile=,mac=$(sed 's/../&:/g; s/:$//' "$dir/mac")"
