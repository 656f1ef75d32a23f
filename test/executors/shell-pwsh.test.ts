import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test, vi } from "vitest";
import { never } from "../../src/time.ts";
import { executorContract } from "../contract/executor.ts";
import { pwshContract } from "../contract/pwsh-jobs.ts";
import { pwshSource, runOps, Sink, sampleRequest } from "../support/executor-kit.ts";
import { pwshFolder, pwshMissing } from "../support/pwsh.ts";
import { newDirectory, opened, openIn, preparedIn } from "./shell-stand.ts";

describe("shell executor with PowerShell", () => {
  const missing = pwshMissing();
  if (missing !== null) {
    test.skip(missing, () => {});
    return;
  }
  const dir = newDirectory();
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  executorContract("pwsh", {
    open: async (options) => openIn(dir, { shell: "pwsh", ...options }),
    timeoutMs: 60_000,
    jobsAtOnce: 4,
  });
  pwshContract("shell", { open: async (options) => openIn(dir, { shell: "pwsh", ...options }) });

  test("is found, and finds programs, where the login profile says", async () => {
    const folder = pwshFolder();
    const { dir: home, executor } = opened({ shell: "pwsh" });
    vi.stubEnv("HOME", home);
    vi.stubEnv("PATH", "/usr/bin:/bin");
    writeFileSync(join(home, ".bash_profile"), `export PATH=/usr/bin:/bin:${folder}:/of/the/profile no_proxy=here\n`);
    const environment = await preparedIn(executor);
    const { text } = await runOps(environment, pwshSource("$env:PATH; $env:no_proxy"));
    expect(text).toMatch(/:\/of\/the\/profile\nhere\n$/);
  }, 60_000);

  test("starts with what makes it start sooner, and its programs have none of that, but what the operator has set", async () => {
    const name = "DOTNET_TieredPGO";
    const show = pwshSource(
      `[IO.File]::ReadAllText("/proc/$PID/environ").Split([char] 0) -match '^${name}='`,
      `sh -c 'echo "<\${${name}-none}>"'`,
    );
    const { executor } = opened({ shell: "pwsh" });
    expect((await runOps(await preparedIn(executor), show)).text).toBe(`${name}=00\n<none>\n`);
    vi.stubEnv(name, "1");
    const { executor: operators } = opened({ shell: "pwsh", inheritEnvironment: [name] });
    expect((await runOps(await preparedIn(operators), show)).text).toBe(`${name}=1\n<1>\n`);
  }, 60_000);

  test("is named where it is not", async () => {
    vi.stubEnv("PATH", "/usr/bin:/bin");
    const { dir: home, executor } = opened({ shell: "pwsh" });
    vi.stubEnv("HOME", home);
    writeFileSync(join(home, ".bash_profile"), "export PATH=/usr/bin:/bin\n");
    await expect(executor.prepare(sampleRequest(), new Sink(), never)).rejects.toThrow(
      'Cannot find the program "pwsh" on this machine',
    );
  });
});
