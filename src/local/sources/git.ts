import { spawn } from "node:child_process";
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

const MOST_BYTES = 256 * 1024 * 1024;

export function createGit(cwd: string, env: Readonly<Record<string, string | undefined>>, signal: AbortSignal): Git {
  const base = gitEnvironment(env);
  const attempt = async (args: readonly string[], call: GitCall = {}): Promise<GitResult> => {
    signal.throwIfAborted();
    const words = [...NAMED_REPOSITORIES_ONLY, ...args];
    const ended = await run({ words, cwd, env: { ...base, ...call.env }, input: call.input ?? "" }, signal);
    signal.throwIfAborted();
    if ("cause" in ended) {
      const { cause } = ended;
      if ("code" in cause && cause.code === "ENOENT")
        throw new CommandError("git is not installed, or not on PATH: install it, it is needed to take the sources", {
          cause,
        });
      throw new CommandError(`git ${args[0]} failed: ${describeError(cause)}`, { cause });
    }
    if (ended.code === null) throw new CommandError(`git ${args[0]} failed: it was ended by ${ended.by}`);
    return { code: ended.code, stdout: withoutLineEnd(ended.stdout), stderr: withoutLineEnd(ended.stderr) };
  };
  const git = async (args: readonly string[], call?: GitCall): Promise<string> => {
    const { code, stdout, stderr } = await attempt(args, call);
    if (code === 0) return stdout;
    const command = args.find((word, index) => !word.startsWith("-") && args[index - 1] !== "-c") ?? "";
    throw new CommandError(`git ${command} in ${cwd} failed:\n${stderr.trim() || `it ended with status ${code}`}`);
  };
  return Object.assign(git, { attempt });
}

interface Started {
  readonly words: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly input: string;
}

type Ended =
  | { readonly code: number | null; readonly by: string; readonly stdout: string; readonly stderr: string }
  | { readonly cause: Error };

/** A run of `exec` asks git two dozen times before its first job, and a library for processes doubles what that takes. */
async function run({ words, cwd, env, input }: Started, signal: AbortSignal): Promise<Ended> {
  return await new Promise<Ended>((resolve) => {
    const child = spawn("git", words, { cwd, env, stdio: [input === "" ? "ignore" : "pipe", "pipe", "pipe"] });
    const output: Readonly<Record<"stdout" | "stderr", Buffer[]>> = { stdout: [], stderr: [] };
    let bytes = 0;
    const stop = (): void => void child.kill();
    for (const name of ["stdout", "stderr"] as const)
      child[name]?.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes <= MOST_BYTES) output[name].push(chunk);
        else stop();
      });
    // git may end before it has read all.
    child.stdin?.on("error", () => undefined).end(input);
    signal.addEventListener("abort", stop, { once: true });
    child.once("error", (cause) => {
      signal.removeEventListener("abort", stop);
      resolve({ cause });
    });
    child.once("close", (code, by) => {
      signal.removeEventListener("abort", stop);
      if (bytes > MOST_BYTES) resolve({ cause: new Error(`it says more than ${MOST_BYTES / 1024 ** 2} MiB`) });
      const textOf = (name: "stdout" | "stderr"): string => Buffer.concat(output[name]).toString("utf8");
      resolve({ code, by: by ?? "a signal", stdout: textOf("stdout"), stderr: textOf("stderr") });
    });
  });
}

function withoutLineEnd(text: string): string {
  return text.replace(/\r?\n$/, "");
}
