# First process of a guest: $1 is its machine's directory.
set -e
dir=$1
mount --make-rprivate /
mount -t proc proc /proc
hostname guest
mount -t tmpfs none /run
mkdir /run/sshd /run/disk
mount --bind "$dir/disk" /run/disk
[ -e "$dir/../../boot" ] && boot=$(cat "$dir/../../boot") || boot=0
until [ -e "$dir/run/plugged" ]; do sleep 0.005; done
if [ -e "$dir/../../linux" ]; then . "${0%/*}/guest-linux.sh"; fi
# For tests that look at the guest's files from outside, the guest works in the machine's own /tmp.
if [ -e "$dir/../../share" ]; then mount --bind /tmp /tmp; else mount --bind /run/disk/tmp /tmp; fi
mount -o remount,bind,ro /
for place in root etc/ssh usr/local/bin; do mount --bind "/run/disk/$place" "/$place"; done
[ "$boot" != never ] || exec sleep 100000
sleep "$boot"
# A guest may not set the clock of the machine that it runs on.
exec setpriv --bounding-set=-sys_time,-sys_boot,-sys_module,-sys_admin --inh-caps=-sys_time,-sys_boot,-sys_module,-sys_admin \
  /usr/sbin/sshd -D -e -f /etc/ssh/sshd_config
