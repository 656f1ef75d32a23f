# First process of a host: $1 is its directory.
set -euo pipefail
dir=$1
until [ -e "$dir/address" ]; do sleep 0.01; done
mount --make-rprivate /
mkdir -p "$dir/host"
mount -t tmpfs -o size=2g none "$dir/host"
mkdir "$dir/host"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/host/upper,workdir=$dir/host/work" "$dir/host/root"
cp "$dir/key.pub" "$dir/host/key.pub"
cd "$dir/host/root"
mount -t proc proc proc
mount -t sysfs sys sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
for place in run tmp var/lib/docker var/lib/containerd; do
  mkdir -p "$place"
  mount -t tmpfs -o mode=755 none "$place"
done
chmod 1777 tmp
mkdir -p run/sshd etc/docker etc/systemd/system/docker.service.d root/.ssh
cat ../key.pub >root/.ssh/authorized_keys
chmod 700 root/.ssh
chmod 600 root/.ssh/authorized_keys
# What this machine's own root has there must not speak to whoever logs in.
rm -f root/.bashrc root/.profile root/.bash_profile etc/docker/daemon.json

# program PATH: standard input is its text
program() {
  rm -f "$1"
  cat >"$1"
  chmod 755 "$1"
}
# docker-machine's unit for Debian starts this one.
if [ ! -e usr/bin/dockerd ]; then ln -s ../sbin/dockerd usr/bin/dockerd; fi
program usr/bin/apt-get <<'END'
#!/bin/sh
exit 0
END
program usr/bin/sudo <<'END'
#!/bin/sh
while case $1 in -*) true ;; *) false ;; esac; do shift; done
exec "$@"
END
program usr/bin/systemctl <<'END'
#!/bin/bash
runs() { [ -s /run/docker.pid ] && [ -d "/proc/$(cat /run/docker.pid)" ]; }
stop() {
  runs || return 0
  kill "$(cat /run/docker.pid)"
  while runs; do sleep 0.05; done
}
start() {
  local line
  line="$(grep '^ExecStart=/' /etc/systemd/system/docker.service.d/10-machine.conf 2>/dev/null | tail -n 1)"
  line="${line#ExecStart=}"
  # shellcheck disable=SC2086 # a line of arguments
  setsid ${line:-/usr/sbin/dockerd} >>/var/log/dockerd.log 2>&1 </dev/null &
  until docker version >/dev/null 2>&1; do
    [ -d "/proc/$!" ] || exit 1
    sleep 0.05
  done
}
case "$*" in
  *"restart docker"*) stop && start ;;
  *"stop docker"*) stop ;;
  *"start docker"*) runs || start ;;
esac
END
ssh-keygen -A -f "$PWD" >/dev/null
# docker-machine expects it of whoever has Docker installed.
chroot "$PWD" systemctl start docker
exec chroot "$PWD" /usr/sbin/sshd -D -e -p 22 -o PermitRootLogin=yes -o StrictModes=no -o UsePAM=no -o AllowTcpForwarding=yes
