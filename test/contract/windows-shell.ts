import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Op, Test as Question, ShellWriter } from "../../src/shell.ts";
import { hostileValues, noise } from "./values.ts";

/** A shell of Windows, with the texts by which its authors do a few things. */
export interface WindowsShell {
  readonly writer: ShellWriter;
  /** Directory of the tests' files, as this machine names it and as scripts name it. */
  readonly dir: string;
  readonly place: string;
  /** Starts the writer's command with this script (and its parts) in `dir`. */
  run(script: string, parts: ReturnType<NonNullable<ShellWriter["parts"]>> | undefined): ShellResult;
  readonly say: {
    readonly print: (word: string) => string;
    readonly leave: (status: number) => string;
    /** A program ends with this status. */
    readonly fail: (status: number) => string;
    readonly set: (name: string, value: string) => string;
    readonly show: (name: string) => string;
    readonly comment: string;
    /** Texts with syntax errors in this shell. */
    readonly broken: readonly string[];
    /** Saves the whole environment, NUL between its entries, as this machine's file `path`. */
    readonly dump: (path: string) => string;
    /** A program that prints its arguments with NUL after each: its own argv up to them. */
    readonly args: readonly [string, ...string[]];
    /** A program that exists, one that prints something, and one that ends with a status. */
    readonly program: string;
    readonly noise: readonly [string, ...string[]];
    readonly exit: (status: number) => readonly [string, ...string[]];
  };
  /** The status of a program that does not exist. */
  readonly unknownProgram: number;
  readonly skip?: readonly { readonly test: string; readonly because: string }[];
  /** Values that cannot be tried here, and why. */
  readonly fitsDirect?: (value: string) => boolean;
  readonly fitsLater?: (value: string) => boolean;
  readonly fitsArgument?: (value: string) => boolean;
}

export interface ShellResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const PROOF = "proof-8c1f2a";

/** Limit of one test: PowerShell and Wine take a second and more to start, many more where a machine is busy. */
const SHELL_TIMEOUT_MS = 300_000;

function when(question: Question, yes: readonly Op[], no: readonly Op[] = []): Op {
  // biome-ignore lint/suspicious/noThenProperty: it is a word of the contract, and nobody awaits an instruction
  return { op: "when", test: question, then: yes, else: no };
}

