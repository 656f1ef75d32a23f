import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { SystemFailure } from "../../src/errors.ts";
import { never } from "../../src/time.ts";
import { executorContract } from "../contract/executor.ts";
import { pwshContract } from "../contract/pwsh-jobs.ts";
import { pwshSource, runOps, Sink, sampleRequest } from "../support/executor-kit.ts";
import { pwshFolder, pwshMissing } from "../support/pwsh.ts";
import { sshdMissing } from "../support/sshd.ts";
import { openStand, type SshStand } from "./ssh-stand.ts";

const missing = pwshMissing();
const TIMEOUT_MS = 240_000;

describe("ssh executor with PowerShell", () => {
  const none = missing ?? sshdMissing();
  if (none !== null) {
    test.skip(none, () => {});
    return;
  }
  let stand: SshStand;
  const named = `export PATH=$PATH:${pwshFolder()}\n`;
  beforeAll(async () => {
    stand = await openStand();
    profile(named);
  });
  afterAll(() => stand.close());
  const profile = (text: string): void => {
    // These files add the directory of `pwsh` to PATH, which sshd's own PATH does not have.
    for (const file of [".profile", ".bash_profile"]) writeFileSync(join(stand.user.home, file), text);
  };

  executorContract("ssh", {
    open: async (options) => stand.open({ shell: "pwsh", ...options }),
    timeoutMs: TIMEOUT_MS,
    shared: true,
    jobsAtOnce: 4,
  });
  pwshContract("ssh", {
    open: async (options) => stand.open({ shell: "pwsh", ...options }),
    // Only the owner of a packed pwsh can start a second one.
    startsJobs: false,
  });

  test("finds what the account's profile puts on the PATH", { timeout: TIMEOUT_MS }, async () => {
    const executor = stand.open({ shell: "pwsh" });
    onTestFinished(() => executor.close(never));
    const environment = await executor.prepare(sampleRequest(), new Sink(), never);
    onTestFinished(() => environment.destroy(never));
    const { text } = await runOps(environment, pwshSource(`$env:PATH.Split(':') -ccontains '${pwshFolder()}'`));
    expect(text).toBe("True\n");
  });

  test("a host without it is named", { timeout: TIMEOUT_MS }, async () => {
    profile("");
    onTestFinished(() => profile(named));
    const executor = stand.open({ shell: "pwsh" });
    onTestFinished(() => executor.close(never));
    const failure = await executor.prepare(sampleRequest(), new Sink(), never).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(SystemFailure);
    expect(String(failure)).toMatch(/127\.0\.0\.1.* has no pwsh\. Install it there/);
  });
});
