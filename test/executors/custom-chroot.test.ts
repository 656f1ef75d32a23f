import { join } from "node:path";
import { afterAll, beforeAll, describe, test } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { makeRootTar } from "../support/images.ts";
import { type CustomStand, chrootDriver, leftToDrivers, openCustomStand } from "./custom-stand.ts";

describe("a driver for chroots", () => {
  if (process.platform !== "linux" || process.getuid?.() !== 0) {
    test.skip("needs root on Linux", () => {});
    return;
  }
  let stand: CustomStand;
  beforeAll(async () => {
    stand = openCustomStand();
    await makeRootTar("git", join(stand.dir, "root.tar"));
  }, 120_000);
  afterAll(() => stand.close());

  executorContract("custom, each job in a chroot of its own", {
    open: async () => {
      const tar = join(stand.dir, "root.tar");
      return stand.open({
        config_exec: chrootDriver,
        config_args: ["config", tar],
        prepare_exec: chrootDriver,
        prepare_args: ["prepare", tar],
        run_exec: chrootDriver,
        run_args: ["run", tar],
        cleanup_exec: chrootDriver,
        cleanup_args: ["cleanup", tar],
      });
    },
    shared: true,
    jobsAtOnce: 4,
    timeoutMs: 60_000,
    skip: [
      ...leftToDrivers,
      ...[
        "what a background process still had to say is in the trace",
        "what passes the output on after the shell's end has two seconds for a first word",
        "leftovers may live on where the operator wants it",
        "a job that follows at once works where the last one did, whose clean-up is still under way",
        "the next job finds the checkout of the last one, and none of its temporary files",
        "jobs of different trust find nothing of one another, and have slots as those of one",
        "a job builds its commit, whatever the last one left in the index and the objects",
        "after a crash the notes lead to all that is left of a job, and to nothing else",
      ].map((test) => ({ test, because: "a chroot goes with its job, and processes with their script" })),
    ],
  });
});
