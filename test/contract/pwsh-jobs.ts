import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Environment } from "../../src/executor/environment.ts";
import type { Executor } from "../../src/executor/executor.ts";
import type { Op } from "../../src/shell.ts";
import { never } from "../../src/time.ts";
import { isAlive, pwshSource, runOps, Sink, sampleRequest, source } from "../support/executor-kit.ts";
import type { OpenOptions } from "./executor.ts";
import { hostileValues } from "./values.ts";

export interface PwshContractOptions {
  /** A fresh executor whose jobs are in PowerShell; the contract closes it. */
  open(options?: OpenOptions): Promise<Executor>;
  /** Whether Start-Job can start another PowerShell there. Default: true. */
  readonly startsJobs?: boolean;
}

/** No test takes this long, so nothing here ends because the grace period is over. */
const GRACE_MS = 60_000;
const TIMEOUT_MS = 120_000;

/** What PowerShell and its processes need of every executor that runs scripts in it. */
export function pwshContract(name: string, { open, startsJobs = true }: PwshContractOptions): void {
  describe(`${name}: what every executor does for PowerShell`, { timeout: TIMEOUT_MS }, () => {
    let executor: Executor;
    let environment: Environment;
    beforeAll(async () => {
      executor = await open({ killGraceMs: GRACE_MS });
      environment = await executor.prepare(sampleRequest(), new Sink(), never);
    }, 2 * TIMEOUT_MS);
    afterAll(async () => {
      await environment.destroy(never);
      await executor.close(never);
    }, TIMEOUT_MS);

    test("statuses are the script's", async () => {
      expect(environment.shell).toBe("pwsh");
      expect((await runOps(environment, pwshSource("'fine'"))).text).toBe("fine\n");
      expect((await runOps(environment, pwshSource("exit 3"))).code).toBe(3);
      expect((await runOps(environment, pwshSource("sh -c 'exit 42'"))).code).toBe(42);
      const thrown = await runOps(environment, pwshSource("throw 'a reason'", "'no'"));
      expect(thrown.code).toBe(1);
      expect(thrown.text).toContain("a reason");
    });

    test("what reads gets the end of input", async () => {
      const { code, text } = await runOps(
        environment,
        pwshSource(
          "cat",
          "'<' + [Console]::In.ReadToEnd() + '>'",
          "try { Read-Host } catch { 'nobody answers' }",
          "sh -c 'read x || echo eof'",
        ),
      );
      expect({ code, text }).toEqual({ code: 0, text: "<>\nnobody answers\neof\n" });
    });

    test("all streams arrive in the order of writing, and progress does not", async () => {
      const { text } = await runOps(
        environment,
        pwshSource(
          "Write-Output one",
          "sh -c 'echo two; echo three >&2'",
          "Write-Warning four",
          "Write-Verbose five -Verbose",
          "$DebugPreference = 'Continue'; Write-Debug six",
          "Write-Information seven -InformationAction Continue",
          "Write-Progress -Activity hidden -Status hidden -PercentComplete 5",
          "Write-Host eight",
          "Write-Error nine -ErrorAction Continue; 'ten'",
        ),
      );
      const words =
        text.replace(/\x1b\[[0-9;]*m/g, "").match(/\b(?:one|two|three|four|five|six|seven|eight|nine|ten)\b/g) ?? [];
      expect([...new Set(words)]).toEqual("one two three four five six seven eight nine ten".split(" "));
      expect(text).not.toContain("hidden");
    });

    test("output comes while the script works, its own and that of programs", async () => {
      const { tmpDir } = environment.workspace;
      const output = new Sink();
      const running = runOps(
        environment,
        [
          { op: "mkdir", path: tmpDir },
          ...pwshSource(
            "'from a cmdlet'",
            "sh -c 'printf without-an-end'",
            `while (-not (Test-Path -LiteralPath '${tmpDir}/go')) { Start-Sleep -Milliseconds 50 }`,
            "'gone on'",
          ),
        ],
        { output },
      );
      await output.until(/from a cmdlet\nwithout-an-end$/);
      await runOps(environment, [{ op: "write", path: `${tmpDir}/go`, content: "" }]);
      expect((await running).text).toMatch(/gone on\n$/);
    });

    test("values and files reach the script byte for byte", async () => {
      const { tmpDir } = environment.workspace;
      const values = hostileValues.filter((value) => value.length < 50_000);
      const ops = values.flatMap((value, index): Op[] => [
        { op: "export", name: `V_${index}`, value },
        { op: "exportFile", name: `F_${index}`, path: `${tmpDir}/value-${index}`, content: value },
      ]);
      const script = `foreach ($i in 0..${values.length - 1}) {
        [Convert]::ToBase64String([Text.Encoding]::UTF8.GetBytes([Environment]::GetEnvironmentVariable("V_$i")))
        [Convert]::ToBase64String([IO.File]::ReadAllBytes([Environment]::GetEnvironmentVariable("F_$i")))
      }`;
      const { text } = await runOps(environment, [...ops, ...pwshSource(script)]);
      const expected = values.flatMap((value) => {
        const base64 = Buffer.from(value).toString("base64");
        return [base64, base64];
      });
      expect(text).toBe(`${expected.join("\n")}\n`);
    });

    test("5,000 variables are no problem", async () => {
      const exports = Array.from({ length: 5000 }, (_, i): Op => ({ op: "export", name: `MANY_${i}`, value: `v${i}` }));
      const count = "@(Get-ChildItem Env:MANY_*).Count; \"$env:MANY_4999 $MANY_4999\"; sh -c 'echo $MANY_0'";
      const { text } = await runOps(environment, [...exports, ...pwshSource(count)]);
      expect(text).toBe("5000\nv4999 v4999\nv0\n");
    });

    test("what it left running is ended: a process, a job, a job in a thread", async () => {
      const job = `$j = Start-Job { "pid $PID"; Start-Sleep 600 }
        while (-not ($said = Receive-Job $j)) { Start-Sleep -Milliseconds 50 }; $said`;
      const { code, text } = await runOps(
        environment,
        pwshSource(
          '$p = Start-Process sleep -ArgumentList 600 -PassThru; "pid $($p.Id)"',
          ...(startsJobs ? [job] : []),
          "$null = Start-ThreadJob { Start-Sleep 600 }",
          "exit 4",
        ),
      );
      expect(code, text).toBe(4);
      const pids = [...text.matchAll(/^pid (\d+)$/gm)].flatMap(([, pid]) => pid ?? []);
      expect(pids, text).toHaveLength(startsJobs ? 2 : 1);
      for (const pid of pids) expect(await isAlive(environment, pid)).toBe(false);
      expect(text).toContain(`sleep (${pids[0]})`);
    });

    test("a stop inside Start-Sleep ends all of it at once, without the grace", async () => {
      const output = new Sink();
      const stop = new AbortController();
      const script = '$p = Start-Process sleep -ArgumentList 601 -PassThru; "ready $PID $($p.Id)"; Start-Sleep 600';
      const running = runOps(environment, pwshSource(script), { output, signal: stop.signal });
      const [, ...pids] = await output.until(/ready (\d+) (\d+)/);
      const start = performance.now();
      stop.abort(new Error("canceled"));
      await expect(running).rejects.toThrow("canceled");
      expect(performance.now() - start).toBeLessThan(2000);
      for (const pid of pids) expect(await isAlive(environment, pid)).toBe(false);
    });

    test("the runner's own scripts run beside it in the plain shell", async () => {
      const { root } = environment.workspace;
      expect(
        (await runOps({ ...environment, shell: "sh" }, [{ op: "mkdir", path: root }, ...source("pwd")])).code,
      ).toBe(0);
    });
  });
}
