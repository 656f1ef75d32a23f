import { RUN_DIR } from "./places.ts";

/**
 * What a container runs while scripts are started in it: it ends when it is told to, and waits for orphans, so that none is left.
 * With a `sleep` that is missing or killed it goes on, a second at a time.
 */
const IDLE = `trap 'kill $! 2>/dev/null; exit 0' TERM INT
while :; do
  sleep 3600 </dev/null >/dev/null 2>&1 &
  wait $! || read -t 1 x 2>/dev/null || :
done`;

/** File with the environment that an ENTRYPOINT hands to its program; scripts get it, too. */
export const ENTRYPOINT_FILE = `${RUN_DIR}/entrypoint-environment`;
const SHOW = `cat /proc/self/environ >${ENTRYPOINT_FILE}.new && mv ${ENTRYPOINT_FILE}.new ${ENTRYPOINT_FILE}`;

export function idleArgv(shell: string, afterEntrypoint = false): string[] {
  return [shell, "-c", afterEntrypoint ? `${SHOW}\n${IDLE}` : IDLE, "alloy-runner"];
}
