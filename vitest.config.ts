import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Tests that need the cluster come last: it may still be being built. */
class ClusterLast extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const needsCluster = ({ moduleId }: TestSpecification): boolean =>
      /cluster|kubernetes/.test(moduleId.split("/test/")[1] ?? "");
    return [...sorted.filter((file) => !needsCluster(file)), ...sorted.filter(needsCluster)];
  }
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/own-home.ts"],
    environment: "node",
    pool: "forks",
    // Most of them wait for processes and engines: with as many as cores these are idle for half of the time.
    maxWorkers: Math.max(3, Math.ceil(1.5 * availableParallelism())),
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    // Three thousand tests of real processes on a busy machine: one that fails is run once more before it counts. The report
    // names those that needed it.
    retry: process.env.CI === "true" ? 1 : 0,
    // Where that many fail the machine is broken, and waiting for all the others' time limits would only hide what was said.
    bail: process.env.CI === "true" ? 40 : 0,
    unstubEnvs: true,
    sequence: { sequencer: ClusterLast },
  },
});
