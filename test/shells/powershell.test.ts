import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { powershell, pwsh } from "../../shells/powershell.ts";
import { removeDeep } from "../../shells/powershell-prelude.ts";
import type { Op, ShellWriter } from "../../src/shell.ts";
import { hostileValues, noise } from "../contract/values.ts";
import { windowsShellContract } from "../contract/windows-shell.ts";
import { openPowerShellSyntax, type PowerShellSyntax } from "../support/powershell-syntax.ts";
import { hasPwsh, openPwsh } from "../support/pwsh.ts";

let syntax: PowerShellSyntax;
beforeAll(async () => {
  syntax = await openPowerShellSyntax();
});

const PROOF = "proof-8c1f2a";

function write(writer: ShellWriter, ops: readonly Op[], xtrace = false): string {
  return writer.write(ops, { tmpDir: "C:\\tmp", xtrace, proof: PROOF });
}

/** The script without its functions. */
function bodyOf(text: string): string {
  return text.slice(text.indexOf(PROOF));
}

const values = [...hostileValues, ...noise(1000), "‘", "’’", "‚‛'", "it’s ‘quoted’ 'here'"];

test("the script that removes deep directories for cmd fits the grammar", () => {
  expect(syntax.errors(removeDeep)).toEqual([]);
});

describe.each([powershell, pwsh])("scripts for $name", (writer) => {
  test("fit the grammar whatever their values are, and each word stands for its value", () => {
    const ops = values.flatMap((value, index): Op[] => [
      { op: "export", name: `V-${index}`, value },
      { op: "write", path: value, content: value },
      { op: "run", argv: ["git", value] },
      { op: "print", text: value, tone: "plain" },
    ]);
    const text = write(writer, ops);
    expect(syntax.errors(text)).toEqual([]);
    const literals = syntax.literals(text);
    const words = literals.slice(literals.indexOf(`${PROOF}\n`) + 1);
    const expected = values.flatMap((value, index) => [
      `V-${index}`,
      value,
      value,
      value,
      "git",
      undefined,
      `${value}\n`,
    ]);
    expect(words.length).toBe(expected.length + 1);
    for (const [index, value] of expected.entries()) {
      if (value !== undefined) expect(words[index + 1]).toBe(value);
    }
  });

  test("fit the grammar with every instruction, also nested and traced", () => {
    const every = values.slice(0, 40).flatMap((value): Op[] => [
      { op: "export", name: "A B", value: "", around: [value, value] },
      { op: "unset", name: "A" },
      { op: "exportFile", name: "F", path: value, content: `a\0${value}` },
      { op: "cd", path: value },
      { op: "mkdir", path: value },
      { op: "remove", path: value },
      { op: "removeNamed", path: value, names: ["*.lock", value] },
      { op: "removeNamed", path: value, names: [] },
      { op: "print", text: value, tone: "warning" },
      { op: "exit", status: 3 },
    ]);
    const asking: Op[] = (["directory", "file", "exists", "symlink"] as const).flatMap((kind): Op[] => [
      // biome-ignore lint/suspicious/noThenProperty: it is a word of the contract, and nobody awaits an instruction
      { op: "when", test: { test: kind, path: "it's" }, then: every },
      // biome-ignore lint/suspicious/noThenProperty: as above
      { op: "when", test: { test: "not", of: { test: kind, path: "x" } }, then: [], else: every },
    ]);
    const more: Op[] = [
      // biome-ignore lint/suspicious/noThenProperty: as above
      { op: "when", test: { test: "program", name: "git" }, then: asking },
      // biome-ignore lint/suspicious/noThenProperty: as above
      { op: "when", test: { test: "succeeds", argv: ["git", "x y"] }, then: [{ op: "source", text: "Get-Date `" }] },
      {
        op: "repeat",
        attempts: 3,
        pauseSeconds: 2,
        body: [{ op: "repeat", attempts: 1, pauseSeconds: 0, body: every }],
      },
      { op: "source", text: '$x = @"\nhere "$y"\n"@\nif ($x) {' },
      { op: "print", text: "between", tone: "notice" },
      { op: "source", text: "} # comment" },
    ];
    for (const xtrace of [false, true]) {
      const text = write(writer, more, xtrace);
      expect(syntax.errors(text)).toEqual([]);
    }
  });

  test("hold the author's text as it is, and it cannot reach the frame", () => {
    for (const text of ["'; exit 0 #", "}\n}\nexit 0", "@'\nx\n'@", "’; exit 0", "if (", "é 世界\r\n`t"]) {
      const script = write(writer, [{ op: "source", text }]);
      expect(syntax.errors(script)).toEqual([]);
      expect(syntax.literals(script)).toContain(text);
    }
  });

  test("that were cut anywhere do not fit the grammar, so nothing of them runs", () => {
    const text = write(writer, [{ op: "source", text: "'ran'" }]).trimEnd();
    const step = Math.ceil(text.length / 60);
    for (let length = step; length < text.length; length += step) {
      expect([length, syntax.errors(text.slice(0, length)).length]).not.toEqual([length, 0]);
    }
    expect(syntax.errors(text.slice(0, -1))).not.toEqual([]);
  });

  test("give values as bare variables, too, but where PowerShell has its own of that name", () => {
    const body = bodyOf(
      write(
        writer,
        ["CI_JOB_ID", "HOME", "Error", "A-B", "matches"].map((name): Op => ({ op: "export", name, value: "1" })),
      ),
    );
    expect(body.match(/^\$global:\w+ = \$env:/gm)?.length).toBe(1);
    expect(body).toContain("$global:CI_JOB_ID = $env:CI_JOB_ID = '1'");
    expect(body).toContain("AlloySet 'A-B' '1' $false");
  });

  test("come with a command that needs no quoting on any platform", () => {
    const { argv, scriptOn } = writer.command({ login: false });
    expect(argv.join("")).not.toMatch(/["'`%!^&|<>]/);
    expect(scriptOn).toBe(writer === pwsh ? "stdin" : "file");
    if (writer === pwsh) expect(syntax.errors(argv.at(-1) ?? "")).toEqual([]);
  });
});

test("a file for Windows PowerShell begins with the mark without which it takes UTF-8 for the code page", () => {
  expect(write(powershell, []).codePointAt(0)).toBe(0xfeff);
  expect(write(pwsh, []).startsWith("&")).toBe(true);
});

// No archive of Debian has PowerShell, so scripts are run only on machines where somebody has installed one.
if (hasPwsh) {
  for (const writer of [powershell, pwsh]) {
    const dir = mkdtempSync(join(tmpdir(), "alloy-pwsh-"));
    afterAll(() => rmSync(dir, { recursive: true, force: true }));
    const shell = openPwsh(writer, dir);
    windowsShellContract(writer.name, () => shell, {});
  }
}
