import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    environment: "node",
    pool: "forks",
    // Most of them wait for processes and engines; by default a machine with two cores would run them one by one.
    maxWorkers: Math.max(2, availableParallelism()),
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 20_000,
    // Three thousand tests of real processes on a busy machine: one that fails is run once more before it counts. The report
    // names those that needed it.
    retry: process.env.CI === "true" ? 1 : 0,
    unstubEnvs: true,
  },
});
