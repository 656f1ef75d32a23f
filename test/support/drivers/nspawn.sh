#!/bin/sh
# The places of chroot.sh, each script in a container of systemd-nspawn: with users, devices and a /proc of its own.
set -eu
[ "$1" = run ] || exec "${0%/*}/chroot.sh" "$@"
code=0
systemd-nspawn --quiet --register=no --keep-unit --as-pid2 --pipe --resolv-conf=off --timezone=off --link-journal=no \
  --directory="$PLACE" --machine="alloy-$$" --setenv=HOME=/root /bin/bash -c 'exec bash 2>&1' <"$3" 2>/dev/null || code=$?
[ "$code" -eq 0 ] && exit 0
echo "$code" >"$BUILD_EXIT_CODE_FILE"
exit "$BUILD_FAILURE_EXIT_CODE"
