#!/bin/bash
# The shortest driver that keeps to GitLab's contract: scripts run on this machine, without the runner's environment.
# The shell's own message about its child's death is not printed.
{ env -i PATH="$PATH" HOME="$HOME" ALLOY_RUNNER_JOB_KEY="$ALLOY_RUNNER_JOB_KEY" "$1" 2>&3 3>&-; } 3>&2 2>/dev/null
code=$?
[ "$code" -eq 0 ] && exit 0
echo "$code" >"$BUILD_EXIT_CODE_FILE"
exit "$BUILD_FAILURE_EXIT_CODE"
