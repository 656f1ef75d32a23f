import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { powershell, pwsh } from "../../shells/powershell.ts";
import type { Op } from "../../src/shell.ts";
import { hasPwsh, openAuthor } from "../support/pwsh.ts";

if (!hasPwsh) test.skip("what PowerShell makes of entries: pwsh is not on this machine", () => {});

/** Functions of ours, our variable, what calls a script: nothing that an author has written. */
const OURS = /Alloy|ScriptBlock|DisplayScriptPosition/;

describe.runIf(hasPwsh).each([powershell, pwsh])("entries for $name", { timeout: 300_000 }, (writer) => {
  const author = openAuthor(writer);
  afterAll(() => author[Symbol.dispose]());
  const { dir, run } = author;

  test("go on where what failed was handled", () => {
    const handled = [
      'try { throw "a" } catch { }',
      "try { Get-Item nope } catch { }",
      "Get-Item nope -ErrorAction SilentlyContinue",
      "$x = Get-Item nope -ea:Ignore",
      "sh -c 'exit 3'; Get-Item nope -ErrorAction Ignore",
      "$ErrorActionPreference = 'SilentlyContinue'; Get-Item nope",
      "$ErrorActionPreference = 'Stop'",
      "sh -c 'exit 3'; if ($LASTEXITCODE -eq 3) { $global:LASTEXITCODE = 0 }",
      "Remove-Variable * -ErrorAction SilentlyContinue",
    ];
    expect(run([...handled, "'end'"])).toMatchObject({ status: 0, stdout: "end\n" });
  });

  test("run as they are, and what judges them is there only once one has not ended well", () => {
    const present = "@(Get-ChildItem function:Alloy*).Count -gt 0";
    const left = "return\n'no'";
    const failed = "Get-Item nope -ErrorAction SilentlyContinue";
    const functions = "function Leave { return 1 }; foreach ($i in 1, 2) { break }; $null = Leave";
    expect(
      run([functions, present, failed, present, left, failed, left, "$Error.Count; try { throw 1 } catch { }"]),
    ).toEqual({
      status: 0,
      stdout: "False\nTrue\n2\n",
      stderr: "",
    });
    expect(run(["'one'", "try { 'two' } finally { sh -c 'exit 4' }", "'no'"])).toEqual({
      status: 4,
      stdout: "one\ntwo\n",
      stderr: "entry 2: the last program it ran ended with status 4\n",
    });
    expect(run(["'one'", "& { break }", "'no'"])).toEqual({
      status: 1,
      stdout: "one\n",
      stderr: "entry 2: break or continue outside of a loop ended it\n",
    });
  });

  test("end the script where a program failed, and say which entry it was", () => {
    for (const text of ["sh -c 'exit 5' | Out-Null", "try { (sh -c 'exit 5') } catch { }"]) {
      expect(run(["$x = 1", text, "'no'"])).toEqual({
        status: 5,
        stdout: "",
        stderr: "entry 2: the last program it ran ended with status 5\n",
      });
    }
  });

  test("end the script by $? where the preference is Continue, and what comes before in an entry does not", () => {
    const { status, stdout, stderr } = run([
      "$ErrorActionPreference = 'Continue'",
      "Get-Item nope\n[int]::Parse('x')\n'goes on'",
      "Get-Item nope",
      "'no'",
    ]);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "goes on\n" });
    expect(stderr).toMatch(
      /entry 2:1\n[\s\S]*entry 2:2\n[\s\S]*entry 3:1\n[\s\S]*\nentry 3: its last command failed\n$/,
    );
    expect(stderr).not.toMatch(OURS);
  });

  test("show errors with the author's line, counted from the entry's start", () => {
    const preference = "$ErrorActionPreference = 'Stop'";
    const cases = [
      [
        '"one"\nWrite-Error "boo"',
        'Write-Error: entry 2:2\nLine |\n   2 |  Write-Error "boo"\n     |  ~~~~~~~~~~~~~~~~~\n     | boo\n',
      ],
      ['"one"\n\nthrow "boo"', 'Exception: entry 2:3\nLine |\n   3 |  throw "boo"\n     |  ~~~~~~~~~~~\n     | boo\n'],
      ["Microsoft.PowerShell.Utility\\Write-Error boo", "Write-Error: entry 2:1\n"],
    ] as const;
    for (const [text, said] of cases) {
      const { status, stderr } = run([preference, text, "'no'"]);
      expect({ status, stderr: stderr.slice(0, said.length) }).toEqual({ status: 1, stderr: said });
      expect(stderr).not.toMatch(OURS);
    }
  });

  test("see Write-Error as PowerShell's own", () => {
    const { stdout } = run([
      "$ErrorActionPreference = 'Continue'",
      [
        "Write-Error a; $?",
        "'b', 'c' | Write-Error -ErrorAction SilentlyContinue -ErrorVariable seen",
        "$seen.Count; $Error.Count; $Error[0].FullyQualifiedErrorId",
        "Write-Error -Exception (New-Object ArgumentException d) -Message e -Category OpenError -TargetObject f -ErrorId g",
        "$Error[0].ToString() + $Error[0].Exception.Message + $Error[0].TargetObject; $Error[0].FullyQualifiedErrorId",
        "$Error[0].CategoryInfo.Category",
        "function Write-Error { 'the author''s' }; Write-Error",
        "Set-StrictMode -Version Latest; Write-Output ok",
      ].join("\n"),
    ]);
    expect(stdout.split("\n")).toEqual([
      "False",
      "2",
      "3",
      "Microsoft.PowerShell.Commands.WriteErrorException,Write-Error",
      "edf",
      "g,Write-Error",
      "OpenError",
      "the author's",
      "ok",
      "",
    ]);
  });

  test("have what the first one uses, and fail in PowerShell's words for what it requires", () => {
    writeFileSync(join(dir, "own.psm1"), "class Own { $Value = 5 }\nfunction Get-Own { 6 }\n");
    const head = "#Requires -Version 5.0\nusing namespace System.IO\nusing module ./own.psm1";
    expect(run([`${head}\n[Path].Name; Get-Own`, "[File].Name; [Own]::new().Value"])).toEqual({
      status: 0,
      stdout: "Path\n6\nFile\n5\n",
      stderr: "",
    });
    const refused = run(["#requires -Version 99", "'no'"]);
    expect(refused).toMatchObject({ status: 1, stdout: "" });
    expect(refused.stderr).toMatch(/^The script 'entry 1\.ps1' cannot be run because .* PowerShell 99\.0\./);
  });

  test("obey variables of the job with PowerShell's names, in PowerShell's types", () => {
    const { status, stdout, stderr } = run(
      [
        "$ErrorActionPreference.GetType().Name, $FormatEnumerationLimit.GetType().Name, $WhatIfPreference.GetType().Name -join ' '",
        "Get-Item nope\nWrite-Verbose said\n\"$(1, 2)\"; $PSNativeCommandUseErrorActionPreference -is [bool]; $PID -gt 9; $Home -ne '/elsewhere'",
      ],
      {
        erroractionpreference: "Continue",
        VerbosePreference: "Continue",
        OFS: "-",
        FormatEnumerationLimit: "7",
        WhatIfPreference: "1",
        PSNativeCommandUseErrorActionPreference: "true",
        WarningPreference: "nonsense",
        MaximumHistoryCount: "many",
        PID: "7",
        HOME: "/elsewhere",
      },
    );
    const refused = (name: string): string =>
      `PowerShell does not take the value of the variable ${name} for its own $${name}, and goes on without it`;
    expect(stdout.split("\n")).toEqual([
      refused("WarningPreference"),
      refused("MaximumHistoryCount"),
      "ActionPreference Int32 Boolean",
      "VERBOSE: said",
      "1-2",
      "True",
      "True",
      "True",
      "",
    ]);
    expect({ status, place: /entry 2:1/.test(stderr) }).toEqual({ status: 0, place: true });
  });
});

