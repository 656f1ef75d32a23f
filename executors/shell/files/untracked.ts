import { spawn } from "node:child_process";
import { SystemFailure } from "../../../src/errors.ts";
import { LONGEST_PATH_BYTES } from "../../../src/files/tar.ts";
import type { Argv } from "../../../src/shell.ts";
import { createNameCount } from "../../common/files/found.ts";

/** A program as it is started for a job. */
interface GitStart {
  /** Put before `argv` what changes the user. @throws {SystemFailure} there is no such program */
  command(argv: Argv): Argv;
  readonly environment: Readonly<Record<string, string>>;
}

/** The working copy's own configuration belongs to the job: nothing of it is run, nor are its owner's rights a reason to stop. */
const GIT: Argv = ["git", "-c", "core.fsmonitor=false", "-c", "safe.directory=*", "ls-files", "--others", "-z"];

/**
 * Names that git does not know in the checkout, ignored ones included; bytes as characters.
 * @throws {SystemFailure} git is missing or refuses
 */
export async function listUntracked(root: string, start: GitStart, signal: AbortSignal): Promise<string[]> {
  const [program, ...args] = start.command(GIT);
  return await new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: root,
      env: { ...start.environment, GIT_TERMINAL_PROMPT: "0", LC_ALL: "C" },
      stdio: ["ignore", "pipe", "pipe"],
      signal,
    });
    const names: string[] = [];
    const count = createNameCount();
    let tooMany: unknown;
    let rest = "";
    let said = "";
    child.stdout.setEncoding("latin1").on("data", (text: string) => {
      const parts = (rest + text).split("\0");
      rest = parts.pop() ?? "";
      try {
        if (rest.length > LONGEST_PATH_BYTES) throw new SystemFailure("a name that git tells of has no end");
        for (const part of parts) {
          count.count(part);
          names.push(part);
        }
      } catch (error) {
        tooMany ??= error;
        rest = "";
        child.kill("SIGKILL");
      }
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      if (said.length < 2000) said += text;
    });
    child.once("error", (cause) => {
      reject(signal.aborted ? signal.reason : new SystemFailure("git cannot be started", { cause }));
    });
    child.once("close", (code) => {
      if (tooMany !== undefined) reject(tooMany);
      else if (code === 0) resolve(names);
      else reject(new SystemFailure(`git ended with status ${code}: ${said.trim().split("\n").at(-1) ?? ""}`));
    });
  });
}
