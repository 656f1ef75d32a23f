#!/usr/bin/env bash
# Container engines for the tests: `test-engine.sh start [docker] [podman]` starts those that don't answer yet and prints
# where they listen and which it started, as lines for `eval`; `stop [docker] [podman]` ends what was started. Images stay
# for the next time; `clear` removes them, too. Needs root; elsewhere an engine that answers already is used.
set -euo pipefail
usage() { sed -n '2,4s/^# //p' "$0"; }

state="${ALLOY_TEST_ENGINE_DIR:-/tmp/alloy-runner-test-engine-$(id -u)}"
say() { echo "test-engine: $*" >&2; }

# Of all podmans that root has on this machine.
dns_pid=/run/containers/networks/aardvark-dns/aardvark.pid

# answers SOCKET
answers() {
  [ -S "$1" ] && curl --silent --fail --max-time 5 --unix-socket "$1" http://engine/_ping >/dev/null 2>&1
}

# runs PIDFILE NAME: the process of that file is alive, and still the one that was started
runs() {
  [ -s "$1" ] && [ "$(cat "/proc/$(cat "$1")/comm" 2>/dev/null)" = "$2" ]
}

# wait_for SOCKET PIDFILE SECONDS
wait_for() {
  local end=$((SECONDS + $3))
  while [ "$SECONDS" -lt "$end" ]; do
    answers "$1" && return 0
    kill -0 "$(cat "$2")" 2>/dev/null || return 1
    sleep 0.1
  done
  return 1
}

# at_most NUMBER LIMIT
at_most() {
  if [ "$2" != unlimited ] && [ "$2" -lt "$1" ]; then echo "$2"; else echo "$1"; fi
}

# end PIDFILE NAME
end() {
  runs "$1" "$2" || return 0
  local pid end
  pid="$(cat "$1")"
  end=$((SECONDS + 30))
  kill -TERM "$pid" 2>/dev/null || return 0
  while runs "$1" "$2"; do
    if [ "$SECONDS" -ge "$end" ]; then
      kill -KILL "$pid" 2>/dev/null || true
      break
    fi
    sleep 0.1
  done
  rm -f "$1"
}

start_docker() {
  local driver dir="$state/docker"
  if [ -n "${DOCKER_HOST:-}" ] && [ "${DOCKER_HOST#unix://}" != "$DOCKER_HOST" ] && answers "${DOCKER_HOST#unix://}"; then
    echo "export ALLOY_TEST_DOCKER=$DOCKER_HOST"
    return 0
  fi
  for socket in /var/run/docker.sock "$dir/docker.sock"; do
    if answers "$socket"; then
      echo "export ALLOY_TEST_DOCKER=unix://$socket"
      return 0
    fi
  done
  command -v dockerd >/dev/null 2>&1 || { say "no dockerd: install docker.io"; return 1; }
  [ "$(id -u)" -eq 0 ] || { say "dockerd needs root"; return 1; }
  mkdir -p "$dir"
  for driver in $(cat "$dir/driver" 2>/dev/null) overlay2 vfs; do
    # A pid file of a daemon that was killed would keep the next one from starting.
    rm -f "$dir/dockerd.pid"
    setsid dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/dockerd.pid" \
      --host "unix://$dir/docker.sock" --storage-driver "$driver" \
      --default-address-pool base=10.213.0.0/16,size=24 >"$dir/log" 2>&1 </dev/null &
    echo $! >"$dir/started.pid"
    if wait_for "$dir/docker.sock" "$dir/started.pid" 60; then
      echo "$driver" >"$dir/driver"
      echo "export ALLOY_TEST_DOCKER=unix://$dir/docker.sock"
      echo 'ALLOY_TEST_STARTED="${ALLOY_TEST_STARTED:-} docker"'
      return 0
    fi
    end "$dir/started.pid" dockerd
  done
  say "dockerd does not start. The end of $dir/log:"
  tail -n 15 "$dir/log" >&2
  return 1
}