test.runIf(hasPwsh)("a program that failed as an exception gives its status", { timeout: 300_000 }, () => {
  using author = openAuthor(pwsh);
  const native = "PSNativeCommandUseErrorActionPreference";
  const first = author.run([`$${native} = $true\n$ErrorActionPreference = "Stop"\nsh -c 'exit 7'`, "'no'"]);
  expect(first).toMatchObject({ status: 7, stdout: "" });
  expect(first.stderr).toMatch(/^NativeCommandExitException: entry 1:3\n/);
  const caught = "try { sh -c 'exit 7' } catch { $_.Exception.ExitCode }";
  expect(
    author.run([caught, "try { sh -c 'exit 7' } catch { }", "sh -c 'exit 8'", "'no'"], { [native]: "true" }),
  ).toMatchObject({
    status: 8,
    stdout: "7\n",
  });
  writeFileSync(join(author.dir, "native.ps1"), `$${native} = $true\n$ErrorActionPreference = 'Stop'\n`);
  expect(author.run([". ./native.ps1", "sh -c 'exit 9'", "'no'"])).toMatchObject({ status: 9, stdout: "" });
  expect(author.run([caught, "exit 3"], { [native]: "true" })).toMatchObject({ status: 3, stdout: "7\n" });
});

describe.each([powershell, pwsh])("the functions in a script for $name", (writer) => {
  const functionsOf = (ops: readonly Op[]): string[] =>
    [...writer.write(ops, { tmpDir: "/tmp", xtrace: false, proof: "proof" }).matchAll(/^function ([\w-]+)/gm)].map(
      ([, name = ""]) => name,
    );

  test("are those that it uses, and no more", () => {
    expect(functionsOf([])).toEqual([]);
    expect(functionsOf([{ op: "print", text: "AlloyRemove", tone: "plain" }])).toEqual([]);
    expect(functionsOf([{ op: "mkdir", path: "x" }])).toEqual([
      "AlloyStop",
      "AlloyTell",
      "AlloyFail",
      "AlloyPath",
      "AlloyMake",
    ]);
    const authored = functionsOf([{ op: "source", text: "'AlloyRemove Write-Error #requires'" }]);
    expect(authored).not.toContain("AlloyRemove");
    expect(functionsOf([{ op: "source", text: "Get-Date" }])).not.toContain("Write-Error");
  });

  test("are listed in the documentation, as is the one that has another's name", () => {
    const value = "x";
    // biome-ignore lint/suspicious/noThenProperty: it is a word of the contract, and nobody awaits an instruction
    const ask: Op = { op: "when", test: { test: "not", of: { test: "nested", path: value, name: value } }, then: [] };
    const all: readonly Op[] = [
      { op: "export", name: "OFS", value },
      { op: "unset", name: "A" },
      { op: "exportFile", name: "F", path: value, content: value },
      { op: "removeNamed", path: value, names: [value] },
      { op: "cd", path: value },
      { op: "mkdir", path: value },
      { op: "run", argv: ["git"] },
      { op: "repeat", attempts: 2, pauseSeconds: 0, body: [{ op: "exit", status: 1 }] },
      ...(["directory", "file", "exists", "symlink"] as const).map(
        // biome-ignore lint/suspicious/noThenProperty: as above
        (kind): Op => ({ op: "when", test: { test: kind, path: value }, then: [{ op: "remove", path: value }] }),
      ),
      ask,
      { op: "source", text: "#requires -Version 5\nWrite-Error x" },
    ];
    const page = readFileSync(join(import.meta.dirname, "../../docs/powershell.md"), "utf8");
    const listed: readonly string[] = page.match(/\bAlloy[A-Z]\w*|(?<=`)Write-Error(?=`)/g) ?? [];
    const functions = functionsOf(all);
    expect(functions.length).toBeGreaterThan(30);
    expect(functions.filter((name) => !/^Alloy[A-Z]/.test(name))).toEqual(["Write-Error"]);
    expect(functions.filter((name) => !listed.includes(name))).toEqual([]);
  });
});
