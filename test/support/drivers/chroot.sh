#!/bin/sh
# A driver in four parts, as people write them for chroots and containers: chroot.sh config|prepare|run|cleanup ROOT-TAR [SCRIPT STAGE].
# Its places are named after the job, as GitLab's examples do.
set -eu
what=$1 tar=$2
place=${TMPDIR%/*}/alloy-chroot-$CUSTOM_ENV_CI_RUNNER_ID-$CUSTOM_ENV_CI_PROJECT_ID-$CUSTOM_ENV_CI_CONCURRENT_PROJECT_ID
case $what in
  config)
    printf '{"driver":{"name":"chroot","version":"1.2"},"builds_dir":"/builds","cache_dir":"/cache","job_env":{"PLACE":"%s"}}' "$place"
    ;;
  prepare)
    trap 'exit "$SYSTEM_FAILURE_EXIT_CODE"' EXIT
    echo "making $PLACE"
    rm -rf "$PLACE"
    mkdir -p "$PLACE"
    tar -xf "$tar" -C "$PLACE"
    mkdir -p "$PLACE/dev" "$PLACE/tmp" "$PLACE/proc"
    for node in null zero; do cp -a "/dev/$node" "$PLACE/dev/"; done
    ln -sfn /proc/self/fd "$PLACE/dev/fd"
    ln -sf fd/0 "$PLACE/dev/stdin"
    ln -sf fd/1 "$PLACE/dev/stdout"
    ln -sf fd/2 "$PLACE/dev/stderr"
    trap - EXIT
    ;;
  run)
    # The script arrives on the shell's stdin, as in `lxc exec NAME /bin/bash`. What it leaves ends with its process namespace.
    code=0
    unshare --mount --pid --fork --kill-child --mount-proc="$PLACE/proc" chroot "$PLACE" \
      /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root /bin/bash -c '{ bash 2>&3 3>&-; } 3>&2 2>/dev/null; exit "$?"' <"$3" || code=$?
    [ "$code" -eq 0 ] && exit 0
    echo "$code" >"$BUILD_EXIT_CODE_FILE"
    exit "$BUILD_FAILURE_EXIT_CODE"
    ;;
  cleanup)
    # If unshare was stopped at its beginning, its namespace may still exist.
    for one in /proc/[0-9]*; do
      [ "$(readlink "$one/root" 2>/dev/null)" != "${PLACE:-$place}" ] || kill -9 "${one#/proc/}" 2>/dev/null || true
    done
    rm -rf "${PLACE:-$place}"
    ;;
esac
