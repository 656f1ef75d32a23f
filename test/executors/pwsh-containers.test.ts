import { describe, expect, onTestFinished, test } from "vitest";
import docker from "../../executors/docker/index.ts";
import dockerSsh from "../../executors/docker-ssh/index.ts";
import { ScriptFailure } from "../../src/errors.ts";
import { never } from "../../src/time.ts";
import { executorContract } from "../contract/executor.ts";
import { pwshContract } from "../contract/pwsh-jobs.ts";
import { imageName, noEngine, sshPassword, testEngine } from "../support/docker.ts";
import { Sink, sampleRequest } from "../support/executor-kit.ts";
import { pwshMissing } from "../support/pwsh.ts";
import { standOfSuite, TIMEOUT_MS } from "./docker-stand.ts";

const missing = pwshMissing();
const engine = missing === null ? await testEngine("docker") : null;

describe("docker executor with PowerShell", () => {
  if (missing !== null || engine === null) {
    test.skip(missing ?? noEngine("docker"), () => {});
    return;
  }
  const stand = standOfSuite(engine, ["git", "sh", "pwsh"], { definition: docker, tables: {}, image: "pwsh" });
  executorContract("docker", {
    open: async (options) => stand().open({}, { shell: "pwsh", ...options }),
    timeoutMs: TIMEOUT_MS,
    shared: true,
    jobsAtOnce: 4,
  });
  pwshContract("docker", { open: async (options) => stand().open({}, { shell: "pwsh", ...options }) });

  test("an image without the shell that the operator has chosen is named", { timeout: TIMEOUT_MS }, async () => {
    for (const shell of ["pwsh", "bash"] as const) {
      const executor = stand().open({ image: imageName("sh") }, { shell });
      onTestFinished(() => executor.close(never));
      const failure = await executor.prepare(sampleRequest(), new Sink(), never).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(ScriptFailure);
      expect(String(failure)).toContain(`The image ${imageName("sh")} has no ${shell} on its PATH`);
    }
    expect(await stand().leftovers()).toEqual([]);
  });
});

describe("docker-ssh executor with PowerShell", () => {
  if (missing !== null || engine === null) {
    test.skip(missing ?? noEngine("docker"), () => {});
    return;
  }
  const ssh = { user: "root", password: sshPassword };
  const stand = standOfSuite(engine, ["git", "sshd", "pwsh"], {
    definition: dockerSsh,
    tables: { ssh },
    image: "pwsh",
  });
  pwshContract("docker-ssh", { open: async (options) => stand().open({}, { shell: "pwsh", ...options }) });

  test("an image without it is named", { timeout: TIMEOUT_MS }, async () => {
    const executor = stand().open({ image: imageName("sshd") }, { shell: "pwsh" });
    onTestFinished(() => executor.close(never));
    await expect(executor.prepare(sampleRequest(), new Sink(), never)).rejects.toThrow(
      `The image ${imageName("sshd")} has no pwsh. Use another image`,
    );
  });
});
