import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { chmod, mkdir, readdir, readFile, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { footprint } from "../support/memory.ts";
import { isAlive } from "../support/processes.ts";
import { program } from "../support/program.ts";
import { linesOf, openProject, type Project } from "../support/project.ts";
import { states } from "../support/summary.ts";

/** `script` of util-linux provides a terminal. */
const noTerminal = spawnSync("script", ["--version"]).status !== 0;

let project: Project;
let home: { readonly dir: string };
let dir: string;
beforeEach(async () => {
  project = await openProject();
  home = { dir: project.home };
  dir = project.dir;
});
afterEach(async () => await project.close());

const git: Project["git"] = (...args) => project.git(...args);
const ciFile: Project["ciFile"] = (text) => project.ciFile(text);
const exec: Project["exec"] = (args, more) => project.exec(args, more);
const begin: Project["begin"] = (args, more) => project.begin(args, more);
const base = (): string => project.base;

async function commitAll(): Promise<void> {
  git("init", "--quiet");
  git("symbolic-ref", "HEAD", "refs/heads/main");
  git("add", ".");
  git("commit", "--quiet", "-m", "First");
}

describe("a pipeline", () => {
  test("runs stage by stage with artifacts, variables, after_script and rules, and leaves nothing but caches", async () => {
    await ciFile(`
stages: [one, two, three]
variables: {SHARED: top}
before_script: [echo before]
after_script: [echo after]
make:
  stage: one
  script: [mkdir -p "out dir", echo made > "out dir/file"]
  artifacts: {paths: ["out dir/"]}
  cache: {key: k, paths: [kept/]}
  before_script: []
  after_script: []
use:
  stage: two
  script:
    - cat "out dir/file"
    - echo "$SHARED $CI_COMMIT_REF_NAME $CI_PROJECT_NAME $CI_JOB_STAGE $(cat new)"
own:
  stage: two
  variables: {OWN: mine}
  script: ['echo "[$SHARED] $OWN"', chmod 555 .]
tagged: {stage: two, only: [tags], script: [echo never]}
broken: {stage: two, script: [exit 7]}
hidden: {stage: three, script: [echo never]}
report: {stage: three, when: on_failure, script: [echo reporting]}
always: {stage: three, when: always, script: [echo always]}
ask: {stage: three, when: manual, script: [echo never]}
`);
    await commitAll();
    await writeFile(join(dir, "new"), "untracked");
    const before = git("--no-optional-locks", "status", "--porcelain", "--ignored");
    const { code, stdout, stderr } = await exec(["--jobs", "2"]);
    expect(code, stdout + stderr).toBe(7);
    expect(linesOf("use", stdout)).toEqual(
      expect.arrayContaining(["before", "made", "top refs/heads/main project two untracked", "after"]),
    );
    expect(linesOf("make", stdout)).not.toContain("before");
    expect(linesOf("own", stdout)).toContain("[] mine");
    const table = stdout.slice(stdout.indexOf("\njob ")).trim().split("\n").slice(1);
    expect(table.map((line) => line.replace(/ +\d+\.\d s/, "").split(/ {2,}/))).toEqual([
      ["make", "one", "success"],
      ["use", "two", "success"],
      ["own", "two", "success"],
      ["broken", "two", "failed", "7"],
      ["hidden", "three", "skipped"],
      ["report", "three", "success"],
      ["always", "three", "success"],
      ["ask", "three", "skipped"],
    ]);
    expect(stdout).not.toContain("never");
    expect(stdout).not.toMatch(/\x1b|section_start|\r/);
    expect(git("--no-optional-locks", "status", "--porcelain", "--ignored")).toBe(before);
    expect(await readdir(join(base(), "runs"))).toEqual([]);
    expect(await readdir(base())).toEqual(["caches", "runs"]);
  });

  test("caches are kept from run to run, and two runs at once do not disturb each other", async () => {
    await ciFile(
      "a: {script: ['cat kept/n 2>/dev/null || true; mkdir -p kept; date +%N >> kept/n'], cache: {key: k, paths: [kept/]}}",
    );
    const first = await exec([]);
    expect(first.code, first.stdout).toBe(0);
    const second = await exec([]);
    expect(second.stdout).toMatch(/a │ \d+\n/);

    const gate = join(home.dir, "gate");
    await ciFile(`a: {script: ['echo "pwd $PWD" ready; while [ ! -e ${gate} ]; do sleep 0.05; done']}`);
    const two = [begin(), begin()];
    const places = await Promise.all(two.map((one) => one.seen(/pwd (\/\S+) ready/)));
    expect(new Set(places.map((place) => place[1])).size).toBe(2);
    await writeFile(gate, "");
    for (const one of two) expect((await one.exit).code).toBe(0);
  });

  test.each([
    ["core.autocrlf=true", ""],
    ["core.autocrlf=input", ""],
    ["core.eol=crlf", "* text=auto\n"],
    ["core.autocrlf=true", "*.crlf text eol=crlf\n*.lf text eol=lf\n*.mixed text\n"],
  ])("jobs get files byte for byte, also with %s and attributes %j", async (setting, attributes) => {
    const [key = "", value = ""] = setting.split("=");
    const text: Record<string, string> = {
      lf: "one\ntwo\n",
      crlf: "one\r\ntwo\r\n",
      mixed: "one\r\ntwo\n",
      cr: "one\rtwo",
      binary: "one\0two\r\n",
    };
    const names = ["old", "changed", "new"].flatMap((when) => Object.keys(text).map((kind) => `${when} ü.${kind}`));
    const write = async (when: string, add = ""): Promise<void> => {
      for (const [kind, content] of Object.entries(text)) {
        const more = kind === "crlf" ? add.replaceAll("\n", "\r\n") : add;
        await writeFile(join(dir, `${when} ü.${kind}`), content + more);
      }
    };
    await ciFile("unit: {script: [sha256sum *.*]}");
    await write("old");
    await write("changed");
    if (attributes !== "") await writeFile(join(dir, ".gitattributes"), attributes);
    await commitAll();
    git("config", "--global", key, value);
    await write("changed", "more\n");
    await write("new");
    const { code, stdout } = await exec([]);
    expect(code).toBe(0);
    const sums = execFileSync("sha256sum", names, { cwd: dir, encoding: "utf8" }).trim().split("\n");
    expect(linesOf("unit", stdout)).toEqual(expect.arrayContaining(sums));
  });

  test("named jobs run alone, or after what they need; manual ones when named", async () => {
    await ciFile(`
stages: [a, b, c]
compile: {stage: a, script: [echo x > x], artifacts: {paths: [x]}}
other: {stage: a, script: [echo other]}
unit: {stage: b, script: [cat x]}
ship: {stage: c, when: manual, dependencies: [compile], script: [cat x, echo shipped]}
`);
    const alone = await exec(["unit"]);
    expect(alone.code).toBe(1);
    expect(alone.stderr).toContain(
      '"unit" gets artifacts of compile in a pipeline, and runs without them here; --with-needs',
    );
    const ship = await exec(["--with-needs", "ship"]);
    expect(ship.code, ship.stdout).toBe(0);
    expect(ship.stdout).toContain("shipped");
    expect(ship.stdout).not.toContain("other");
    const list = await exec(["--list"]);
    expect(list.stdout).toMatch(/^job +stage +when\ncompile +a +on_success\n/);
    const wrong = await exec(["unti"]);
    expect(wrong).toMatchObject({
      code: 1,
      stderr: 'alloy-runner: There is no job "unti" in .alloy-ci.yml; did you mean "unit"?\n',
    });
  });

  test("the file has what GitLab's has: --list --json, --print, --manual, --stage, --artifacts", async () => {
    await ciFile(`
stages: [a, b, c]
compile: {stage: a, script: [echo x > x], artifacts: {paths: [x]}}
other: {stage: a, script: [echo other]}
unit: {stage: b, script: [cat x]}
ship: {stage: c, when: manual, dependencies: [compile], script: [cat x, echo shipped]}
`);
    const list = await exec(["--list"]);
    expect(list.stdout).toMatch(/^ship +c +manual +may fail; artifacts of compile$/m);
    const json: unknown = JSON.parse((await exec(["--list", "--json"])).stdout);
    expect(json).toMatchObject([
      { name: "compile", needs: null, artifacts: { paths: ["x"], dotenv: [] }, script: ["echo x > x"] },
      { name: "other" },
      { name: "unit" },
      { name: "ship", when: "manual", allowFailure: true, dependencies: ["compile"] },
    ]);
    const played = await exec(["--manual", "ship", "--artifacts", "../kept"]);
    expect(states(played.stdout)).toEqual({ compile: "success", other: "success", unit: "success", ship: "success" });
    expect(await readdir(join(home.dir, "kept"))).toEqual(["compile"]);
    expect(states((await exec(["--stage", "a", "-j", "1"])).stdout)).toEqual({ compile: "success", other: "success" });
    const printed = (await exec(["--print"])).stdout;
    expect(printed).toContain("# .alloy-ci.yml:3\ncompile:\n  stage: a\n");
    expect((await exec(["--stage", "d"])).stderr).toContain('There is no job of the stage "d"');
  });

  test("refs choose jobs: the branch, a tag, another with --ref; --committed takes HEAD's file", async () => {
    await ciFile(
      "main: {only: ['^main$'], script: ['echo on $CI_COMMIT_REF_NAME']}\nrelease: {only: [tags], script: ['echo on $CI_COMMIT_REF_NAME']}\n",
    );
    await commitAll();
    expect((await exec([])).stdout).toContain("on refs/heads/main");
    expect((await exec(["--ref", "refs/tags/v1"])).stdout).toContain("release │ on refs/tags/v1");
    const none = await exec(["--ref", "topic"]);
    expect(none).toMatchObject({ code: 0 });
    expect(none.stdout).toContain("No job of .alloy-ci.yml runs on refs/heads/topic");
    expect((await exec(["--list", "--all"])).stdout).toMatch(/^release +test +- +not for refs\/heads\/main$/m);
    expect((await exec(["--list"])).stdout).toMatch(/^main +test +on_success +only: \^main\$$/m);
    await ciFile("main: {script: [echo changed]}\n");
    expect((await exec([])).stdout).toContain("changed");
    expect((await exec(["--committed"])).stdout).toContain("on refs/heads/main");
  });

  test("values that look like numbers reach the job as they are written", async () => {
    await ciFile("a: {variables: {V: 3.0, ID: 1187654321098765432}, script: ['echo \"$V $ID\"']}");
    expect(linesOf("a", (await exec([])).stdout)).toContain("3.0 1187654321098765432");
  });

  test("--var and --env-file win over the file, secrets are masked, --env does not", async () => {
    await ciFile(`a: {variables: {ONE: file, TWO: file, THREE: file}, script: ['echo "$ONE $TWO $THREE $FOUR"']}`);
    await writeFile(join(dir, "secrets"), "# comment\nexport TWO='s3cret value'\n");
    await writeFile(join(dir, ".gitignore"), "secrets\n");
    const { stdout } = await exec(["--var", "ONE", "--env-file", "secrets", "--env", "THREE=no", "--env", "FOUR=yes"], {
      env: { ONE: "from-outside" },
    });
    expect(linesOf("a", stdout)).toContain("from-outside [MASKED] file yes");
    const plan = await exec(["--dry-run", "--env-file", "secrets"]);
    expect(plan.code).toBe(0);
    expect(plan.stdout).not.toContain("s3cret");
    await writeFile(join(dir, "secrets"), "TWO=x\nhunter2\n");
    const bad = await exec(["--env-file", "secrets"]);
    expect(bad.stderr).toContain("secrets:2: expected NAME=value");
    expect(bad.stderr).not.toContain("hunter2");
  });

  test("--dry-run shows the plan and scripts that the shell accepts, and runs nothing", async () => {
    await ciFile(`
stages: [a, b]
one: {stage: a, script: ["touch ${home.dir}/ran"], after_script: [echo bye], artifacts: {paths: [x]}, cache: {key: k, paths: [y]}}
two: {stage: b, script: [echo two]}
`);
    const { code, stdout } = await exec(["--dry-run", "--shell", "sh"]);
    expect(code).toBe(0);
    expect(stdout).toContain("# stage a: one\n# stage b: two\n");
    const titles = [...stdout.matchAll(/^# (?:one|two): .*$/gm)].map(([title]) => title);
    expect(titles).toEqual([
      "# one: get_sources",
      expect.stringMatching(/^# one: restore_cache restoring .*"k": y/),
      "# one: build_script",
      "# one: after_script (always)",
      expect.stringMatching(/^# one: archive_cache .*"k": y/),
      "# one: upload_artifacts uploading artifacts x",
      "# two: get_sources",
      "# two: download_artifacts downloading artifacts of one",
      "# two: build_script",
    ]);
    expect(stdout).toContain("# job one (sh; ");
    execFileSync("sh", ["-n"], { input: stdout });
    expect(await readdir(home.dir)).not.toContain("ran");
  });

  test("what is different from AlloyCI is said once, and mistakes in the file with their place", async () => {
    await ciFile(`
a: {tags: [docker, big], image: "ruby:3", services: [postgres], script: [echo a]}
b: {tags: [big], retry: 2, script: [echo b]}
`);
    const { code, stderr } = await exec([]);
    expect(code).toBe(0);
    expect(stderr.split("\n").filter((line) => line.startsWith("note: "))).toEqual([
      'note: .alloy-ci.yml:3:25: "retry" in job "b" has no effect',
      expect.stringContaining("is no git repository: all its files are taken"),
      "note: Tags choose no runner here: docker, big",
      "note: This executor uses no images: a run on this machine itself",
      "note: This executor starts no services: a go without",
    ]);
    await ciFile("a:\n  scirpt: [x]\n  stage: tset\nb: {script: x}\n");
    expect(await exec([])).toMatchObject({
      code: 1,
      stdout: "",
      stderr:
        'alloy-runner: .alloy-ci.yml:1:1: job "a" has no script; did you mean "script" where it says "scirpt"?\n.alloy-ci.yml:4:13: b.script must be a list of texts, not the text "x"\n',
    });
    await rm(join(dir, ".alloy-ci.yml"));
    expect((await exec([])).stderr).toContain("expected .alloy-ci.yml, .alloy-ci.json, .gitlab-ci.yml");
  });

  test("an entry of a configuration file, the Go runner's way to write it, and an executor that is not there", async () => {
    await ciFile("a: {script: ['echo \"$FROM_ENTRY in $(ps -o comm= -p $$)\"']}");
    const config = join(home.dir, "config.toml");
    const entry = (name: string) =>
      `[[runners]]\nname = "${name}"\nurl = "http://127.0.0.1:1/"\ntoken = "secret-token"\nexecutor = "shell"\nshell = "sh"\nenvironment = ["FROM_ENTRY=${name}"]\nbuilds_dir = "${home.dir}/never"\n`;
    await writeFile(config, entry("one") + entry("two"), { mode: 0o600 });
    const { code, stdout, stderr } = await exec(["--config", config, "--runner", "two", "a"]);
    expect(code, stderr).toBe(0);
    expect(stdout).toContain("two in sh");
    expect(await readdir(home.dir)).not.toContain("never");
    expect((await exec(["--config", config])).stderr).toMatch(
      /has no single runner: name one with --runner.*"?one"?.*two/s,
    );
    expect((await exec(["--config", config, "--runner", "two", "--shell", "bash"])).stderr).toContain(
      "Choose one of both",
    );
    // A variable that other programs read, too, does not count as a flag.
    const around = await exec(["--config", config, "--runner", "two"], {
      env: { RUNNER_SHELL: "bash", DOCKER_HOST: "tcp://127.0.0.1:1" },
    });
    expect(around.stdout, around.stderr).toContain("two in sh");

    const old = await exec(["shell", "a"], { env: { RUNNER_ENV: "FROM_ENTRY=flag" } });
    expect(old.stdout).toContain("flag in");
    expect((await exec(["--executor", "shel"])).stderr).toContain('Did you mean "shell"');
    expect((await exec(["--executor", "ssh"])).stderr).toContain("--executor ssh needs to know more: give --ssh-…");
    expect((await exec(["--docker-image", "ruby:3"])).stderr).toContain("add --executor docker");
    const elsewhere = join(home.dir, "elsewhere");
    const copies = await exec(["--builds-dir", elsewhere, "shell", "a"]);
    expect(copies.code, copies.stderr).toBe(0);
    expect(await readdir(elsewhere)).toEqual([]);
    expect((await exec(["--jobs", "none"])).stderr).toContain("--jobs is the number of jobs at once");
    expect((await exec(["--timeout", "soon"])).stderr).toContain("--timeout is a number of seconds");
  });

  test("a proxy in the environment is not asked for this machine; jobs still have it", async () => {
    await ciFile("a: {script: ['echo \"$http_proxy $no_proxy\"']}");
    const { code, stdout } = await exec([], {
      env: { http_proxy: "http://127.0.0.1:9", HTTP_PROXY: "http://127.0.0.1:9", no_proxy: "example.com" },
    });
    expect(code, stdout).toBe(0);
    expect(linesOf("a", stdout)).toContain("http://127.0.0.1:9 example.com,127.0.0.1,localhost");
  });

  test("a job that takes too long ends, with its status and reason in the table", async () => {
    await ciFile("a: {script: [sleep 600], after_script: [echo after]}");
    const { code, stdout } = await exec(["--timeout", "1s"]);
    expect(code).toBe(1);
    expect(linesOf("a", stdout)).toContain("after");
    expect(stdout).toMatch(/a +test +failed +\d+\.\d s {2}\S+/);
  });
});

/** Ports that a process listens on at 127.0.0.1. */
async function portsOf(pid: number): Promise<number[]> {
  const fds = await readdir(`/proc/${pid}/fd`);
  const links = await Promise.all(fds.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => "")));
  const table = await readFile(`/proc/${pid}/net/tcp`, "utf8");
  return table.split("\n").flatMap((line) => {
    const [, local = "", , state, , , , , , inode] = line.trim().split(/\s+/);
    return state === "0A" && links.includes(`socket:[${inode}]`)
      ? [Number.parseInt(local.split(":")[1] ?? "", 16)]
      : [];
  });
}

/** Sends a body of 300 MB for as long as somebody takes it. @returns what came back, and how much was sent */
async function pushTo(port: number, head: string): Promise<{ answer: string; sentBytes: number }> {
  const socket = connect(port, "127.0.0.1");
  const piece = Buffer.alloc(1024 * 1024);
  let answer = "";
  let sentBytes = 0;
  socket.setEncoding("latin1").on("data", (text) => {
    answer += String(text);
  });
  socket.on("error", () => {});
  const ended = new Promise((resolve) => socket.once("close", resolve));
  socket.write(`${head}\r\nhost: x\r\ncontent-length: ${300 * piece.length}\r\n\r\n`);
  const push = (): void => {
    while (sentBytes < 300 * piece.length && !socket.destroyed) {
      sentBytes += piece.length;
      if (!socket.write(piece)) return;
    }
  };
  socket.on("drain", push);
  push();
  await ended;
  return { answer, sentBytes };
}

test.runIf(process.platform === "linux")(
  "strangers on this machine are not heard by its only server, that of the sources",
  async () => {
    await ciFile(`a: {script: ["echo is-$((1+1))-ready; sleep 60"]}`);
    await commitAll();
    const running = begin();
    await running.seen(/is-2-ready/);
    const ports = await portsOf(running.pid);
    expect(ports).toHaveLength(1);
    const before = footprint(running.pid).residentMb;
    for (const port of ports) {
      for (const path of ["jobs/1/artifacts", "jobs/1/trace", "jobs/1", "jobs/request", "runners", "nothing"]) {
        const method = path === "jobs/1" ? "PUT" : path.endsWith("trace") ? "PATCH" : "POST";
        const type = path.endsWith("artifacts") ? "multipart/form-data; boundary=x" : "application/json";
        const head = `${method} /api/v4/${path} HTTP/1.1\r\njob-token: guessed\r\ncontent-type: ${type}`;
        const { answer, sentBytes } = await pushTo(port, head);
        expect(answer === "" || answer.startsWith("HTTP/1.1 401 "), answer).toBe(true);
        expect(sentBytes / 1024 / 1024, `${method} ${path}`).toBeLessThan(50);
      }
    }
    expect(footprint(running.pid).residentMb - before).toBeLessThan(64);
  },
);

test.runIf(process.platform === "linux")(
  "who connects to it and asks for nothing is let go, soon where they are many",
  async () => {
    await ciFile(`a: {script: ["echo is-$((1+1))-ready; sleep 60"]}`);
    await commitAll();
    const running = begin();
    await running.seen(/is-2-ready/);
    const began = performance.now();
    const closedAfter: number[] = [];
    const gone = (await portsOf(running.pid)).flatMap((port) =>
      ["", "POST /api/v4/jobs/request HTTP/1.1\r\nhost: x\r\n"].flatMap((said) =>
        Array.from({ length: 700 }, async () => {
          const socket = connect(port, "127.0.0.1");
          socket.on("error", () => {});
          socket.resume();
          if (said !== "") socket.write(said);
          await new Promise((resolve) => socket.once("close", resolve));
          closedAfter.push(performance.now() - began);
        }),
      ),
    );
    await Promise.all(gone);
    expect(closedAfter).toHaveLength(1400);
    // The server has a thousand places, so the 400 connections beyond these are closed early.
    expect(closedAfter[399]).toBeLessThan(8000);
    expect(closedAfter.at(-1)).toBeLessThan(30_000);
    expect(running.stdout()).not.toMatch(/failed/);
  },
);

describe("ending", () => {
  const hang = (pid: string) =>
    `a:\n  script: ["trap '' HUP; echo $$ > ${pid}; echo ready; sleep 600 & wait"]\n  after_script: [echo after]\nb: {stage: deploy, script: [echo never]}\n`;

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s cancels: after_script runs, nothing is left, the status is %i", async (signal, status) => {
    const pid = join(home.dir, "pid");
    await ciFile(hang(pid));
    const one = begin();
    await one.seen(/│ ready/);
    const { code } = await one.stop(signal);
    expect(code, one.stdout() + one.stderr()).toBe(status);
    expect(linesOf("a", one.stdout())).toContain("after");
    expect(one.stdout()).toMatch(/a +test +canceled/);
    expect(one.stdout()).toMatch(/b +deploy +skipped/);
    expect(isAlive((await readFile(pid, "utf8")).trim())).toBe(false);
    expect(await readdir(join(base(), "runs"))).toEqual([]);
  });

  test.each(["killed", "left by a second signal"])(
    "what a run that was %s leaves behind is ended by the next one",
    async (how) => {
      const pid = join(home.dir, "pid");
      await ciFile(`a: {script: ["trap '' TERM; echo $$ > ${pid}; echo ready; while :; do sleep 0.2; done"]}`);
      const one = begin();
      await one.seen(/│ ready/);
      if (how === "killed") await one.stop("SIGKILL");
      else {
        one.child.kill("SIGINT");
        await one.seen(/Canceling what runs/);
        expect((await one.stop("SIGINT")).code).toBe(130);
      }
      const left = (await readFile(pid, "utf8")).trim();
      expect(isAlive(left)).toBe(true);
      await ciFile("a: {script: ['true']}");
      expect((await exec([])).code).toBe(0);
      expect(isAlive(left)).toBe(false);
      expect(await readdir(join(base(), "runs"))).toEqual([]);
    },
  );

  test("a living run is left alone by others", async () => {
    const gate = join(home.dir, "gate");
    await ciFile(`a: {script: ["echo ready; while [ ! -e ${gate} ]; do sleep 0.05; done; echo unharmed"]}`);
    const one = begin();
    await one.seen(/│ ready/);
    await ciFile("a: {script: ['true']}");
    expect((await exec([])).code).toBe(0);
    await writeFile(gate, "");
    expect((await one.exit).code).toBe(0);
    expect(one.stdout()).toContain("unharmed");
  });

  test("a reader that goes away ends it, its jobs included", async () => {
    const pid = join(home.dir, "pid");
    await ciFile(`a: {script: ["echo $$ > ${pid}; while :; do echo line; sleep 0.05; done"]}`);
    const one = begin();
    await one.seen(/│ line/);
    one.child.stdout?.destroy();
    await one.exit;
    expect(isAlive((await readFile(pid, "utf8")).trim())).toBe(false);
    expect(await readdir(join(base(), "runs"))).toEqual([]);
  });
});

describe.skipIf(noTerminal && !process.env.CI)("a terminal", () => {
  /** Starts the program on a terminal of its own; `type` presses keys. */
  function onTerminal(): { readonly child: ChildProcess; readonly shown: () => string; type(keys: string): void } {
    const child = spawn("script", ["-qefc", `stty cols 60 rows 20; exec ${program()[0]} exec`, "/dev/null"], {
      cwd: dir,
      env: { PATH: process.env.PATH, HOME: home.dir, TMPDIR: home.dir, TERM: "xterm-256color", LANG: "C.UTF-8" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    let shown = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      shown += text;
      child.emit("shown");
    });
    return { child, shown: () => shown, type: (keys) => void child.stdin.write(keys) };
  }

  test("has a line per running job, colours and a clean end; Ctrl-C is a key there", async () => {
    await ciFile("longer: {script: ['echo beginning; sleep 600']}\nb: {script: ['echo beginning; sleep 600']}\n");
    const { child, shown, type } = onTerminal();
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
    const seen = (wanted: () => boolean): Promise<void> =>
      new Promise((resolve) => {
        const look = (): void => {
          if (!wanted()) return;
          child.off("shown", look);
          resolve();
        };
        child.on("shown", look);
        look();
      });
    const rowsOf = (name: string) => new RegExp(`[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] ${name} +0:0\\d  beginning`, "u");
    await seen(() => rowsOf("longer").test(shown()) && rowsOf("b").test(shown()));
    expect(shown()).toMatch(/\r\x1b\[\dA\x1b\[J/);
    expect(shown()).toMatch(/\x1b\[3\dm(?:b {5}|longer) │\x1b\[0m /);
    type("\x03");
    expect(await ended, shown()).toBe(130);
    const end = shown().slice(shown().lastIndexOf("\x1b[J"));
    expect(end).toContain("canceled");
    expect(end).not.toMatch(/[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]/u);
  });
});

test("the example of the README does what it says, word for word", async () => {
  const readme = await readFile(join(import.meta.dirname, "../../README.md"), "utf8");
  const section = /^## Run a pipeline here\n(.*?)^## /ms.exec(readme)?.[1] ?? "";
  const blocks = (language: string): string[] =>
    [...section.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map((match) => match[1] ?? "");
  const bin = join(home.dir, "bin");
  await mkdir(bin);
  await symlink(program()[0], join(bin, "alloy-runner"));
  await chmod(dir, 0o755);
  const scripts = blocks("sh");
  expect(scripts.length).toBeGreaterThanOrEqual(2);
  let shown = "";
  // `lint` fails and is allowed to: each block ends well as a whole.
  for (const script of scripts)
    shown += execFileSync("bash", ["-euc", script], {
      cwd: dir,
      env: { PATH: `${bin}:${process.env.PATH}`, HOME: home.dir, TMPDIR: home.dir },
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  const plain = (text: string): string => text.replace(/ *\d+\.\d s/g, " 0.0 s").trimEnd();
  const lines = shown.split("\n").map(plain);
  const promised = blocks("text").flatMap((block) => block.split("\n").map(plain));
  expect(promised.length).toBeGreaterThan(5);
  for (const line of promised) expect(lines, shown).toContain(line);
  expect(await readFile(join(dir, "scripts.txt"), "utf8")).toContain("grep hello out/app.txt");
});
