import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { listFiles } from "../../executors/shell/files/list.ts";
import { commandFor, findOnPath } from "../../executors/shell/windows/command.ts";
import { windowsPattern, withWindowsPatterns } from "../../executors/shell/windows/patterns.ts";
import { breakScript, descendantsOf, listingScript, parseListing } from "../../executors/shell/windows/processes.ts";
import { removeOnWindows } from "../../executors/shell/windows/remove.ts";
import { fitsWindows, inheritOnWindows, mergeVariables } from "../../executors/shell/windows/surroundings.ts";
import { cmd } from "../../shells/cmd.ts";
import { powershell, pwsh } from "../../shells/powershell.ts";
import { longPath, removeEntries } from "../../src/files/remove-tree.ts";
import { never } from "../../src/time.ts";
import { openPowerShellSyntax } from "../support/powershell-syntax.ts";

const ROOT = "C:\\Windows";

describe("a script's command line", () => {
  test("makes one pipe of both outputs, in any shell", () => {
    const path = "C:\\state (x86)\\a & b\\script.cmd";
    const lines = [cmd, powershell, pwsh].map((writer) => {
      const { program, args } = commandFor({ command: writer.command({ login: false }) }, path, ROOT);
      expect(program).toBe("C:\\Windows\\System32\\cmd.exe");
      return args.join(" ");
    });
    expect(lines[0]).toBe(`/d /e:on /v:off /s /c ""${path}" 2>&1"`);
    expect(lines[1]).toMatch(
      /^\/d .* \/s \/c "powershell -NoProfile .* -File "C:\\state \(x86\)\\a & b\\script.cmd" 2>&1"$/,
    );
    expect(lines[2]).toMatch(
      /^\/d .* -Command "\. \(\[ScriptBlock\]::Create[^"%!]*" <"C:\\state \(x86\)\\a & b\\script.cmd" 2>&1"$/,
    );
  });

  test("is refused for a place that cmd would read as something else", () => {
    const { command } = { command: cmd.command({ login: false }) };
    for (const path of ["C:\\100%\\x", "C:\\wow!\\x", 'C:\\"\\x']) {
      expect(() => commandFor({ command }, path, ROOT)).toThrow(/choose a state_dir/);
    }
  });

  test("never takes a program out of a job's directory", () => {
    const there = new Set(["C:\\Git\\cmd\\git.exe", "git.exe", ".\\git.exe"]);
    const find = (path: string): string => findOnPath("git", path, (file) => there.has(file));
    expect(find('.;bin;"C:\\Git\\cmd";D:\\')).toBe("C:\\Git\\cmd\\git.exe");
    expect(find(".;bin")).toBe("git");
  });
});

describe("variables on Windows", () => {
  test("have one spelling, and the last value counts", () => {
    expect(mergeVariables({ Path: "a", X: "1" }, { PATH: "b" }, { x: "2" })).toEqual({ PATH: "b", x: "2" });
  });

  test("reach a job only by a short list and by name", () => {
    const own = { path: "p", SECRET_KEY: "s", ProgramFiles: "f", "CommonProgramFiles(x86)": "c", MY_A: "1", TEMP: "" };
    expect(inheritOnWindows(own, ["my_*"])).toEqual({
      path: "p",
      ProgramFiles: "f",
      "CommonProgramFiles(x86)": "c",
      MY_A: "1",
    });
  });

  test("have Windows' own programs in their path where the runner was started without one", () => {
    expect(inheritOnWindows({ SystemRoot: "W:\\Win", PATH: "" }, [])).toEqual({
      SystemRoot: "W:\\Win",
      Path: "W:\\Win\\System32;W:\\Win;W:\\Win\\System32\\Wbem;W:\\Win\\System32\\WindowsPowerShell\\v1.0",
    });
  });
});

describe("paths on Windows", () => {
  test("that no directory can have are known", () => {
    for (const path of ["group/con", "AUX/x", "nul.git", "com1", "a./b", "a b /c", "a:b", "q?", "a//b", ""]) {
      expect([path, fitsWindows(path)]).toEqual([path, false]);
    }
    for (const path of ["group/project", "console/aux-tools", "a.b/c_d", "世界/x"]) {
      expect([path, fitsWindows(path)]).toEqual([path, true]);
    }
  });

  test("have a form without a limit", () => {
    expect(["C:/a/b", "\\\\server\\share\\x", "\\\\?\\C:\\a", "relative"].map(longPath)).toEqual([
      "\\\\?\\C:\\a\\b",
      "\\\\?\\UNC\\server\\share\\x",
      "\\\\?\\C:\\a",
      "relative",
    ]);
  });
});

