import { describe, test } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { noEngine, testEngine } from "../support/docker.ts";
import { standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

const engine = await testEngine("docker");

describe.each([false, true])("docker executor, durable: %s", (durable) => {
  if (engine === null) {
    test.skip(noEngine("docker"), () => {});
    return;
  }
  const stand = standOfSuite(engine, ["git"]);

  executorContract(`docker${durable ? ", durable" : ""}`, {
    open: async (options) => stand().open({}, { durable, ...options }),
    timeoutMs: TIMEOUT_MS,
  });
});
