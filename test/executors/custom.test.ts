import { afterAll, beforeAll } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { type CustomStand, leftToDrivers, openCustomStand } from "./custom-stand.ts";

let stand: CustomStand;
beforeAll(() => {
  stand = openCustomStand();
});
afterAll(() => stand.close());

executorContract("custom, scripts on this machine", {
  open: async () => stand.open({ config_exec: stand.program("config", `echo '{"builds_dir_is_shared": true}'`) }),
  skip: [
    ...leftToDrivers,
    {
      test: "jobs at the same time have directories of their own, also when their projects nest",
      because: "directories are those of GitLab Runner, whose projects do not nest",
    },
  ],
});
