import { afterAll, beforeAll } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { type CustomStand, leftToDrivers, openCustomStand } from "./custom-stand.ts";

let stand: CustomStand;
beforeAll(() => {
  stand = openCustomStand();
});
afterAll(() => stand.close());

executorContract("custom, scripts on this machine", {
  open: async () =>
    stand.open({
      config_exec: stand.program("config", `echo '{"builds_dir_is_shared": true}'`),
      // Ends what scripts have left, which it finds by the mark in its environment.
      cleanup_exec: stand.program(
        "cleanup",
        `for one in /proc/[0-9]*; do
          pid=\${one#/proc/}
          [ "$pid" != $$ ] && [ "$pid" != $PPID ] || continue
          tr '\\0' '\\n' <"$one/environ" 2>/dev/null | grep -q "^ALLOY_RUNNER_JOB_KEY=$ALLOY_RUNNER_JOB_KEY" || continue
          case $(tr '\\0' ' ' <"$one/cmdline") in *cleanup*) ;; *) kill -9 "$pid" 2>/dev/null;; esac
        done; exit 0`,
      ),
    }),
  skip: [
    ...leftToDrivers,
    {
      test: "jobs at the same time have directories of their own, also when their projects nest",
      because: "directories are those of GitLab Runner, whose projects do not nest",
    },
  ],
});
