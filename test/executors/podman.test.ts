import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { executorContract } from "../contract/executor.ts";
import { noEngine, testEngine } from "../support/docker.ts";
import { type DockerStand, openDockerStand } from "./docker-stand.ts";

const engine = await testEngine("podman");

describe("docker executor on podman", () => {
  if (engine === null) {
    test.skip(noEngine("podman"), () => {});
    return;
  }
  let stand: DockerStand;
  beforeAll(async () => {
    await engine.images("git");
    stand = openDockerStand(engine);
  }, 240_000);
  beforeEach(() => void stand.newRunner());
  afterAll(async () => {
    const left = await stand.leftovers();
    await stand.close();
    expect(left).toEqual([]);
  }, 120_000);

  executorContract("podman", {
    open: async (options) => stand.open({}, options),
    timeoutMs: 240_000,
    shared: true,
    jobsAtOnce: 8,
  });
});
