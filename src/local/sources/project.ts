import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ExecaError, execa } from "execa";
import { CommandError, describeError } from "../../errors.ts";
import { never } from "../../time.ts";

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

const ciFile = {
  stages: ["build", "test"],
  variables: { GREETING: "Hello" },
  compile: { stage: "build", script: ["sh ci/compile.sh"], artifacts: { paths: ["out/"], expire_in: "1 hour" } },
  unit: {
    stage: "test",
    script: ["sh ci/unit.sh", 'echo "$GREETING from $CI_JOB_NAME, the deploy key is ${DEPLOY_KEY:-not set}"'],
    after_script: ['echo "after_script runs whatever happened"'],
  },
  lint: { stage: "test", allow_failure: true, script: ["sh ci/lint.sh"] },
};

const compile = String.raw`# Builds the project; the lines of a section can be folded where the coordinator knows how.
set -e
printf 'section_start:%s:compile\r\033[0K\033[36;1mCompiling for %s\033[0m\n' "$(date +%s)" "$CI_COMMIT_REF_NAME"
mkdir -p out
for part in greeting farewell; do
  echo "  src/$part.txt"
  cat "src/$part.txt" >> out/app.txt
done
printf 'section_end:%s:compile\r\033[0K\n' "$(date +%s)"
printf '\033[32mBuilt out/app.txt: %s lines\033[0m\n' "$(wc -l < out/app.txt | tr -d ' ')"
`;

const unit = String.raw`set -e
test "$(head -n 1 src/greeting.txt)" = "Hello from AlloyCI"
printf '\033[32mok\033[0m 1 - the greeting greets\n'
test -s src/farewell.txt
printf '\033[32mok\033[0m 2 - there is a farewell\n'
test -s out/app.txt
printf '\033[32mok\033[0m 3 - what the job before has built is here\n'
`;

const lint = String.raw`printf '\033[33msrc/farewell.txt:2\033[0m this line is far too friendly\n'
echo "1 problem. This job fails, and is allowed to."
exit 3
`;

const files: Readonly<Record<string, string>> = {
  ".alloy-ci.json": `${JSON.stringify(ciFile, null, 2)}\n`,
  "README.md": "# Sample project\n\nTwo stages, three jobs: see `.alloy-ci.json`.\n",
  "ci/compile.sh": compile,
  "ci/unit.sh": unit,
  "ci/lint.sh": lint,
  "src/greeting.txt": "Hello from AlloyCI\n",
  "src/farewell.txt": "Goodbye\nand come back soon\n",
};
