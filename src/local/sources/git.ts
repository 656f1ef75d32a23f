import { type ExecaError, execa } from "execa";
import { CommandError, describeError } from "../../errors.ts";

/** How a call of git ended. */
interface GitResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface GitCall {
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
}

/** git on this machine, in one directory. */
export interface Git {
  /** Its standard output without the last line end. @throws {CommandError} git is missing, or it failed: what it said */
  (args: readonly string[], call?: GitCall): Promise<string>;
  /** The same, but a failure is an answer. @throws {CommandError} git is missing */
  attempt(args: readonly string[], call?: GitCall): Promise<GitResult>;
}

/** Where another git process, such as one that runs us as a hook, points its children. */
const POINTERS =
  /^GIT_(?:DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|COMMON_DIR|NAMESPACE|PREFIX|SHALLOW_FILE|GRAFT_FILE|REPLACE_REF_BASE|INDEX_VERSION|CEILING_DIRECTORIES|QUARANTINE_PATH)$/;

/** `env` without what ties it to some other repository, and without questions, pagers, locks and translations. */
export function gitEnvironment(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const kept = Object.entries(env).flatMap(([name, value]) =>
    value === undefined || POINTERS.test(name) ? [] : [[name, value] as const],
  );
  return {
    ...Object.fromEntries(kept),
    GIT_TERMINAL_PROMPT: "0",
    GIT_OPTIONAL_LOCKS: "0",
    GIT_NO_REPLACE_OBJECTS: "1",
    LC_ALL: "C",
    LANGUAGE: "en",
  };
}

/**
 * A directory of a checkout can look like a bare repository and bring settings of its own, which name programs: git would take
 * it for the repository of whoever stands in it. Only what `.git` or we name counts. (Before git 2.38 nobody asks.)
 */
const NAMED_REPOSITORIES_ONLY = ["-c", "safe.bareRepository=explicit"];

export function createGit(cwd: string, env: Readonly<Record<string, string | undefined>>, signal: AbortSignal): Git {
  const base = gitEnvironment(env);
  const attempt = async (args: readonly string[], call: GitCall = {}): Promise<GitResult> => {
    try {
      const { exitCode, stdout, stderr } = await execa("git", [...NAMED_REPOSITORIES_ONLY, ...args], {
        cwd,
        env: { ...base, ...call.env },
        extendEnv: false,
        input: call.input ?? "",
        reject: true,
        cancelSignal: signal,
        maxBuffer: 256 * 1024 * 1024,
      });
      return { code: exitCode ?? 0, stdout, stderr };
    } catch (cause) {
      signal.throwIfAborted();
      if (!isExecaError(cause)) throw cause;
      if (cause.code === "ENOENT") {
        throw new CommandError("git is not installed, or not on PATH: install it, it is needed to take the sources", {
          cause,
        });
      }
      if (cause.exitCode === undefined) throw new CommandError(`git ${args[0]} failed: ${describeError(cause)}`);
      return { code: cause.exitCode, stdout: String(cause.stdout ?? ""), stderr: String(cause.stderr ?? "") };
    }
  };
  const git = async (args: readonly string[], call?: GitCall): Promise<string> => {
    const { code, stdout, stderr } = await attempt(args, call);
    if (code === 0) return stdout;
    const command = args.find((word, index) => !word.startsWith("-") && args[index - 1] !== "-c") ?? "";
    throw new CommandError(`git ${command} in ${cwd} failed:\n${stderr.trim() || `it ended with status ${code}`}`);
  };
  return Object.assign(git, { attempt });
}

function isExecaError(error: unknown): error is ExecaError {
  return error instanceof Error && "shortMessage" in error;
}
