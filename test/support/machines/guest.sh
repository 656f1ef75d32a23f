# Guests of the stand-ins for VBoxManage and prlctl: sshd in namespaces of its own, behind an address of its own. Sourced.
# A machine is a directory: `disk` is what it has of its own, `mac` its adapter's address, `run` what it has while it runs.

here=$(cd "${BASH_SOURCE[0]%/*}" && pwd -P)

# get NAME FILE: sets NAME to its content without line feeds at the end, or to nothing if it is missing; starts no process.
get() {
  local read_text=
  [ ! -e "$2" ] || IFS= read -r -d '' read_text <"$2" || true
  while [ "${read_text%$'\n'}" != "$read_text" ]; do read_text=${read_text%$'\n'}; done
  printf -v "$1" '%s' "$read_text"
}

# is_dead PID: whether it has ended, or is a zombie.
is_dead() {
  local text
  [ -d "/proc/$1" ] || return 0
  get text "/proc/$1/stat"
  text=${text##*) }
  [ -z "$text" ] || [ "${text%% *}" = Z ]
}

# guest_start DIR: on return its sshd answers, unless `boot` says that this takes longer (seconds; "never"), or there is `linux`
# (the folder that linux/build.sh prints): then QEMU boots a kernel.
guest_start() {
  local dir=$1 pid child net tries=0
  rm -rf "$dir/run"
  mkdir -p "$dir/run"
  setsid unshare --net --mount --pid --uts --ipc --fork --kill-child=SIGKILL bash "$here/guest-init.sh" "$dir" \
    </dev/null >"$dir/run/console" 2>&1 &
  pid=$!
  echo "$pid" >"$dir/run/pid"
  child=
  until [ -n "$child" ]; do
    [ -d "/proc/$pid" ] || return 1
    # The file does not end with a line feed.
    read -r child _ <"/proc/$pid/task/$pid/children" || sleep 0.005
  done 2>/dev/null
  # Other tests on this machine use other networks.
  while :; do
    net="10.$((128 + RANDOM % 120)).$((RANDOM % 256)).$((RANDOM % 64 * 4))"
    if [ -z "$(ip route show "$net/30")" ] &&
      ip link add "vm$child" type veth peer name eth0 address "$(sed 's/../&:/g; s/:$//' "$dir/mac")" netns "$child" 2>"$dir/run/veth"; then
      break
    fi
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || return 1
    sleep 0.01
  done
  ip addr add "${net%.*}.$((${net##*.} + 1))/30" dev "vm$child"
  ip link set "vm$child" up
  nsenter --target "$child" --net sh -c "ip link set lo up; ip addr add ${net%.*}.$((${net##*.} + 2))/30 dev eth0; ip link set eth0 up; ip route add default via ${net%.*}.$((${net##*.} + 1))"
  echo "${net%.*}.$((${net##*.} + 2))" >"$dir/run/address"
  touch "$dir/run/plugged"
  [ ! -e "$dir/../../boot" ] && [ ! -e "$dir/../../linux" ] || return 0
  until grep -q 'Server listening' "$dir/run/console"; do
    [ -d "/proc/$pid" ] || return 1
    sleep 0.01
  done
}

guest_runs() {
  local pid
  get pid "$1/run/pid"
  [ -n "$pid" ] && ! is_dead "$pid"
}

# guest_stop DIR: ends it at once, as a power failure would.
guest_stop() {
  local pid one
  for one in forwarder pid; do
    get pid "$1/run/$one"
    [ -n "$pid" ] || continue
    kill -9 "$pid" 2>/dev/null || true
    until is_dead "$pid"; do sleep 0.005; done
  done
  rm -rf "$1/run"
}

# guest_forward DIR PORT: a port of the loopback address leads to its sshd.
guest_forward() {
  local pid
  if [ -e "$1/run/forwarder" ]; then
    read -r pid <"$1/run/forwarder"
    kill -9 "$pid" 2>/dev/null || true
  fi
  setsid /usr/bin/python3 -I "$here/forward.py" "$2" "$(cat "$1/run/address")" </dev/null >"$1/run/forward" 2>&1 &
  echo $! >"$1/run/forwarder"
  until [ -s "$1/run/forward" ]; do
    [ -d "/proc/$!" ] || return 1
    sleep 0.005
  done
}

new_uuid() { cat /proc/sys/kernel/random/uuid; }
# new_mac PREFIX: the prefix and six random digits.
new_mac() { printf '%s%06X' "$1" $((RANDOM * 32768 + RANDOM & 0xffffff)); }

# fault VERB: what a test wants of this verb now: `status N`, `hang`, `slow SECONDS`, `lie`, or nothing. A file with a count
# (`VERB.times`) makes it pass.
fault() {
  local file="$state/faults/$1" times
  [ -e "$file" ] || return 0
  if [ -e "$file.times" ]; then
    times=$(cat "$file.times")
    [ "$times" -gt 0 ] || return 0
    echo $((times - 1)) >"$file.times"
  fi
  cat "$file"
}
