import { afterAll, beforeAll, describe, test } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { machinesMissing } from "../support/machines/machines.ts";
import { type MachineStand, openMachineStand, VERSIONS } from "./machine-stand.ts";

const missing = machinesMissing();
const NOTHING_STAYS = "each job begins with the same snapshot, and finds nothing of another";

describe("virtualbox executor", () => {
  if (missing !== null) {
    test.skip(`needs guests: ${missing}`, () => {});
    return;
  }
  let stand: MachineStand;
  beforeAll(() => {
    stand = openMachineStand("virtualbox", VERSIONS["7.0"]);
  });
  afterAll(() => stand.close());

  executorContract("virtualbox", {
    open: async (options) => stand.open({}, options),
    timeoutMs: 120_000,
    shared: true,
    jobsAtOnce: 3,
    skip: [
      "the next job finds the checkout of the last one, and none of its temporary files",
      "jobs of different trust find nothing of one another, and have slots as those of one",
      "a job builds its commit, whatever the last one left in the index and the objects",
    ].map((title) => ({ test: title, because: NOTHING_STAYS })),
  });
});
