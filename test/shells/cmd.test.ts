import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cmd } from "../../shells/cmd.ts";
import { commandLine, windowsPath } from "../../shells/command-line.ts";
import type { Op } from "../../src/shell.ts";
import { type WindowsShell, windowsShellContract } from "../contract/windows-shell.ts";
import { hasWine, openWine, type Wine } from "../support/wine.ts";

/** Differences between Wine's cmd and that of Windows. */
const FAULTS: NonNullable<WindowsShell["skip"]> = [
  {
    test: "a program's status is the script's",
    because: "after `call other.cmd` its errorlevel is 1, whatever it was",
  },
];

if (!hasWine) test.skip('scripts of the writer "cmd" under Wine, which is not on this machine', () => {});

describe.runIf(hasWine)("under Wine", () => {
  let wine: Wine | undefined;
  let serial = 0;
  let shell: WindowsShell | undefined;
  beforeAll(() => {
    const opened = openWine();
    wine = opened;
    const { dir } = opened;
    copyFileSync("/usr/bin/printf", join(dir, "print.exe"));
    writeFileSync(join(dir, "dump.sh"), 'env -0 >"$DUMP_TO"\n');
    shell = {
      writer: cmd,
      dir,
      place: "T:",
      run: (script, parts) => {
        const own = `script-${++serial}`;
        mkdirSync(join(dir, own));
        try {
          writeFileSync(join(dir, own, "script.cmd"), script);
          for (const [name, content] of Object.entries(parts?.files ?? {}))
            writeFileSync(join(dir, own, name), content);
          const { argv } = cmd.command({ login: false });
          const environment = { ...parts?.environment, [parts?.directoryVariable ?? ""]: `T:\\${own}` };
          return opened.run([...argv, `T:\\${own}\\script.cmd`], environment);
        } finally {
          rmSync(join(dir, own), { recursive: true });
        }
      },
      say: {
        print: (word) => `echo ${word}`,
        leave: (status) => `exit ${status}`,
        fail: (status) => `cmd /d /c exit ${status}`,
        set: (name, value) => `set ${name}=${value}`,
        show: (name) => `echo %${name}%`,
        comment: "rem nothing",
        // Wine skips an open block only if it would not be entered anyway; Windows skips it always.
        broken: ["if 1==2 (", "if 1==2 (\necho no\nif 2==2 (\necho no\n)", "for %%a in () do ("],
        dump: (path) => `set DUMP_TO=${path}\nstart /wait /unix /bin/sh ${join(dir, "dump.sh")}`,
        args: ["T:/print.exe", "%s\\0"],
        program: "cmd",
        noise: ["cmd", "/d", "/c", "echo", "noise"],
        exit: (status) => ["cmd", "/d", "/c", "exit", String(status)],
      },
      // Wine expands text between exclamation marks in a value that was inserted, and its lines are shorter.
      fitsLater: (value) => !value.includes("!") && value.length < 8000,
      fitsArgument: (value) => !value.includes("!"),
      unknownProgram: 1,
    };
  }, 180_000);
  afterAll(() => wine?.[Symbol.dispose]());
  const open = (): WindowsShell => {
    if (shell === undefined) throw new Error("Wine could not be set up");
    return shell;
  };
  windowsShellContract("cmd", open, { skip: FAULTS });

  test("what an entry leaves open at its end takes nothing of the frame", () => {
    const { run, writer } = open();
    for (const text of [
      "echo one ^",
      "echo (one ^",
      "echo one &&",
      "echo (one &&",
      "echo one |",
      "if 1==1 (\necho one ^",
    ]) {
      const ops: readonly Op[] = [
        { op: "source", text },
        { op: "print", text: "next", tone: "plain" },
      ];
      const options = { tmpDir: "/tmp", xtrace: false, proof: "proof-8c1f2a" };
      const result = run(writer.write(ops, options), writer.parts?.(ops, options));
      expect([text, `${result.stdout}${result.stderr}`.match(/ALLOY|alloy|errorlevel/g)]).toEqual([text, null]);
      expect([text, result.stdout.replaceAll("\r", "").split("\n")[0]]).toEqual([text, "proof-8c1f2a"]);
    }
  }, 300_000);

  test("a batch file that an entry starts without call returns to the script, and so does exit /b", () => {
    const { dir, run, writer } = open();
    writeFileSync(join(dir, "tool.cmd"), "@echo tool\r\n");
    const entries = ["T:\\tool.cmd", "echo one", "exit /b 0", "echo two"];
    const ops = entries.map((text) => ({ op: "source", text }) as const);
    const options = { tmpDir: "T:\\tmp", xtrace: false, proof: "proof" };
    const { status, stdout } = run(writer.write(ops, options), writer.parts?.(ops, options));
    expect({ status, stdout }).toEqual({ status: 0, stdout: "proof\r\ntool\r\none\r\ntwo\r\n" });
  });
});

test("arguments are quoted as programs on Windows read them", () => {
  expect(commandLine(["a", "", "b c", 'q"q', "d\\", "e f\\", 'g\\"h', "i\nj"])).toBe(
    'a "" "b c" "q\\"q" d\\ "e f\\\\" "g\\\\\\"h" "i\nj"',
  );
});

test("paths are separated by backslashes and hold nothing that would end a word", () => {
  expect(["C:/a/b/", "C:/", "//server/share/x", ".git/config", 'C:/a"b\n', "C:/*/?"].map(windowsPath)).toEqual([
    "C:\\a\\b",
    "C:\\",
    "\\\\server\\share\\x",
    ".git\\config",
    "C:\\ab",
    "C:\\_\\_",
  ]);
});

test("values never stand in the text of a script, and its own names are no job's", () => {
  const secret = "s3cret & %PATH% !x!";
  const ops = [
    { op: "export", name: "A", value: secret },
    { op: "source", text: "rem" },
    { op: "export", name: "B", value: secret },
    { op: "run", argv: ["git", secret] },
    { op: "write", path: "T:/file", content: secret },
  ] as const;
  expect(cmd.write(ops, { tmpDir: "T:\\tmp", xtrace: true, proof: "proof" })).not.toContain("s3cret");
  const refused = ["", "A=B", "A%B", "A!", "1A", "A ", "ü", "errorlevel", "CD", "Date", "ALLOY_RUNNER_SCRIPT_DIR"];
  expect(refused.filter((name) => cmd.acceptsName(name))).toEqual([]);
  expect(["A", "_a", "A-B", "A.B", "A B", "ProgramFiles(x86)", "UID"].every((name) => cmd.acceptsName(name))).toBe(
    true,
  );
});

test("the end of an entry whose parentheses may not match is looked after, and no other's", () => {
  const marked = (text: string): boolean => {
    const ops = [{ op: "source", text }] as const;
    const options = { tmpDir: "T:\\tmp", xtrace: false, proof: "proof" };
    return Object.values(cmd.parts?.(ops, options).files ?? {}).some((file) =>
      file.includes("ALLOY_RUNNER_SCRIPT_END="),
    );
  };
  const open = ["if 1==1 (", "echo :)\nif x==x (\necho a", "if 1==1 (\necho ^)", 'if 1==1 (\necho ")"', "(("];
  expect(open.map(marked)).toEqual(open.map(() => true));
  const closed = [
    "npm test",
    "if 1==1 (echo a) else (echo b)",
    "echo :)",
    'echo "("',
    "echo ^(",
    "for %%a in (x) do (\necho %%a\n)",
  ];
  expect(closed.map(marked)).toEqual(closed.map(() => false));
});
