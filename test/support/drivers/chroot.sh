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
    trap - EXIT
    ;;
  run)
    # The script arrives on the shell's stdin, as in `lxc exec NAME /bin/bash`.
    if chroot "$PLACE" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root /bin/bash <"$3"; then exit 0; fi
    exit "$BUILD_FAILURE_EXIT_CODE"
    ;;
  cleanup)
    rm -rf "${PLACE:-$place}"
    ;;
esac
