import { expect, test } from "vitest";
import type { RemoteCommands } from "../../executors/remote/index.ts";
import { claimWorkingCopy } from "../../executors/ssh/working-copy/claim.ts";
import { never } from "../../src/time.ts";
import { ownTrust } from "../support/job.ts";
import { localCommands } from "./remote/local.ts";

test("a far host that answers without end is no place for a job", async () => {
  const local = localCommands(["sh"], { PATH: process.env.PATH ?? "" });
  const flooding: RemoteCommands = {
    start: async (command, signal) =>
      await local.start({ ...command, script: 'n=0; while :; do n=$((n + 1)); echo "word$n"; done' }, signal),
  };
  const request = {
    buildsDir: "builds",
    runnerId: "0a1b2c3d",
    projectPath: "group/project",
    projectId: "7",
    trust: ownTrust,
    jobKey: "key",
    mark: "ALLOY_RUNNER_JOB_KEY=key.",
    killGraceMs: 1000,
    ephemeral: false,
    host: "far",
    leaseMs: 0,
  };
  await expect(claimWorkingCopy(flooding, request, never)).rejects.toThrow("its answer makes no sense");
});
