import { WALK } from "../../../common/places/walk-program.ts";

/**
 * Makes a job's directories and gives them to the user of its scripts. `$1`, `$2` uid and gid (-1: leave them), `$3` builds directory,
 * `$4` checkout, relative to it, `$5` the job's private directory, `$6` the one for scripts' output, `$7` `group` if others share the
 * job's files by their group, `$8` what stays root's in the builds directory, `$9` whether the job chose the checkout (`ChosenRoot`).
 * Whoever may not give things away says so.
 */
export const MAKE_PLACES = `
uid=$1 gid=$2 base=$3 root=$4 tmp=$5 scripts=$6 keep=$8 only=$9
if [ "$7" = group ]; then umask 002; private=770; else umask 022; private=700; fi
${WALK}
mkdir -p -- "$base" "$tmp" "$scripts" || exit 1
chmod $private "$tmp" && chmod 711 "$scripts" || exit 1
[ "$(id -u)" -eq 0 ] || uid=-1
start "$base" || exit 1
kept=\${keep:+\${at%/}/$keep}
# A volume that is root's alone is passed through, by whoever may not look into it.
if [ -z "$keep" ]; then give; elif [ "$uid" -gt 0 ]; then chmod a+x .; fi 2>/dev/null || :
walk "$root"
[ "$uid" -gt 0 ] || exit 0
own "$tmp" "$scripts" || exit 2
if [ -n "$(find . -xdev ! -user "$uid" 2>&1 | head -n 1)" ]; then give_all 2>/dev/null || :; fi
`;

/**
 * Gives away what the helper, as root, has made since: `$1` uid, `$2` gid, `$3` builds directory, `$4` checkout, relative to it,
 * `$5` the job's private directory.
 */
export const GIVE_AWAY = `
uid=$1 gid=$2 base=$3 rest=$4 tmp=$5
${WALK}
give_since() { find . -xdev ! -user "$uid" -exec chown -h "$uid:$gid" {} + || exit 1; }
start "$tmp" && give_since
start "$base" || exit 1
while [ -n "$rest" ]; do
  name=\${rest%%/*}
  [ -d "./$name" ] || exit 0
  step "$name" || moved
  case $rest in */*) rest=\${rest#*/};; *) rest=;; esac
done
give_since
`;

/** `yes` where HOME is a directory that its user may write to. */
export const HAS_HOME = `[ -n "$HOME" ] && [ "$HOME" != / ] && [ -d "$HOME" ] && [ -w "$HOME" ] && echo yes || :`;

/**
 * Waits until the program behind an ENTRYPOINT runs, and prints the environment that it has, and after two NULs the one without it.
 * `$1` seconds, `$2` file.
 */
export const ENTRYPOINT_ENVIRONMENT = `
tick=0
while [ ! -e "$2" ]; do
  [ $tick -lt $(($1 * 10)) ] || exit 1
  sleep 0.1 2>/dev/null || { sleep 1; tick=$((tick + 9)); }
  tick=$((tick + 1))
done
cat "$2"; printf '\\0\\0'; cat /proc/self/environ
`;

/** How many processes the kernel has killed here for want of memory. */
export const OOM_COUNT = `
for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
  while read -r name count; do [ "$name" != oom_kill ] || { echo "$count"; exit; }; done 2>/dev/null <"$file"
done
echo 0
`;

/** The accounts of this container's control group, under the names of version 2 whichever it is: `=NAME` before each. */
export const ACCOUNT = `
cd /sys/fs/cgroup || exit
if [ -r cpu.stat ]; then
  for file in cpu.stat memory.peak memory.current memory.stat io.stat; do echo "=$file"; cat "$file" 2>/dev/null; done
else
  read -r used <cpuacct/cpuacct.usage && printf '=cpu.stat\\nusage_usec %s\\n' "\${used%???}"
  echo =memory.peak; cat memory/memory.max_usage_in_bytes
  echo =memory.current; cat memory/memory.usage_in_bytes
  echo =memory.stat; cat memory/memory.stat
fi 2>/dev/null
`;

/** `$@`: directories. Fails unless its user may write to all of them. */
export const MAY_WRITE = `for at do [ -w "$at" ] && [ -x "$at" ] || exit 1; done`;
