import type { Argv } from "../../src/shell.ts";
import type { Cgroup } from "./cgroup.ts";

/**
 * What the shell does before it becomes the job's, so that nothing can have been started by then: it enters the control
 * group `$0`, and the kernel's choice under memory pressure falls on it and its children before it falls on the runner.
 */
const ENLIST = '{ echo 500 >/proc/self/oom_score_adj; echo 0 >"$0"; } 2>/dev/null; exec "$@"';

/** The same program, as one that is to be ended and to be the first to go. */
export function enlisted(argv: Argv, cgroup: Cgroup | null): Argv {
  return process.platform === "linux" ? ["/bin/sh", "-c", ENLIST, cgroup?.door ?? "/dev/null", ...argv] : argv;
}
