import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { Environment } from "../../src/executor/environment.ts";
import type { Op } from "../../src/shell.ts";
import { pwshSource, runOps } from "../support/executor-kit.ts";
import { hasPwsh } from "../support/pwsh.ts";
import { opened as openedShell, preparedIn } from "./shell-stand.ts";

interface Opened {
  readonly dir: string;
  prepare(): Promise<Environment>;
}

function opened(buildsDir?: string): Opened {
  const { dir, executor } = openedShell({ buildsDir, shell: "pwsh" });
  return { dir, prepare: () => preparedIn(executor) };
}

async function run(environment: Environment, ops: readonly Op[]): Promise<{ code: number; text: string }> {
  const { code, text } = await runOps(environment, ops);
  return { code, text: text.replace(/\x1b\[[0-9;?]*[a-zA-Z]/g, "") };
}

if (!hasPwsh) test.skip("jobs in PowerShell: pwsh is not on this machine", () => {});

describe.runIf(hasPwsh)("scripts in pwsh through the shell executor", { timeout: 300_000 }, () => {
  test("have an empty input, all six streams in order, no progress, and UTF-8 both ways", async () => {
    const environment = await opened().prepare();
    const { code, text } = await run(
      environment,
      pwshSource(
        "cat",
        "$input | cat; 'read'",
        "try { Read-Host } catch { 'no answer' }",
        [
          "Write-Output 'one'",
          "Write-Error 'two' -ErrorAction Continue",
          "Write-Warning 'three'",
          "Write-Verbose 'four' -Verbose",
          "Write-Debug 'five' -Debug",
          "Write-Information 'six' -InformationAction Continue",
          "Write-Host 'host'; Write-Progress 'progress' -Status 'half' -PercentComplete 50",
        ].join("\n"),
        "'é世界' | cat; (printf 'é世界' | Out-String).Trim().Length; printf 'é世界\\n'; [Console]::Error.WriteLine('é')",
      ),
    );
    expect(code, text).toBe(0);
    const expected = [
      "read",
      "one",
      "two",
      "WARNING: three",
      "VERBOSE: four",
      "DEBUG: five",
      "six",
      "host",
      "é世界",
      "3",
      "é世界",
      "é",
    ];
    let from = 0;
    for (const word of expected) {
      const at = text.indexOf(`${word}\n`, from);
      expect([word, at >= from, text]).toEqual([word, true, text]);
      from = at + 1;
    }
    expect(text).not.toContain("half");
  });

  test("keep working where the author has redefined commands, is strict, or is elsewhere", async () => {
    const { dir, prepare } = opened();
    const environment = await prepare();
    const names = [
      "Set-Location",
      "Get-Location",
      "Set-Variable",
      "New-Object",
      "Get-Command",
      "Select-Object",
      "Write-Host",
      "cd",
    ];
    const { code, text } = await run(environment, [
      ...pwshSource(
        "Set-StrictMode -Version Latest",
        "$none = 1; try { $none.Foo } catch { }",
        names.map((name) => `function ${name} { throw 'the author''s' }`).join("\n"),
        "Microsoft.PowerShell.Management\\Set-Location Env:",
      ),
      { op: "mkdir", path: join(dir, "deep") },
      { op: "write", path: join(dir, "deep", "file"), content: "x" },
      { op: "export", name: "LATER", value: "later" },
      { op: "print", text: "between", tone: "plain" },
      ...pwshSource(
        "Microsoft.PowerShell.Management\\Set-Location /; $LATER; class A { $B = 1 }",
        "class C : A { }; [C]::new().B",
      ),
      { op: "cd", path: join(dir, "deep") },
      { op: "run", argv: ["ls"] },
      ...pwshSource("try { throw 'x' } catch { }", "$undefined"),
    ]);
    expect(text).toContain("between\nlater\n1\nfile\n");
    expect(text).toContain("entry 8:1");
    expect(code).toBe(1);
  });

  test("run in a builds directory with quotes, a dollar sign, a backtick and brackets", async () => {
    const { dir, prepare } = opened('it\'s a "$HOME" `b` [c]');
    const environment = await prepare();
    const { root } = environment.workspace;
    const { code, text } = await run(environment, [
      { op: "mkdir", path: root },
      { op: "cd", path: root },
      ...pwshSource("(Get-Location).ProviderPath", "'x' | Out-File -LiteralPath made; sh -c 'pwd; ls'"),
    ]);
    expect({ code, text }).toEqual({ code: 0, text: `${root}\n${root}\nmade\n` });
    expect(existsSync(join(dir, 'it\'s a "$HOME" `b` [c]'))).toBe(true);
  });

  test("find the programs and proxies of the login profile, and a profile does them no harm", async () => {
    const { dir, prepare } = opened();
    vi.stubEnv("HOME", dir);
    onTestFinished(() => void vi.unstubAllEnvs());
    const profile = 'export PATH="$HOME/tools:$PATH" https_proxy=http://proxy.example:3128 OTHER=1\necho noise\n';
    for (const name of [".bash_profile", ".profile"]) writeFileSync(join(dir, name), profile);
    mkdirSync(join(dir, "tools"));
    writeFileSync(join(dir, "tools", "from-profile"), "#!/bin/sh\necho found\n", { mode: 0o755 });
    const environment = await prepare();
    const { code, text } = await run(environment, pwshSource("from-profile", "$env:https_proxy", '"<$env:OTHER>"'));
    expect({ code, text }).toEqual({ code: 0, text: "found\nhttp://proxy.example:3128\n<>\n" });
  });
});
