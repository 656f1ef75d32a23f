import { describe, test } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { noEngine, testEngine } from "../support/docker.ts";
import { standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

const engine = await testEngine("docker");

describe("docker executor", () => {
  if (engine === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const stand = standOfSuite(engine, ["git"]);

  executorContract("docker", { open: async (options) => stand().open({}, options), timeoutMs: TIMEOUT_MS });
});
