import { spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Op, Test as Question, ShellWriter } from "../../src/shell.ts";
import { hostileValues, noise } from "./values.ts";

/** A program in which the writer's scripts must work. */
export interface Interpreter {
  readonly name: string;
  readonly argv: readonly [string, ...string[]];
  /** PATH of its programs. Default: this machine's. */
  readonly path?: string;
}

interface Result {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

const PROOF = "proof-8c1f2a";

function when(question: Question, yes: readonly Op[], no: readonly Op[] = []): Op {
  // biome-ignore lint/suspicious/noThenProperty: it is a word of the contract, and nobody awaits an instruction
  return { op: "when", test: question, then: yes, else: no };
}

/** What every POSIX writer's script does, in each of `interpreters`. */
export function shellContract(writer: ShellWriter, interpreters: readonly Interpreter[]): void {
  describe.each(interpreters)(`${writer.name} scripts in $name`, ({ argv, path: programs = process.env.PATH }) => {
    let dir = "";
    beforeAll(() => {
      dir = mkdtempSync(join(tmpdir(), "alloy-shell-"));
    });
    afterAll(() => {
      spawnSync("chmod", ["-R", "u+rwX", dir]);
      rmSync(dir, { recursive: true, force: true });
    });

    const runText = (text: string, more: readonly string[] = [], environment: NodeJS.ProcessEnv = {}): Result => {
      const path = join(dir, "script");
      writeFileSync(path, text);
      const fd = openSync(path, "r");
      try {
        const [program, ...args] = argv;
        const result = spawnSync(program, [...args, ...more], {
          stdio: [fd, "pipe", "pipe"],
          cwd: dir,
          env: { PATH: programs, HOME: dir, ...environment },
          maxBuffer: 1 << 28,
          timeout: 30_000,
        });
        return {
          status: result.status,
          signal: result.signal,
          stdout: result.stdout.toString(),
          stderr: result.stderr.toString(),
        };
      } finally {
        closeSync(fd);
      }
    };
    const write = (ops: readonly Op[], xtrace = false): string =>
      writer.write(ops, { tmpDir: join(dir, "tmp"), xtrace, proof: PROOF });
    /** Runs the script and returns its result without the proof, which has to be the first line. */
    const run = (ops: readonly Op[], xtrace = false): Result => {
      const result = runText(write(ops, xtrace));
      expect(result.stdout.slice(0, PROOF.length + 1)).toBe(`${PROOF}\n`);
      return { ...result, stdout: result.stdout.slice(PROOF.length + 1) };
    };
    const source = (...texts: readonly string[]): Op[] => texts.map((text) => ({ op: "source", text }));
    const print = (text: string): Op => ({ op: "print", text, tone: "plain" });
    const hasPipefail = spawnSync(argv[0], [...argv.slice(1), "-c", "set -o"])
      .stdout.toString()
      .includes("pipefail");

    test("the same instructions are the same bytes", () => {
      const ops: Op[] = [{ op: "export", name: "A", value: "1" }, ...source("true")];
      expect(write(ops)).toBe(write(ops));
    });

    test("values arrive byte for byte in the environment of programs, and none is run", () => {
      // The values are set in two halves, so that neither comes near the limit of the whole environment.
      for (const values of [hostileValues, noise(1000)]) {
        const ops: Op[] = values.map((value, index) => ({ op: "export", name: `V_${index}`, value }));
        const { status, stdout, stderr } = run([...ops, ...source("cat /proc/self/environ")]);
        expect(stderr).toBe("");
        expect(status).toBe(0);
        const seen = new Map(stdout.split("\0").map((entry) => [entry.split("=", 1)[0] ?? "", entry]));
        for (const [index, value] of values.entries()) expect(seen.get(`V_${index}`)).toBe(`V_${index}=${value}`);
        expect(existsSync(join(dir, "pwned"))).toBe(false);
      }
    });

    test("files get their content byte for byte, are private, and replace what was there", () => {
      const contents = [...hostileValues, ...noise(20), "👩‍👩‍👧‍👦é".repeat(40_000), `${"x".repeat(31_999)}👩`];
      const place = join(dir, "tmp", 'it\'s a "$place"\n');
      mkdirSync(join(dir, "tmp"), { recursive: true });
      const victim = join(dir, "victim");
      writeFileSync(victim, "untouched", { mode: 0o644 });
      const { status, stdout, stderr } = run([
        ...contents.map((content, index): Op => ({ op: "write", path: join(place, `f${index}`), content })),
        { op: "exportFile", name: "FILE", path: join(place, "named"), content: "named content" },
        ...source('cat "$FILE"', `ln -sf ${victim} "$FILE"`, "umask", "set -C"),
        { op: "write", path: join(place, "named"), content: "again" },
        ...source("umask"),
      ]);
      expect(stderr).toBe("");
      expect(status).toBe(0);
      for (const [index, content] of contents.entries()) {
        expect(readFileSync(join(place, `f${index}`)).equals(Buffer.from(content))).toBe(true);
      }
      expect(statSync(join(place, "f0")).mode & 0o777).toBe(0o600);
      expect(statSync(place).mode & 0o777).toBe(0o700);
      const [before = "", between] = stdout.split("\n");
      expect(before.startsWith("named content")).toBe(true);
      expect(before.endsWith(between ?? "")).toBe(true);
      expect(readFileSync(join(place, "named"), "utf8")).toBe("again");
      expect(readFileSync(victim, "utf8")).toBe("untouched");
    });

    test("lines of a file become variables as they are, and nothing of them is run", () => {
      const path = join(dir, "tmp", "lines", "it's $(touch pwned)");
      const values = [
        "",
        " two  blanks ",
        "a=b==c",
        "$(touch pwned) `touch pwned` $HOME",
        `"quoted" 'it'\\`,
        "Größe 👩",
        "*",
      ];
      const lines = values.map((value, index) => `L_${index}=${value}`);
      const ops: Op[] = [{ op: "exportLines", name: "LINES_FILE", path }];
      expect(run([...ops, ...source('printf %s "$LINES_FILE"')])).toMatchObject({
        stdout: path,
        stderr: "",
        status: 0,
      });
      expect(statSync(path).mode & 0o777).toBe(0o600);
      const bad = [
        "1X=no",
        "A-B=no",
        "no name",
        "=no",
        "UID=no",
        "PPID=no",
        " B=no",
        "SAME=first",
        "SAME=last\r",
        "END=no break",
      ];
      writeFileSync(path, [...lines, ...bad].join("\n"));
      const { stdout, stderr, status } = run([...ops, ...source("cat /proc/self/environ")]);
      expect([stderr, status]).toEqual(["", 0]);
      const seen = stdout.split("\0");
      for (const line of [...lines, "SAME=last", "END=no break"]) expect(seen).toContain(line);
      expect(seen.filter((entry) => /^(?:1X|A-B|no name|UID|PPID| B|SAME=first)/.test(entry))).toEqual([]);
      expect(existsSync(join(dir, "pwned"))).toBe(false);
      rmSync(path);
      symlinkSync("nowhere", path);
      expect(run([...ops, ...source("echo fine")])).toMatchObject({ stdout: "fine\n", stderr: "", status: 0 });
    });

    test("a text is shown as a folded section that ends at once", () => {
      const text = "$ for i in 1; do\n  echo '%s $i'\ndone";
      const op: Op = { op: "printSection", section: "section_script_step_0", text, line: "$ for", tone: "notice" };
      for (const xtrace of [false, true]) {
        const { stdout, stderr } = run([...source("true"), op], xtrace);
        expect(stdout).toMatch(
          /^section_start:\d{10}:section_script_step_0\[hide_duration=true,collapsed=true\]\r\x1b\[0K\x1b\[32;1m\$ for i in 1; do\n {2}echo '%s \$i'\ndone\x1b\[0;m\nsection_end:\d{10}:section_script_step_0\r\x1b\[0K\n$/,
        );
        expect(stderr).not.toContain("date");
      }
    });

    test("NUL is left out, for no shell can hold it", () => {
      const { stdout } = run([{ op: "export", name: "A", value: "a\0b" }, ...source('printf %s "$A"')]);
      expect(stdout).toBe("ab");
    });

    test("statuses are those of the author's script", () => {
      const cases: readonly (readonly [readonly string[], number, string])[] = [
        [["exit 3"], 3, ""],
        [["exit 0", "echo no"], 0, ""],
        [["sh -c 'exit 42'", "echo no"], 42, ""],
        [["(exit 42)"], 42, ""],
        [["set +e", "false", "echo after"], 0, "after\n"],
        [["set +e", "(exit 5)"], 5, ""],
        [["false && true", "echo after"], 0, "after\n"],
        [["f() { false; echo in; }", "f || echo no"], 0, "in\n"],
        [["if true; then", "echo yes", "fi"], 0, "yes\n"],
        [["read x", "echo no"], 1, ""],
        [["cat"], 0, ""],
        [["trap 'echo bye' EXIT", "exit 5"], 5, "bye\n"],
        [["exec false"], 1, ""],
        [["no-such-program-here"], 127, ""],
        [["# comment", ":"], 0, ""],
        [["cat <<X\nhere\nX"], 0, "here\n"],
        [["echo a \\", "echo b"], 0, "a\nb\n"],
        [["cd /", "pwd"], 0, "/\n"],
        [["exec <&-", "echo still"], 0, "still\n"],
        [["false | true", "echo piped"], hasPipefail ? 1 : 0, hasPipefail ? "" : "piped\n"],
      ];
      for (const [texts, status, stdout] of cases) {
        const result = run(source(...texts));
        expect([texts, result.status, result.stdout]).toEqual([texts, status, stdout]);
      }
      // Most shells run nothing after this, so no later instruction can notice that something is missing.
      expect(run(source("set -n", "echo no")).stdout).toBe("");
    });

    test("a syntax error fails with the shell's own message and never succeeds", () => {
      for (const text of ["echo 'unclosed", "fi", ")", "if true; then"]) {
        const { status, stderr } = run(source(text));
        expect([text, status === 0, stderr === ""]).toEqual([text, false, false]);
      }
    });

    test("what ends the script before its last line in any other way than exit is no success", () => {
      for (const texts of [
        ["cat <<END\nhello", "echo no"],
        ["cat <<END\nhello"],
        ["set +e", "cat <<END\nhello", "echo no"],
        ["set +e", "fi", "echo no"],
        ["set +e", "echo 'unclosed", "echo no"],
      ]) {
        const { status, stderr } = run(source(...texts));
        expect([texts, status === 0, stderr === ""]).toEqual([texts, false, false]);
      }
      expect(run(source("cat <<END\nhello", "echo no"), true).status).not.toBe(0);
      expect(run(source("true"), true).stderr).not.toContain(PROOF);
    });

    test("an entry that takes those behind it for its own text is no success, however it does that", () => {
      const texts = ["shopt -s expand_aliases 2>/dev/null || :\nalias h='cat <<E'", "h\nhello", "exit 3", "echo done"];
      const body = texts.flatMap((text): Op[] => [print(`$ ${text.split("\n")[0]}`), { op: "source", text }]);
      for (const xtrace of [false, true]) {
        const { status, stderr } = run(body, xtrace);
        expect(status).not.toBe(0);
        expect(stderr).toMatch(/ended before its last line|parse error|syntax error|not found|unclosed/);
      }
    });

    test("what an entry leaves open shows the author's line, and nothing of the frame", () => {
      const entries = (texts: readonly string[]): Op[] =>
        texts.flatMap((text): Op[] => [print(`$ ${text.split("\n")[0]}`), { op: "source", text }]);
      const cases: readonly (readonly [readonly string[], string])[] = [
        [["cat <<END\nhello", "echo no"], "cat <<END"],
        [["cat <<END\nhello"], "cat <<END"],
        [["cat <<END"], "cat <<END"],
        [["echo one\ncat <<-'E N'\n\thello\n E N\necho no"], "cat <<-'E N'"],
        [["cat <<A <<B\na\nA\nb\n", "echo no"], "cat <<A <<B"],
        [["set +e", "cat <<\\END\n$HOME\n", "echo no"], "cat <<\\END"],
        [["cat <<END\nfine\nEND\ncat <<END\nhello", "echo no"], "cat <<END"],
        [["echo it's here", "echo it's there"], "echo it's here"],
        [['echo "one', 'echo two"'], 'echo "one'],
      ];
      for (const xtrace of [false, true]) {
        for (const [texts, line] of cases) {
          const { status, stdout, stderr } = run([...entries(texts), print("the end")], xtrace);
          expect([texts, status === 0]).toEqual([texts, false]);
          // zsh and ksh93 parse the whole text before they run any of it, and so find the quote first.
          if (!/unmatched|parse error|syntax error/.test(stderr)) {
            expect([texts, status, stderr.split("\n").slice(-3)]).toEqual([texts, 2, [expect.anything(), line, ""]]);
            expect(stderr).toMatch(/is not closed|has no end/);
          }
          // mksh traces the command that switches the trace off.
          const words = [PROOF, "hello\n", "the end", ...(xtrace ? [] : ["alloy_", "printf"])];
          for (const ours of words) expect(stdout + stderr).not.toContain(ours);
        }
      }
    });

    test("what only looks open is the shell's to judge", () => {
      const cases: readonly (readonly [readonly string[], string])[] = [
        [["if true; then # <<X", "echo $((1<<2))", "fi"], "4\n"],
        [["if [ $((1 << 2)) -eq 4 ]; then", "echo '<<X'; fi"], "<<X\n"],
        [[`echo "$(echo 'a"b')" # it's`], 'a"b\n'],
        [["true $((1 << 2)) &&", "echo b"], "b\n"],
        [['cat <<"A B"\nit\'s\nA B', "cat <<-E\n\t'x\n\tE\necho done"], "it's\n'x\ndone\n"],
        [["cat <<A; cat <<B\na\nA\nb\nB\necho c"], "a\nb\nc\n"],
      ];
      for (const [texts, stdout] of cases) {
        expect([texts, run(source(...texts))]).toEqual([texts, { status: 0, signal: null, stdout, stderr: "" }]);
      }
    });

    test("an entry that ends in && goes on with the next one, and fails where what stands before it does", () => {
      const entries = (...texts: string[]): Op[] =>
        texts.flatMap((text): Op[] => [print(`$ ${text}`), { op: "source", text }]);
      for (const end of ["&&", "&& ", "&& # and then", "&&\n"]) {
        const bad = run(entries(`sh -c 'exit 7' ${end}`, "echo b"));
        expect([end, bad.status, bad.stdout.includes("\nb\n")]).toEqual([end, 7, false]);
        const good = run(entries(`true ${end}`, "echo b"));
        expect([end, good.status, good.stdout.includes("\nb\n")]).toEqual([end, 0, true]);
      }
    });

    test("a last entry that does not end is the shell's own syntax error", () => {
      for (const text of ["echo a &&", "echo a ||", "echo a |", "set +e; echo a |", "(", "if true; then", "f() {"]) {
        // zsh does not treat an operator at the end as one.
        const isError = spawnSync(argv[0], [...argv.slice(1), "-c", text]).status !== 0;
        for (const xtrace of [false, true]) {
          const { status, stderr } = run(source("echo first", text), xtrace);
          expect([text, status !== 0, isError ? stderr !== "" : true]).toEqual([text, isError, true]);
          // mksh traces commands whose trace other shells send to /dev/null.
          for (const ours of [PROOF, "printf", ...(xtrace ? [] : ["alloy_"])]) expect(stderr).not.toContain(ours);
        }
      }
      expect(run(source("echo a \\"))).toMatchObject({ status: 0, stdout: "a\n", stderr: "" });
    });

    test("$$ is the shell, and killing it ends everything with that signal", () => {
      const result = run(source("kill -KILL $$", "echo alive"));
      expect(result).toMatchObject({ status: null, signal: "SIGKILL", stdout: "" });
    });

    test("lines of the runner hold where the author has redefined or closed things", () => {
      const { status, stdout } = run([
        ...source("cd() { echo no; }; test() { echo no; }; printf() { echo no; }; set +e; CDPATH=/usr; export CDPATH"),
        { op: "cd", path: "/usr/bin" },
        when({ test: "directory", path: "/usr" }, [print("kept")]),
        ...source("pwd"),
        { op: "run", argv: ["sh", "-c", "exit 9"] },
        print("not reached"),
      ]);
      expect({ status, stdout }).toEqual({ status: 9, stdout: "kept\n/usr/bin\n" });
      expect(run([...source("exec >&-"), print("lost"), ...source("exit 4")]).status).toBe(4);
    });

    test("notices are one line in their tone", () => {
      const { stdout } = run([
        { op: "print", text: "$ make 'all' %s \\n", tone: "notice" },
        { op: "print", text: "careful", tone: "warning" },
        { op: "print", text: "-n", tone: "error" },
      ]);
      expect(stdout).toBe("\x1b[32;1m$ make 'all' %s \\n\x1b[0;m\n\x1b[0;33mcareful\x1b[0;m\n\x1b[31;1m-n\x1b[0;m\n");
    });

    test("commands get their arguments as they are", () => {
      const values = hostileValues.filter((value) => value.length < 1000);
      const { status } = run([
        { op: "run", argv: ["sh", "-c", 'for a; do printf "%s\\0" "$a"; done >args', "sh", ...values] },
      ]);
      expect(status).toBe(0);
      expect(readFileSync(join(dir, "args"), "utf8").split("\0").slice(0, -1)).toEqual(values);
    });

    test("the first failing instruction ends the script with its status", () => {
      expect(run([{ op: "run", argv: ["sh", "-c", "exit 7"] }, print("no")])).toMatchObject({ status: 7, stdout: "" });
      expect(run([{ op: "cd", path: "/no/such" }, print("no")]).stdout).toBe("");
      expect(run([{ op: "mkdir", path: "/proc/no/such" }, print("no")]).stdout).toBe("");
      expect(run([{ op: "write", path: "/proc/no/such", content: "" }, print("no")]).stdout).toBe("");
      expect(run([{ op: "cd", path: "/no/such" }]).status).not.toBe(0);
      expect(run([{ op: "exit", status: 9 }, print("no")])).toMatchObject({ status: 9, stdout: "" });
      expect(run([{ op: "write", path: "/proc/no/such", content: "" }]).status).not.toBe(0);
    });

    test("questions are answered, also negated and nested", () => {
      writeFileSync(join(dir, "plain"), "");
      symlinkSync("nowhere", join(dir, "dangling"));
      const ask = (question: Question): string => run([when(question, [print("yes")], [print("no")])]).stdout.trim();
      expect(ask({ test: "file", path: join(dir, "plain") })).toBe("yes");
      expect(ask({ test: "directory", path: join(dir, "plain") })).toBe("no");
      expect(ask({ test: "directory", path: dir })).toBe("yes");
      expect(ask({ test: "symlink", path: join(dir, "dangling") })).toBe("yes");
      expect(ask({ test: "exists", path: join(dir, "dangling") })).toBe("yes");
      expect(ask({ test: "not", of: { test: "exists", path: join(dir, "dangling") } })).toBe("no");
      expect(ask({ test: "exists", path: join(dir, "missing") })).toBe("no");
      expect(ask({ test: "program", name: "cat" })).toBe("yes");
      expect(ask({ test: "program", name: "no-such-program" })).toBe("no");
      expect(ask({ test: "succeeds", argv: ["sh", "-c", "echo noise; echo noise >&2; true"] })).toBe("yes");
      expect(ask({ test: "succeeds", argv: ["false"] })).toBe("no");
      expect(ask({ test: "not", of: { test: "not", of: { test: "succeeds", argv: ["false"] } } })).toBe("no");
      const outer = join(dir, "outer [x]");
      mkdirSync(join(outer, ".git", "inner", ".git"), { recursive: true });
      mkdirSync(join(outer, "sub"));
      writeFileSync(join(outer, "sub", ".git"), "");
      expect(ask({ test: "nested", path: outer, name: ".git" })).toBe("no");
      mkdirSync(join(outer, "sub", "sub", ".git"), { recursive: true });
      expect(ask({ test: "nested", path: outer, name: ".git" })).toBe("yes");
      expect(run([when({ test: "directory", path: "/" }, [])]).status).toBe(0);
      const failing = when({ test: "directory", path: "/" }, source("false", "echo no"));
      expect(run([failing, print("no")])).toMatchObject({ status: 1, stdout: "" });
    });

    test("trees are removed whatever their modes, and links are not followed", () => {
      const tree = join(dir, "tree");
      const outside = join(dir, "outside");
      mkdirSync(outside);
      writeFileSync(join(outside, "kept"), "");
      mkdirSync(join(tree, "a", "b"), { recursive: true });
      writeFileSync(join(tree, "a", "b", "file"), "");
      symlinkSync(outside, join(tree, "a", "link"));
      chmodSync(join(tree, "a", "b"), 0);
      chmodSync(join(tree, "a"), 0o500);
      symlinkSync(outside, join(dir, "link"));
      writeFileSync(join(dir, "file"), "");
      symlinkSync("nowhere", join(dir, "broken"));
      const places = [tree, join(dir, "link"), join(dir, "file"), join(dir, "broken"), join(dir, "missing"), "-rf"];
      const result = run(places.map((path): Op => ({ op: "remove", path })));
      expect(result).toMatchObject({ status: 0, stdout: "", stderr: "" });
      expect(readdirSync(outside)).toEqual(["kept"]);
      expect(readdirSync(dir).filter((name) => ["tree", "link", "file", "broken"].includes(name))).toEqual([]);
      rmSync(outside, { recursive: true });
    });

    test("files are removed by name, literally or by ending, and nothing else", () => {
      const tree = join(dir, "named tree");
      mkdirSync(join(tree, "deep", "x.lock"), { recursive: true });
      for (const name of ["index.lock", "a*b", "axb", "[a]", "a", "kept", "q?", "qq"]) {
        writeFileSync(join(tree, "deep", name), "");
      }
      writeFileSync(join(tree, "deep", "x.lock", "kept"), "");
      const result = run([
        { op: "removeNamed", path: tree, names: ["*.lock", "a*b", "[a]", "q?"] },
        { op: "removeNamed", path: join(dir, "missing"), names: ["x"] },
      ]);
      expect(result).toMatchObject({ status: 0, stderr: "" });
      expect(readdirSync(join(tree, "deep")).sort()).toEqual(["a", "axb", "kept", "qq", "x.lock"]);
      expect(readdirSync(join(tree, "deep", "x.lock"))).toEqual(["kept"]);
    });

    test("a body is repeated until it succeeds, errexit holds in it, and the last status counts", () => {
      const repeat = (attempts: number, body: readonly Op[]): Op => ({ op: "repeat", attempts, pauseSeconds: 0, body });
      const count = join(dir, "count");
      const third = source(`echo x >>${count}`, `[ $(wc -l <${count}) -eq 3 ]`, "echo done");
      expect(run([repeat(5, third), print("after")])).toMatchObject({ status: 0, stdout: "done\nafter\n" });
      expect(run([repeat(2, source("echo try", "(exit 6)", "echo no")), print("no")])).toMatchObject({
        status: 6,
        stdout: "try\ntry\n",
      });
      const nested = repeat(2, [repeat(2, source("echo in", "false"))]);
      expect(run([nested])).toMatchObject({ status: 1, stdout: "in\n".repeat(4) });
      expect(run([repeat(1, source("true")), ...source("false", "echo no")])).toMatchObject({ status: 1, stdout: "" });
    });

    test("xtrace shows the author's commands and no exported value", () => {
      const secret = (name: string): Op => ({ op: "export", name, value: "tell-nobody" });
      const file: Op = { op: "exportFile", name: "F", path: join(dir, "tmp", "f"), content: "tell-nobody" };
      const plain = run(
        [secret("A"), file, ...source("true early"), secret("B"), file, print("x"), ...source("true late")],
        true,
      );
      expect(plain.stderr).toContain("true early");
      expect(plain.stderr).toContain("true late");
      expect(plain.stderr + plain.stdout).not.toContain("tell-nobody");
      const own = run([...source("set -x"), secret("B"), ...source("true late")]);
      expect(own.stderr).toContain("true late");
      expect(own.stderr).not.toContain("tell-nobody");
      const branch = when({ test: "file", path: "/" }, source("true no"));
      expect(run([branch, ...source("true later")], true).stderr).toContain("true later");
      expect(run(source("true quiet")).stderr).toBe("");
    });

    test("variables can be taken away again", () => {
      const unset: Op[] = [
        { op: "export", name: "A", value: "1" },
        { op: "unset", name: "A" },
        { op: "unset", name: "NEVER" },
      ];
      expect(run([...unset, ...source("env")]).stdout).not.toMatch(/^A=/m);
    });

    test("names that the shell cannot hold are known, and those it accepts can be exported", () => {
      for (const name of ["", "A B", "A-B", "1A", "ü", "A;id", "A$(id)", "A=B", "A\0", "UID", "PPID", "__proto__ "]) {
        expect([name, writer.acceptsName(name)]).toEqual([name, false]);
      }
      const names = [
        "HOME",
        "PATH",
        "IFS",
        "PS4",
        "A",
        "_",
        "__proto__",
        "GROUPS",
        "HISTSIZE",
        "COLUMNS",
        "OLDPWD",
        "ENV",
      ];
      for (const name of names.filter((one) => one !== "PATH")) {
        expect(writer.acceptsName(name)).toBe(true);
        const result = run([{ op: "export", name, value: "7" }, ...source("exit 5")]);
        expect([name, result.status, result.stderr]).toEqual([name, 5, ""]);
      }
    });

    test("large scripts and many entries work", () => {
      const many = run(source(...Array.from({ length: 10_000 }, () => ":"), "echo end"));
      expect(many).toMatchObject({ status: 0, stdout: "end\n" });
      const large = run(source(`: '${"x".repeat(2 << 20)}'`, "echo end"));
      expect(large).toMatchObject({ status: 0, stdout: "end\n" });
    });

    test("a script that was cut anywhere gives no proof and does not succeed with it", () => {
      const text = write(source("echo ran"));
      const step = Math.ceil(text.length / 40);
      for (let length = 0; length < text.trimEnd().length; length += step) {
        const { stdout } = runText(text.slice(0, length));
        expect(stdout).not.toContain(PROOF);
        expect(stdout).not.toContain("ran");
      }
    });

    test("a profile that eats the script or ends early leaves no proof", () => {
      const { argv: login } = writer.command({ login: true });
      const flags = login.slice(1);
      for (const profile of ["cat >/dev/null", "exit 0", "exit 7"]) {
        writeFileSync(join(dir, ".profile"), `${profile}\n`);
        writeFileSync(join(dir, ".zprofile"), `${profile}\n`);
        const { stdout } = runText(write(source("echo ran")), flags);
        expect([profile, stdout.includes(PROOF)]).toEqual([profile, false]);
      }
      writeFileSync(join(dir, ".profile"), "printf 'hello from the profile\\n'\n");
      writeFileSync(join(dir, ".zprofile"), "printf 'hello from the profile\\n'\n");
      const { status, stdout } = runText(write(source("echo ran")), flags);
      expect(status).toBe(0);
      expect(stdout.endsWith(`hello from the profile\n${PROOF}\nran\n`)).toBe(true);
      for (const name of [".profile", ".zprofile"]) rmSync(join(dir, name));
    });
  });
}
