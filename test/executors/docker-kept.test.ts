import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Environment } from "../../src/executor/environment.ts";
import { never } from "../../src/time.ts";
import { keepingContract, placeOf } from "../contract/keeping.ts";
import { keptCacheJobs } from "../contract/kept-caches.ts";
import { createRepository, serveGit } from "../job/git-server.ts";
import { imageName, testEngine } from "../support/docker.ts";
import { Sink, sampleRequest } from "../support/executor-kit.ts";
import { ownTrust } from "../support/job.ts";
import { standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

const engine = await testEngine("docker");

describe.skipIf(engine === null)("volumes of docker (needs an engine)", { timeout: TIMEOUT_MS }, () => {
  if (engine === null) return;
  const stand = standOfSuite(engine, ["git", "helper"]);

  describe("a project's own", () => {
    let environment: Environment;
    beforeAll(async () => {
      environment = await stand().open().prepare(sampleRequest(), new Sink(), never);
    }, TIMEOUT_MS);
    afterAll(async () => await environment.destroy(never), TIMEOUT_MS);
    keepingContract("docker executor", async () => placeOf(environment, "/builds"), 5);
  });

  test("jobs in containers get what was saved, with busybox in the helper", async () => {
    const dir = mkdtempSync(join(tmpdir(), "alloy-kept-"));
    onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
    const sha = createRepository(join(dir, "group/project")).commit({ "deps/list": "vendor" });
    const server = await serveGit(dir);
    onTestFinished(() => server.close());
    const executor = stand().open({ network_mode: "host", helper_image: imageName("helper") });
    await keptCacheJobs(executor, { url: `${server.origin}/group/project`, sha });
  });

  test("nothing is kept where volumes go with the job", async () => {
    for (const [table, trust] of [
      [{ disable_cache: true }, ownTrust],
      [{}, { ...ownTrust, level: "fork" as const }],
    ] as const) {
      const environment = await stand()
        .open(table)
        .prepare(sampleRequest("group/project", "7", trust), new Sink(), never);
      expect(environment.workspace.keeping).toBeUndefined();
      await environment.destroy(never);
    }
  });
});
