import { describe, test } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { noEngine, testEngine } from "../support/docker.ts";
import { standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

const engine = await testEngine("podman");

describe("docker executor on podman", () => {
  if (engine === null) {
    test.skip(noEngine("podman"), () => {});
    return;
  }
  const stand = standOfSuite(engine, ["git"]);

  executorContract("podman", {
    open: async (options) => stand().open({}, options),
    timeoutMs: TIMEOUT_MS,
    shared: true,
    jobsAtOnce: 8,
  });
});