/** Tests that scripts for the shells of Windows pass; `test/contract/shell.ts` has the same for POSIX shells. */
export function windowsShellContract(name: string, open: () => WindowsShell, shell: Pick<WindowsShell, "skip">): void {
  const skipped = new Map(shell.skip?.map((one) => [one.test, one.because]));
  const check = (title: string, body: (shell: WindowsShell) => void): void => {
    const because = skipped.get(title);
    // The test is not registered at all, because it can never run with this shell.
    if (because === undefined) test(title, () => body(open()), SHELL_TIMEOUT_MS);
  };

  const write = ({ writer }: WindowsShell, ops: readonly Op[], xtrace = false) => {
    const options = { tmpDir: "/tmp", xtrace, proof: PROOF };
    return { text: writer.write(ops, options), parts: writer.parts?.(ops, options) };
  };
  const run = (shell: WindowsShell, ops: readonly Op[], xtrace = false): ShellResult => {
    const { text, parts } = write(shell, ops, xtrace);
    const { status, stdout, stderr } = shell.run(text, parts);
    const lines = stdout.replaceAll("\r\n", "\n");
    expect(lines.slice(0, PROOF.length + 1), stderr).toBe(`${PROOF}\n`);
    return { status, stdout: lines.slice(PROOF.length + 1), stderr };
  };
  const source = (...texts: readonly string[]): Op[] => texts.map((text) => ({ op: "source", text }));
  const print = (text: string): Op => ({ op: "print", text, tone: "plain" });
  const environmentOf = (path: string): Map<string, string> =>
    new Map(
      readFileSync(path, "utf8")
        .split("\0")
        .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
    );

  describe(`${name} scripts`, () => {
    check("the same instructions are the same bytes", (shell) => {
      const ops: Op[] = [{ op: "export", name: "A", value: "é'\"%\n" }, ...source("x"), print("y")];
      expect(write(shell, ops)).toEqual(write(shell, ops));
    });

    check("lines of a file become variables as they are, where the shell can read them", (shell) => {
      const [file, lines] = [join(shell.dir, "environment"), join(shell.dir, "lines.env")];
      const ops: Op[] = [
        { op: "exportLines", name: "LINES_FILE", path: `${shell.place}/lines.env` },
        ...source(shell.say.dump(file)),
      ];
      expect(run(shell, ops)).toMatchObject({ status: 0, stderr: "" });
      const reads = shell.writer.name !== "cmd";
      expect([existsSync(lines), environmentOf(file).has("LINES_FILE")]).toEqual([reads, reads]);
      writeFileSync(lines, "L_1=a=b $(id) !x! 'q' \"w\" Größe\r\nno line\n1X=no\nL_2=first\nL_2=last\nL_3=end");
      expect(run(shell, ops)).toMatchObject({ status: 0, stderr: "" });
      const seen = environmentOf(file);
      const expected = reads ? ["a=b $(id) !x! 'q' \"w\" Größe", "last", "end"] : [undefined, undefined, undefined];
      expect([seen.get("L_1"), seen.get("L_2"), seen.get("L_3")]).toEqual(expected);
      expect(seen.has("1X")).toBe(false);
    });

    check("values arrive byte for byte in the environment of programs, and none is run", (shell) => {
      const values = [...hostileValues, ...noise(1000)].filter((value) => value !== "");
      const direct = values.filter(shell.fitsDirect ?? (() => true));
      const later = values.filter(shell.fitsLater ?? (() => true));
      const file = join(shell.dir, "environment");
      const { status, stderr } = run(shell, [
        ...direct.map((value, index): Op => ({ op: "export", name: `D_${index}`, value })),
        ...source(shell.say.comment),
        ...later.map((value, index): Op => ({ op: "export", name: `L_${index}`, value })),
        { op: "export", name: "D_0", value: "", around: ["<", ">"] },
        ...source(shell.say.dump(file)),
      ]);
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      const seen = environmentOf(file);
      expect(seen.get("D_0")).toBe(`<${direct[0]}>`);
      for (const [index, value] of direct.entries()) if (index > 0) expect(seen.get(`D_${index}`)).toBe(value);
      for (const [index, value] of later.entries()) expect([value, seen.get(`L_${index}`)]).toEqual([value, value]);
      expect(existsSync(join(shell.dir, "pwned"))).toBe(false);
    });

    check("files get their content byte for byte and replace what was there", (shell) => {
      const contents = [...hostileValues, ...noise(20), "a\0b", "é".repeat(100_000)];
      mkdirSync(join(shell.dir, "old"));
      writeFileSync(join(shell.dir, "old", "read-only"), "before", { mode: 0o444 });
      const { status, stdout, stderr } = run(shell, [
        ...contents.map((content, i): Op => ({ op: "write", path: `${shell.place}/new/deep (1)/f${i}`, content })),
        { op: "write", path: `${shell.place}/old/read-only`, content: "after" },
        { op: "exportFile", name: "FILE", path: `${shell.place}/new/named`, content: "content" },
        ...source(shell.say.show("FILE")),
      ]);
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      expect(stdout.trim().replaceAll("\\", "/")).toBe(`${shell.place}/new/named`);
      for (const [i, content] of contents.entries()) {
        expect(readFileSync(join(shell.dir, "new", "deep (1)", `f${i}`)).equals(Buffer.from(content))).toBe(true);
      }
      expect(readFileSync(join(shell.dir, "old", "read-only"), "utf8")).toBe("after");
      expect(readFileSync(join(shell.dir, "new", "named"), "utf8")).toBe("content");
    });

    check("commands get their arguments as they are", (shell) => {
      const values = [...hostileValues, ...noise(60)].filter((value) => value.length < 1000);
      const usable = values.filter(shell.fitsArgument ?? (() => true));
      const { text, parts } = write(shell, [{ op: "run", argv: [...shell.say.args, ...usable] }]);
      const { status, stdout, stderr } = shell.run(text, parts);
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      const printed = stdout.slice(stdout.indexOf("\n") + 1);
      expect(printed.split("\0").slice(0, -1)).toEqual(usable);
    });

    check("statuses are those of the author's script", (shell) => {
      const { say } = shell;
      const cases: readonly (readonly [readonly string[], number, string])[] = [
        [[say.print("one"), say.print("two")], 0, "one\ntwo\n"],
        [[say.leave(3), say.print("no")], 3, ""],
        [[say.leave(0), say.print("no")], 0, ""],
        [[say.comment, say.print("yes")], 0, "yes\n"],
        [["no-such-program-here", say.print("no")], shell.unknownProgram, ""],
        [[`${say.print("in")}\n${say.leave(4)}\n${say.print("no")}`], 4, "in\n"],
      ];
      for (const [texts, status, stdout] of cases) {
        const result = run(shell, source(...texts));
        expect([texts, result.status, result.stdout]).toEqual([texts, status, stdout]);
      }
    });

    check("a program's status is the script's", (shell) => {
      expect(run(shell, source(shell.say.fail(42), shell.say.print("no")))).toMatchObject({ status: 42, stdout: "" });
    });

    check("a program that fails ends the script", (shell) => {
      const result = run(shell, source(shell.say.fail(42), shell.say.print("no")));
      expect(result.stdout).toBe("");
      expect(result.status).not.toBe(0);
    });

    check("variables that an entry sets are there in the next one", (shell) => {
      expect(run(shell, source(shell.say.set("LATER", "value"), shell.say.show("LATER"))).stdout.trim()).toBe("value");
    });

    check("text that the shell cannot read fails the script", (shell) => {
      const no = shell.say.print("no");
      for (const texts of [...shell.say.broken.map((text) => [text, no]), ...shell.say.broken.slice(0, 1)]) {
        const result = run(shell, source(...texts));
        expect([texts, result.status, result.stderr === "", result.stdout]).toEqual([texts, 1, false, ""]);
      }
    });

    check("notices are one line in their tone, whatever they hold", (shell) => {
      const texts = hostileValues.filter((value) => value.length < 1000 && !/[\x07\b\x1a]/.test(value));
      const result = run(shell, [
        { op: "print", text: "$ make 'all' %s \\n", tone: "notice" },
        { op: "print", text: "careful", tone: "warning" },
        { op: "print", text: "-n", tone: "error" },
        ...texts.map(print),
      ]);
      const toned = "\x1b[32;1m$ make 'all' %s \\n\x1b[0;m\n\x1b[0;33mcareful\x1b[0;m\n\x1b[31;1m-n\x1b[0;m\n";
      const said = texts.map((text) => `${text}\n`).join("");
      expect(result.stdout).toBe(toned + said.replaceAll("\r\n", "\n"));
      expect(result.status).toBe(0);
    });

    check("the first failing instruction ends the script", (shell) => {
      const failing: readonly Op[] = [
        { op: "cd", path: `${shell.place}/no/such` },
        { op: "mkdir", path: `${shell.place}/plain-file/below` },
        { op: "write", path: `${shell.place}/plain-file/below`, content: "x" },
        { op: "run", argv: ["no-such-program-here", "x"] },
        { op: "exit", status: 9 },
      ];
      writeFileSync(join(shell.dir, "plain-file"), "");
      for (const op of failing) {
        const result = run(shell, [op, print("no")]);
        expect([op, result.stdout, result.status === 0]).toEqual([op, "", false]);
      }
      expect(run(shell, [{ op: "exit", status: 9 }]).status).toBe(9);
    });

    check("directories are made, entered and left", (shell) => {
      const dir = `${shell.place}/made (x86) & co/b`;
      const result = run(shell, [
        { op: "mkdir", path: dir },
        { op: "mkdir", path: dir },
        { op: "cd", path: dir },
        { op: "write", path: "relative", content: "here" },
        when({ test: "file", path: "relative" }, [print("found")]),
      ]);
      expect(result).toMatchObject({ status: 0, stdout: "found\n", stderr: "" });
      expect(readFileSync(join(shell.dir, "made (x86) & co", "b", "relative"), "utf8")).toBe("here");
    });

    check("questions are answered, also negated and nested", (shell) => {
      writeFileSync(join(shell.dir, "plain"), "");
      mkdirSync(join(shell.dir, "directory"));
      const at = (name: string): string => `${shell.place}/${name}`;
      const questions: readonly (readonly [Question, boolean])[] = [
        [{ test: "file", path: at("plain") }, true],
        [{ test: "file", path: at("directory") }, false],
        [{ test: "file", path: at("missing") }, false],
        [{ test: "directory", path: at("directory") }, true],
        [{ test: "directory", path: at("plain") }, false],
        [{ test: "directory", path: at("missing") }, false],
        [{ test: "exists", path: at("plain") }, true],
        [{ test: "exists", path: at("missing") }, false],
        [{ test: "symlink", path: at("plain") }, false],
        [{ test: "not", of: { test: "exists", path: at("missing") } }, true],
        [{ test: "not", of: { test: "not", of: { test: "file", path: at("plain") } } }, true],
        [{ test: "nested", path: at("plain-copy"), name: ".git" }, false],
        [{ test: "nested", path: at("odd-copy"), name: ".git" }, true],
        [{ test: "program", name: shell.say.program }, true],
        [{ test: "program", name: "no-such-program" }, false],
        [{ test: "succeeds", argv: shell.say.noise }, true],
        [{ test: "succeeds", argv: shell.say.exit(7) }, false],
        [{ test: "succeeds", argv: ["no-such-program-here"] }, false],
      ];
      mkdirSync(join(shell.dir, "plain-copy", ".git"), { recursive: true });
      mkdirSync(join(shell.dir, "odd-copy", "sub", ".git"), { recursive: true });
      const asked = questions.map(([question]) => when(question, [print("yes")], [print("no")]));
      const result = run(shell, [...asked, print("end")]);
      expect(result.stdout.trimEnd().split("\n")).toEqual([...questions.map(([, yes]) => (yes ? "yes" : "no")), "end"]);
      expect(result).toMatchObject({ status: 0, stderr: "" });
    });

    check("trees are removed with their read-only files", (shell) => {
      mkdirSync(join(shell.dir, "tree", "a b", "c"), { recursive: true });
      writeFileSync(join(shell.dir, "tree", "a b", "c", "read-only"), "", { mode: 0o444 });
      writeFileSync(join(shell.dir, "lonely"), "", { mode: 0o444 });
      writeFileSync(join(shell.dir, "kept"), "");
      const remove = (name: string): Op => ({ op: "remove", path: `${shell.place}/${name}` });
      const result = run(shell, [remove("tree"), remove("lonely"), remove("missing"), print("after")]);
      expect(result).toMatchObject({ status: 0, stdout: "after\n", stderr: "" });
      expect(readdirSync(shell.dir)).toContain("kept");
      expect(["tree", "lonely"].some((name) => existsSync(join(shell.dir, name)))).toBe(false);
    });

    check("files are removed by name, literally or by ending, and nothing else", (shell) => {
      const deep = join(shell.dir, "named tree", "deep");
      mkdirSync(join(deep, "x.lock"), { recursive: true });
      for (const name of ["index.lock", "[a]", "a", "kept", "config"]) writeFileSync(join(deep, name), "");
      writeFileSync(join(deep, "x.lock", "kept"), "");
      const result = run(shell, [
        { op: "removeNamed", path: `${shell.place}/named tree`, names: ["*.lock", "[a]", "config"] },
        { op: "removeNamed", path: `${shell.place}/missing`, names: ["x"] },
        print("after"),
      ]);
      expect(result).toMatchObject({ status: 0, stdout: "after\n", stderr: "" });
      expect(readdirSync(deep).sort()).toEqual(["a", "kept", "x.lock"]);
    });

    check("a body is repeated until it succeeds, and the last status counts", (shell) => {
      const repeat = (attempts: number, body: readonly Op[]): Op => ({ op: "repeat", attempts, pauseSeconds: 0, body });
      const marker = `${shell.place}/marker`;
      const second: Op[] = [
        when(
          { test: "file", path: marker },
          [print("done")],
          [{ op: "write", path: marker, content: "" }, print("first"), { op: "exit", status: 5 }],
        ),
      ];
      expect(run(shell, [repeat(3, second), print("after")])).toMatchObject({
        status: 0,
        stdout: "first\ndone\nafter\n",
      });
      const failing: Op[] = [print("try"), { op: "run", argv: shell.say.exit(6) }, print("no")];
      expect(run(shell, [repeat(2, failing), print("no")])).toMatchObject({ status: 6, stdout: "try\ntry\n" });
      const nested = repeat(2, [repeat(2, [print("in"), { op: "exit", status: 8 }])]);
      expect(run(shell, [nested, print("no")])).toMatchObject({ status: 8, stdout: "in\n".repeat(4) });
    });

    check("variables can be taken away again", (shell) => {
      const file = join(shell.dir, "without");
      run(shell, [
        { op: "export", name: "GONE", value: "1" },
        { op: "unset", name: "GONE" },
        { op: "unset", name: "NEVER" },
        ...source(shell.say.dump(file)),
      ]);
      expect(environmentOf(file).has("GONE")).toBe(false);
    });

    check("xtrace shows the author's commands and no exported value", (shell) => {
      const secret = (variable: string): Op => ({ op: "export", name: variable, value: "tell-nobody" });
      const result = run(
        shell,
        [secret("A"), ...source(shell.say.print("early")), secret("B"), print("x"), ...source(shell.say.print("late"))],
        true,
      );
      expect(result.status).toBe(0);
      const shown = result.stdout + result.stderr;
      expect(shown.split("late").length).toBeGreaterThan(2);
      expect(shown).not.toContain("tell-nobody");
      expect(run(shell, source(shell.say.print("late"))).stdout).toBe("late\n");
    });

    check("many entries work", (shell) => {
      const entries = Array.from({ length: 500 }, () => shell.say.comment);
      expect(run(shell, source(...entries, shell.say.print("end")))).toMatchObject({ status: 0, stdout: "end\n" });
    });

    check("a script that was cut anywhere gives no proof and runs nothing", (shell) => {
      const { text, parts } = write(shell, source(shell.say.print("ran")));
      const step = Math.ceil(text.length / 6);
      for (let length = step; length < text.trimEnd().length; length += step) {
        const { stdout } = shell.run(text.slice(0, length), parts);
        expect(stdout).not.toContain(PROOF);
        expect(stdout).not.toContain("ran");
      }
    });
  });
}
