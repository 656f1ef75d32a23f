#!/usr/bin/env bash
# A Kubernetes of one node for the tests, in namespaces of its own; needs root.
#   cluster.sh start [--owner PID] [--background]   builds and boots it; one that is there and not left over is used
#   cluster.sh stop                                 ends it and removes all of it
#   cluster.sh reserve OWNER                        a number that nobody uses, for ALLOY_TEST_CLUSTER
#   cluster.sh sweep                                ends those that are left over
#   cluster.sh kill PART [SIGNAL]                   PART (apiserver, kubelet, containerd, etcd, scheduler, proxy,
#                                                   controller-manager) comes back after 0.3 s
#   cluster.sh hold PART | release PART             ends PART and keeps it down | has it come back
#   cluster.sh ctr ARGUMENT...                      containerd's client, on its images and containers
#   cluster.sh state                                the folder of it: kubectl is in bin, kubeconfigs in logins, log
# ALLOY_TEST_CLUSTER=0...9 tells several on one machine apart. What is started for an owner is left over when that has ended,
# and removed by the next start.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
usage() { sed -n '2,14s/^# //p' "$here/cluster.sh"; }
say() { echo "cluster: $*" >&2; }

number="${ALLOY_TEST_CLUSTER:-0}"
# Outside of /run and /var, which the node has for itself; and short, because the path of a socket must be.
state="/tmp/alloy-test-cluster-$number"
cgroup="alloy-test-cluster-$number"
link="alloyk8s$number"
host_ip="10.200.$number.1"
node_ip="10.200.$number.2"
pod_net=10.244.0.0/24
service_net=10.96.0.0/24
api_service_ip=10.96.0.1

# first_process: the number of the process that stands for all of the cluster
first_process() { pgrep -o -x -f "bash .*/node\.sh $state"; }

# gone PID: whether that process has ended (another one may have its number by now)
gone() { ! first_process | grep -qx "$1"; }

remove() {
  local dir first tries
  if first="$(first_process)"; then
    kill -KILL "$first"
    for tries in $(seq 100); do
      gone "$first" && break
      [ "$tries" != 100 ] || { say "process $first does not end"; return 1; }
      sleep 0.1
    done
  fi
  ip link del "$link" 2>/dev/null || true
  # The kernel lets go of a cgroup a moment after its last process.
  for tries in $(seq 100); do
    for dir in /sys/fs/cgroup/"$cgroup" /sys/fs/cgroup/*/"$cgroup"; do
      [ ! -d "$dir" ] || find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
    compgen -G "/sys/fs/cgroup/$cgroup" >/dev/null || compgen -G "/sys/fs/cgroup/*/$cgroup" >/dev/null || break
    [ "$tries" != 100 ] || { say "cgroups stay: /sys/fs/cgroup/*/$cgroup"; return 1; }
    sleep 0.1
  done
  rm -rf "$state"
}