describe("processes on Windows", () => {
  test("are read from the listing, and lines that are none are left out", () => {
    const text = "0 0 0 0 Idle\r\n4 0 133 0 System\r\n812 4 134 1 my tool \x1b.exe\r\n#< CLIXML\r\n";
    expect(
      parseListing(text).map(({ pid, parent, startedAt, name, named }) => [pid, parent, startedAt, name, named]),
    ).toEqual([
      [4, 0, 133, "System", false],
      [812, 4, 134, "my tool ?.exe", true],
    ]);
  });

  test("belong to a script by descent, also when what is between has ended, and never by a number used again", () => {
    const one = (pid: number, parent: number, startedAt: number) => {
      return { pid, parent, startedAt, group: 0, session: 0, name: `p${pid}` };
    };
    const root = { pid: 100, startedAt: 50, endedAt: 90 };
    const all = [
      one(1, 0, 1),
      one(300, 200, 70), // below what has ended
      one(200, 100, 60),
      one(400, 100, 95), // of whoever got the number 100 later
      one(500, 100, 40), // of whoever had it before
      one(600, 200, 55), // older than its parent: that number was another's
    ];
    expect(descendantsOf(all, [root]).map(({ pid }) => pid)).toEqual([200, 300]);
    expect(descendantsOf([...all, one(100, 1, 50)], [root]).map(({ pid }) => pid)).toEqual([100, 200, 300, 400]);
    expect(descendantsOf([...all, one(100, 1, 92)], [root]).map(({ pid }) => pid)).toEqual([200, 300]);
  });

  test("are asked for in PowerShell that fits its grammar, whatever the key is", async () => {
    const syntax = await openPowerShellSyntax();
    for (const script of [listingScript("3611510f-1001"), listingScript("'; exit #"), breakScript(4711)]) {
      expect(syntax.errors(script)).toEqual([]);
    }
    expect(listingScript("'; exit #")).toContain("'*exit*'");
    expect(breakScript(4711)).toContain("AttachConsole(4711)");
  });
});

describe("a pattern", () => {
  test.each([
    ["out\\a.txt", "out/a.txt"],
    ["bin\\Release\\*.dll", "bin/Release/*.dll"],
    ["bin\\**\\{a,b}.exe", "bin/**/{a,b}.exe"],
    [".\\out\\", "./out/"],
    ["out/a.txt", "out/a.txt"],
    ["C:\\builds\\0\\app\\out\\a.txt", "out/a.txt"],
    ["c:/Builds/0/App/out/*.txt", "out/*.txt"],
    ["C:\\builds\\0\\app", "."],
    // Not in the project: refused as such by whoever reads it.
    ["C:\\builds\\0\\application\\x", "/C:/builds/0/application/x"],
    ["D:\\x", "/D:/x"],
    ["\\\\server\\share\\x", "//server/share/x"],
    ["..\\x", "../x"],
  ])("%s is %s", (written, read) => {
    expect(windowsPattern(written, "C:\\builds\\0\\app")).toBe(read);
  });

  test("with backslashes finds and excludes files, and does not leave the project", async () => {
    const root = mkdtempSync(join(tmpdir(), "alloy-patterns-"));
    try {
      mkdirSync(join(root, "bin", "Release", "deep"), { recursive: true });
      for (const name of ["a.dll", "b.dll", "a.pdb", "deep/c.dll"]) {
        writeFileSync(join(root, "bin", "Release", name), "");
      }
      const unused = async (): Promise<never> => Promise.reject(new Error("nothing is moved here"));
      const workspace = withWindowsPatterns({
        root,
        tmpDir: root,
        list: (select, signal) => listFiles({ root, untracked: async () => [] }, select, signal),
        pack: unused,
        unpack: unused,
      });
      const found = await workspace.list(
        {
          globs: [
            "bin\\Release\\*.dll",
            "bin\\**\\c.dll",
            `${root.replaceAll("/", "\\")}\\bin\\Release\\a.pdb`,
            "..\\x",
          ],
          exclude: ["bin\\Release\\b.*"],
          untracked: false,
        },
        never,
      );
      expect(found.paths).toEqual(["bin/Release/a.dll", "bin/Release/a.pdb", "bin/Release/deep/c.dll"]);
      expect(found.warnings).toEqual([expect.stringContaining("is outside of the project")]);
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  });
});

test.each([
  ["at once", (path: string) => removeOnWindows(path, never)],
  ["entry by entry", removeEntries],
])("a tree with read-only files and links is removed %s, and what links lead to stays", async (_how, remove) => {
  const dir = mkdtempSync(join(tmpdir(), "alloy-remove-"));
  try {
    mkdirSync(join(dir, "tree", "objects"), { recursive: true });
    mkdirSync(join(dir, "outside"));
    writeFileSync(join(dir, "outside", "kept"), "");
    writeFileSync(join(dir, "tree", "objects", "pack"), "", { mode: 0o444 });
    symlinkSync(join(dir, "outside"), join(dir, "tree", "link"));
    await remove(join(dir, "tree"));
    expect(existsSync(join(dir, "tree"))).toBe(false);
    await remove(join(dir, "tree"));
    expect(existsSync(join(dir, "outside", "kept"))).toBe(true);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
