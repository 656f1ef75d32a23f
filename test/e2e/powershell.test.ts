import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { JobSpec } from "../../src/local/coordinator/jobs/job.ts";
import { hasPwsh } from "../support/pwsh.ts";
import { openSite, type Site } from "../support/site.ts";

if (!hasPwsh) test.skip("jobs whose shell is pwsh, which is not on this machine", () => {});

describe.runIf(hasPwsh)("jobs in pwsh", { timeout: 300_000 }, () => {
  let site: Site;
  beforeAll(async () => {
    site = await openSite({ dialect: "gitlab", entry: 'shell = "pwsh"', global: "concurrent = 4\ncheck_interval = 1" });
  });
  afterAll(async () => await site.close());

  async function run(spec: JobSpec) {
    const job = site.coordinator.enqueue({ ...spec, variables: { GIT_STRATEGY: "none", ...spec.variables } });
    const { state, exitCode, failureReason } = await job.reported({ timeoutMs: 120_000 });
    const trace = job.trace.replace(/\x1b\[[0-9;]*[a-zA-Z]/g, "").replaceAll("\r", "");
    return { state, exitCode, failureReason, trace };
  }

  test("a script that cannot be read fails, and its error is the author's", async () => {
    const { state, exitCode, failureReason, trace } = await run({ script: ["'NO'", "Get-Item )"] });
    expect({ state, exitCode, failureReason }).toEqual({
      state: "failed",
      exitCode: 1,
      failureReason: "script_failure",
    });
    expect(trace).toContain(
      "ParserError: entry 2:1\nLine |\n   1 |  Get-Item )\n     |           ~\n     | Unexpected token ')'",
    );
    expect(trace).not.toMatch(/^NO$|Alloy[A-Z]|ScriptBlock/m);
  });

  test("an after_script that cannot be read is a warning, as one that fails is", async () => {
    const { state, trace } = await run({ script: ["'YES'"], afterScript: "if (" });
    expect(state).toBe("success");
    expect(trace).toMatch(/^YES$/m);
    const broken = trace.slice(trace.indexOf("ParserError: entry 1:1"));
    expect(broken).toMatch(/after_script failed: .*; this does not change the job's result/);
  });

  test("four at once have the status of each, and variables that PowerShell obeys", async () => {
    const jobs = await Promise.all([
      run({ script: ["sh -c 'exit 42'", "'NO'"] }),
      run({ script: ["try { Get-Item nope } catch { }", "Get-Item nope -ErrorAction SilentlyContinue", "'YES'"] }),
      run({ script: ["Get-Item nope\n'YES'"], variables: { ErrorActionPreference: "Continue" } }),
      run({ script: ["sh -c 'exit 7'\n'NO'"], variables: { PSNativeCommandUseErrorActionPreference: "true" } }),
    ]);
    expect(jobs.map(({ state, exitCode }) => [state, exitCode])).toEqual([
      ["failed", 42],
      ["success", undefined],
      ["success", undefined],
      ["failed", 7],
    ]);
    expect(jobs.map(({ trace }) => /^YES$/m.test(trace))).toEqual([false, true, true, false]);
    expect(jobs.some(({ trace }) => /^NO$/m.test(trace))).toBe(false);
    expect(jobs[0]?.trace).toContain("entry 1: the last program it ran ended with status 42");
  });

  test("a script of the configuration that cannot be read fails the job", async () => {
    await site.configure({
      entry: 'shell = "pwsh"\npost_build_script = "if ("',
      global: "concurrent = 4\ncheck_interval = 1",
    });
    await site.runner.stop("SIGTERM");
    await site.start();
    const { state, trace } = await run({ script: ["'NO'"] });
    expect(state).toBe("failed");
    expect(trace).toContain("ParserError: entry 2:1");
    expect(trace).not.toMatch(/^NO$/m);
  });
});