make_cgroups() {
  local dir procs
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    for procs in cpuset cpu io memory pids; do echo "+$procs" >/sys/fs/cgroup/cgroup.subtree_control || true; done
    mkdir -p "/sys/fs/cgroup/$cgroup"
    return 0
  fi
  for procs in /sys/fs/cgroup/*/cgroup.procs; do
    dir="${procs%/cgroup.procs}"
    mkdir -p "$dir/$cgroup"
    # No process can run in a cpuset before its processors are set.
    if [ -e "$dir/cpuset.cpus" ]; then
      cat "$dir/cpuset.cpus" >"$dir/$cgroup/cpuset.cpus"
      cat "$dir/cpuset.mems" >"$dir/$cgroup/cpuset.mems"
    fi
  done
}

# overlayfs cannot lie on every file system, for one not on another overlay
find_snapshotter() {
  local probe="$state/probe"
  mkdir -p "$probe"/{lower,upper,work,merged}
  if unshare --mount mount -t overlay -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" overlay "$probe/merged" 2>/dev/null; then
    echo overlayfs
  else
    echo native
  fi
  rm -rf "$probe"
}

ready() {
  [ -e "$state/has-images" ] &&
    [ "$("$parts/bin/kubectl" --kubeconfig "$state/logins/admin.conf" get node node1 -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" = True ] &&
    "$parts/bin/kubectl" --kubeconfig "$state/logins/admin.conf" get serviceaccount default >/dev/null 2>&1
}

boot() {
  local first end
  snapshotter="$(find_snapshotter)"
  # shellcheck source=settings.sh
  . "$here/settings.sh"
  write_settings
  for name in parts cgroup snapshotter host_ip node_ip pod_net service_net; do
    printf '%s=%q\n' "$name" "${!name}"
  done >"$state/words.sh"
  make_cgroups
  setsid unshare --mount --net --pid --fork --kill-child=KILL --mount-proc --propagation private \
    bash "$here/node.sh" "$state" >"$state/log/node" 2>&1 </dev/null 9>&- &
  end=$((SECONDS + 120))
  until [ -e "$state/waits-for-network" ] && first="$(first_process)"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.05
  done
  ip link add "$link" type veth peer name eth0 netns "$first"
  ip addr add "$host_ip/30" dev "$link"
  ip link set "$link" up
  touch "$state/has-network"
  until ready; do
    if gone "$first" || [ "$SECONDS" -ge "$end" ]; then return 1; fi
    sleep 0.1
  done
}

# born PID: when that process began, which tells it from a later one of the same number
born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

# left_over STATE: whether the process that it was started for has ended
left_over() {
  local pid since
  [ -s "$1/owner" ] || return 1
  read -r pid since <"$1/owner"
  [ "$(born "$pid")" != "$since" ]
}

# A cluster is used again when it is whole, of the same parts and settings, and not left over.
usable() {
  [ -e "$state/ready" ] && [ "$(cat "$state/made-of")" = "$made_of" ] && first_process >/dev/null && ! left_over "$state"
}

sweep() {
  local each
  for each in /tmp/alloy-test-cluster-[0-9]; do
    if left_over "$each"; then ALLOY_TEST_CLUSTER="${each##*-}" bash "$here/cluster.sh" stop; fi
  done
}

# The higher numbers are reserved by this command; people choose the lower ones.
reserve() {
  local each
  sweep
  for each in 9 8 7 6 5 4 3 2 1 0; do
    if mkdir "/tmp/alloy-test-cluster-$each" 2>/dev/null; then
      echo "$1 $(born "$1")" >"/tmp/alloy-test-cluster-$each/owner"
      echo "$each"
      return 0
    fi
  done
  say "no number is free; see /tmp/alloy-test-cluster-*/owner"
  return 1
}

start() {
  local parts made_of
  sweep
  if ! parts="$("$here/build.sh")"; then
    say "it cannot be built"
    return 1
  fi
  made_of="$parts $(cat "$here"/*.sh | sha256sum)"
  exec 9>"$state.lock"
  flock 9
  usable && return 0
  remove
  mkdir -p "$state/log"
  echo "$made_of" >"$state/made-of"
  [ -z "$1" ] || echo "$1 $(born "$1")" >"$state/owner"
  if ! boot; then
    say "it does not boot. The ends of its logs:"
    tail -n 10 "$state"/log/* >&2
    remove
    return 1
  fi
  ln -s "$parts/bin" "$state/bin"
  touch "$state/ready"
}

# Ends a start in the background that is still building or booting.
stop_starting() {
  local pid
  pid="$(cat "$state.starting" 2>/dev/null)" || return 0
  if [ "$pid" != "$$" ] && tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q "cluster\.sh start"; then
    kill -KILL -- "-$pid" 2>/dev/null || true
  fi
  rm -f "$state.starting" "$state.log"
}

# inside COMMAND...: in the node's namespaces of mounts and processes
inside() { nsenter --target "$(first_process)" --pid --mount -- "$@"; }

need_root() {
  if [ "$(id -u)" -ne 0 ]; then
    say "needs root"
    exit 1
  fi
}

command="${1:-}"
[ "$#" -eq 0 ] || shift
case "$command" in
  start)
    owner=""
    background=""
    while [ "$#" -gt 0 ]; do
      case "$1" in
        --owner) owner=$2; shift 2 ;;
        --background) background=yes; shift ;;
        *) usage >&2; exit 2 ;;
      esac
    done
    need_root
    if [ -z "$background" ]; then
      start "$owner"
    else
      setsid bash "$here/cluster.sh" start --owner "$owner" >"$state.log" 2>&1 </dev/null &
      echo $! >"$state.starting"
    fi
    ;;
  stop)
    need_root
    stop_starting
    remove
    rm -f "$state.lock"
    ;;
  reserve) need_root; reserve "$1" ;;
  sweep) need_root; sweep ;;
  state) echo "$state" ;;
  kill) inside kill "-${2:-KILL}" "$(cat "$state/pids/$1")" ;;
  hold)
    touch "$state/held/$1"
    inside kill -KILL "$(cat "$state/pids/$1")"
    ;;
  release) rm -f "$state/held/$1" ;;
  ctr) inside ctr --address "$state/containerd/socket" --namespace k8s.io "$@" ;;
  --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
