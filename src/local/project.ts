import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ExecaError, execa } from "execa";
import { CommandError, describeError } from "../errors.ts";
import { never } from "../time.ts";

/** A git repository with a CI file to show. */
export interface SampleProject {
  readonly dir: string;
  readonly sha: string;
  /** Short. */
  readonly ref: string;
  /** Secrets that its jobs know what to do with. */
  readonly secrets: Readonly<Record<string, string>>;
}

/**
 * Make a small project with one commit in `dir`, which must not exist yet or be empty: a stage that builds, a stage that
 * tests, and a job that fails and may. The commit is the same each time, whatever the git settings of this machine are.
 * @throws {CommandError} git is missing or refused
 */
export async function createSampleProject(dir: string, signal: AbortSignal = never): Promise<SampleProject> {
  await mkdir(dir, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    const path = join(dir, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
  }
  const env = gitEnvironment(dir);
  const git = async (...args: readonly string[]): Promise<string> => {
    try {
      const { stdout } = await execa("git", args, {
        cwd: dir,
        env,
        extendEnv: false,
        stdin: "ignore",
        cancelSignal: signal,
      });
      return stdout;
    } catch (cause) {
      signal.throwIfAborted();
      const missing = cause instanceof ExecaError && cause.code === "ENOENT";
      const what = missing ? "git is not installed, or not on PATH" : describeError(cause);
      throw new CommandError(`Cannot make the sample project in ${dir}: ${what}`, { cause });
    }
  };
  await git("init", "--quiet", "--template=");
  // `--initial-branch` would need git 2.28.
  await git("symbolic-ref", "HEAD", "refs/heads/main");
  await git("add", "--all");
  await git("commit", "--quiet", "--no-verify", "--no-gpg-sign", "--message", "Say hello from alloy-runner");
  return { dir, sha: await git("rev-parse", "HEAD"), ref: "main", secrets: { DEPLOY_KEY: "correct-horse-battery" } };
}

/** Nothing of the user's git: no name, no hooks, no signing, no line end conversion, no outer repository. */
function gitEnvironment(dir: string): Record<string, string> {
  const kept = ["PATH", "SYSTEMROOT", "SystemRoot", "TEMP", "TMP", "TMPDIR"].flatMap((name) => {
    const value = process.env[name];
    return value === undefined ? [] : [[name, value]];
  });
  const who = { NAME: "Alloy Runner", EMAIL: "alloy-runner@example.com", DATE: "2024-01-01T12:00:00Z" };
  const roles = ["AUTHOR", "COMMITTER"].flatMap((role) =>
    Object.entries(who).map(([what, value]) => [`GIT_${role}_${what}`, value]),
  );
  return {
    ...Object.fromEntries([...kept, ...roles]),
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: process.platform === "win32" ? "NUL" : "/dev/null",
    // For git before 2.32, which does not know the line above.
    HOME: join(dir, ".git"),
    XDG_CONFIG_HOME: join(dir, ".git"),
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "core.autocrlf",
    GIT_CONFIG_VALUE_0: "false",
    LC_ALL: "C",
  };
}

const ESC = "$(printf '\\033')";

const ciFile = {
  stages: ["build", "test"],
  variables: { GREETING: "Hello" },
  before_script: ['echo "Job $CI_JOB_NAME of stage $CI_JOB_STAGE"'],
  compile: {
    stage: "build",
    script: [
      `printf 'section_start:%s:compile\\r\\033[0K\\033[36;1mCompiling\\033[0m\\n' "$(date +%s)"`,
      "mkdir -p out",
      'for part in greeting farewell; do echo "  compiling src/$part.txt"; cat "src/$part.txt" >> out/app.txt; done',
      `printf 'section_end:%s:compile\\r\\033[0K' "$(date +%s)"`,
      `echo "${ESC}[32mBuilt out/app.txt with $(wc -l < out/app.txt | tr -d ' ') lines${ESC}[0m"`,
    ],
    artifacts: { paths: ["out/"], expire_in: "1 week" },
  },
  unit: {
    stage: "test",
    script: [
      'test "$(head -n 1 src/greeting.txt)" = "Hello from AlloyCI" && echo "ok 1 - the greeting greets"',
      'test -s src/farewell.txt && echo "ok 2 - there is a farewell"',
      'if [ -f out/app.txt ]; then echo "ok 3 - out/app.txt came as an artifact"; fi',
      'echo "$GREETING, the deploy key is ${DEPLOY_KEY:-not set}"',
    ],
    after_script: ['echo "after_script runs whatever happened"'],
  },
  lint: {
    stage: "test",
    allow_failure: true,
    script: [
      'echo "Looking for tabs and long lines"',
      `echo "${ESC}[33msrc/farewell.txt:2: this line is far too friendly${ESC}[0m"`,
      'echo "1 problem. This job fails, and is allowed to."',
      "exit 3",
    ],
  },
};

const files: Readonly<Record<string, string>> = {
  ".alloy-ci.json": `${JSON.stringify(ciFile, null, 2)}\n`,
  "README.md": "# Sample project\n\nTwo stages, three jobs: see `.alloy-ci.json`.\n",
  "src/greeting.txt": "Hello from AlloyCI\n",
  "src/farewell.txt": "Goodbye\nand come back soon\n",
};
