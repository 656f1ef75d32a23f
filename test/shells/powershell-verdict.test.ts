import { afterAll, describe, expect, test } from "vitest";
import { powershell, pwsh } from "../../shells/powershell.ts";
import { hasPwsh, openAuthor } from "../support/pwsh.ts";

if (!hasPwsh) test.skip("what PowerShell makes of scripts: pwsh is not on this machine", () => {});

describe.runIf(hasPwsh).each([powershell, pwsh])("a script for $name", { timeout: 300_000 }, (writer) => {
  const author = openAuthor(writer);
  afterAll(() => author[Symbol.dispose]());

  test("that cannot be read shows the author's line and place of each error, and nothing runs", () => {
    const { status, stdout, stderr } = author.run(["'no'", "'no'\nGet-Item )\n}\n", "'no'"]);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
    expect(stderr.split("\n")).toEqual([
      "ParserError: entry 2:2",
      "Line |",
      "   2 |  Get-Item )",
      "     |           ~",
      "     | Unexpected token ')' in expression or statement.",
      "ParserError: entry 2:3",
      "Line |",
      "   3 |  }",
      "     |  ~",
      "     | Unexpected token '}' in expression or statement.",
      "",
    ]);
  });

  test("says that it succeeded only at its end, or where the author says exit 0", () => {
    for (const texts of [
      ["break", "'no'"],
      ["'yes'; break nowhere", "'no'"],
      ["'yes'; continue nowhere", "'no'"],
      ["throw (New-Object Management.Automation.PipelineStoppedException)", "'no'"],
      ["trap { break }\nthrow 'x'", "'no'"],
      ["throw 'x'", "'no'"],
    ]) {
      const { status, stdout } = author.run(texts);
      expect([texts, status === 0, stdout.includes("no")]).toEqual([texts, false, false]);
    }
    expect(author.run(["if ($true) { exit 0 }", "'no'"])).toEqual({ status: 0, stdout: "", stderr: "" });
  });

  test("takes a block that is spread over entries for one, and what one entry defines is there in the next", () => {
    const { status, stdout, stderr } = author.run([
      "foreach ($i in 1, 2) {",
      "  $i",
      "}",
      "class One { $Value = 3 }",
      "class Two : One { }; [Two]::new().Value",
      "function Four { 4 }",
      "Four; if ($i) { return }; 'no'",
      "'last'",
    ]);
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "1\n2\n3\n4\nlast\n", stderr: "" });
  });
});
