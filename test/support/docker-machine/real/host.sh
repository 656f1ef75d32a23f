#!/usr/bin/env bash
# A host that docker-machine's driver `generic` can set up, in namespaces of its own: this machine's root below a layer that is
# lost in the end, an sshd, and systemctl as far as docker.service is concerned. Provisioning deletes docker0 and sets the
# host's name: never in this machine's namespaces. Runs until it is killed, and then all of it goes.
#   host.sh DIR      DIR has `key.pub`, whose key may log in; `address` is written there once its network is up
set -euo pipefail
dir=$1
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

unshare --net --uts --mount --pid --ipc --cgroup --fork --kill-child=SIGKILL bash "$here/host-init.sh" "$dir" &
outer=$!
child=
until [ -n "$child" ]; do
  [ -d "/proc/$outer" ] || exit 1
  # The file does not end with a line feed.
  read -r child _ <"/proc/$outer/task/$outer/children" || sleep 0.01
done 2>/dev/null
trap 'kill -KILL "$child"' EXIT
trap 'exit 143' TERM INT HUP

# Other tests on this machine use other networks.
for _ in $(seq 200); do
  net="10.$((128 + RANDOM % 120)).$((RANDOM % 256)).$((RANDOM % 64 * 4))"
  [ -z "$(ip route show "$net/30")" ] || continue
  if ip link add "dm$child" type veth peer name eth0 netns "$child"; then break; fi
done
first="${net%.*}.$((${net##*.} + 1))"
second="${net%.*}.$((${net##*.} + 2))"
ip addr add "$first/30" dev "dm$child"
ip link set "dm$child" up
nsenter --target "$child" --net sh -c "ip link set lo up; ip addr add $second/30 dev eth0; ip link set eth0 up; ip route add default via $first"
echo "$second" >"$dir/address"
wait "$outer"
