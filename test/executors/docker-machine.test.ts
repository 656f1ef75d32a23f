import { describe, test } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { noEngine, testEngine } from "../support/docker.ts";
import { machinesOfSuite } from "./docker-machine-stand.ts";
import { TIMEOUT_MS } from "./docker-stand.ts";

const engine = await testEngine("docker");

describe("docker+machine executor", () => {
  if (engine === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const { stand } = machinesOfSuite(engine, ["git"]);

  executorContract("docker+machine", {
    open: async (options) => stand().open({}, options),
    timeoutMs: TIMEOUT_MS,
    jobsAtOnce: 5,
    shared: true,
    skip: [
      {
        test: "jobs at the same time have directories of their own, also when their projects nest",
        because: "each has a machine of its own, and those of the tests have the same engine",
      },
      {
        test: "jobs of different trust find nothing of one another, and have slots as those of one",
        because: "each has a machine of its own, where it is the first",
      },
    ],
  });
});
