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
    skip: [...leftToDrivers],
  });
});