start_podman() {
  local dir="$state/podman"
  if answers "$dir/podman.sock"; then
    echo "export ALLOY_TEST_PODMAN=unix://$dir/podman.sock"
    return 0
  fi
  command -v podman >/dev/null 2>&1 || { say "no podman: install podman"; return 1; }
  mkdir -p "$dir"
  rm -f "$dir/starts-dns"
  runs "$dns_pid" aardvark-dns || : >"$dir/starts-dns"
  # Over loopback the test's registry speaks plain HTTP, which Docker takes by itself.
  printf 'unqualified-search-registries = ["docker.io"]\n[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n[[registry]]\nlocation = "localhost"\ninsecure = true\n' >"$dir/registries.conf"
  # Its own limits are more than a sandbox's root may set; only netavark's networks know names; crun wants pure cgroups.
  # What watches an exec would stay for 5 minutes.
  printf '[containers]\ndefault_ulimits = ["nofile=%s:%s", "nproc=%s:%s"]\n[network]\nnetwork_backend = "netavark"\n[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nexit_command_delay = 10\nevents_logger = "file"\n' \
    "$(at_most 65536 "$(ulimit -Hn)")" "$(at_most 65536 "$(ulimit -Hn)")" \
    "$(at_most 32768 "$(ulimit -Hu)")" "$(at_most 32768 "$(ulimit -Hu)")" >"$dir/containers.conf"
  CONTAINERS_CONF="$dir/containers.conf" CONTAINERS_REGISTRIES_CONF="$dir/registries.conf" setsid podman --root "$dir/data" --runroot "$dir/run" --tmpdir "$dir/tmp" \
    system service --time=0 "unix://$dir/podman.sock" >"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/started.pid"
  if wait_for "$dir/podman.sock" "$dir/started.pid" 60; then
    echo "export ALLOY_TEST_PODMAN=unix://$dir/podman.sock"
    echo 'ALLOY_TEST_STARTED="${ALLOY_TEST_STARTED:-} podman"'
    return 0
  fi
  say "podman does not start. The end of $dir/log:"
  tail -n 15 "$dir/log" >&2
  return 1
}

# Podman's containers outlive its service: they are removed before it ends. So does what answers for their names, and it stays
# for good where an entry was left: it is ended if there was none before.
stop_podman() {
  local dir="$state/podman"
  if command -v podman >/dev/null 2>&1 && [ -s "$dir/containers.conf" ] && [ -d "$dir/data" ]; then
    CONTAINERS_CONF="$dir/containers.conf" podman --root "$dir/data" --runroot "$dir/run" --tmpdir "$dir/tmp" \
      rm --all --force --time 0 >/dev/null 2>&1 || true
  fi
  end "$dir/started.pid" podman
  if [ -e "$dir/starts-dns" ]; then
    end "$dns_pid" aardvark-dns
    rm -f "$dir/starts-dns"
  fi
  if [ -d "$dir/data/overlay" ]; then umount "$dir/data/overlay" 2>/dev/null || true; fi
}

# unmount_below DIR: an engine leaves its namespaces and its data mounted, and what is mounted cannot be removed
unmount_below() {
  local place
  awk -v below="$1/" 'index($2, below) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r place; do
    umount "$place" || say "cannot unmount $place"
  done
}

stop() {
  local engine
  for engine in "$@"; do
    case "$engine" in
      docker) end "$state/docker/started.pid" dockerd ;;
      podman) stop_podman ;;
    esac
  done
}

case "${1:-}" in
  start)
    shift
    mkdir -p "$state"
    chmod 0700 "$state"
    failed=0
    for engine in "${@:-docker}"; do
      case "$engine" in
        docker) start_docker || failed=1 ;;
        podman) start_podman || failed=1 ;;
        *) usage >&2; exit 2 ;;
      esac
    done
    exit "$failed"
    ;;
  stop)
    shift
    if [ "$#" -eq 0 ]; then set -- podman docker; fi
    stop "$@"
    ;;
  clear)
    stop podman docker
    unmount_below "$state"
    rm -rf "$state"
    ;;
  --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
