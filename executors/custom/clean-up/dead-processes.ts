import { spawn } from "node:child_process";
import { endTree, jobMark, type RemoteCommands } from "../../remote/index.ts";

const GRACE_MS = 10_000;
const STUCK_MS = 5000;
const KEPT_BYTES = 16 * 1024;

/** Runs small programs on this machine by its own shell. */
const localCommands: RemoteCommands = {
  async start({ script, args, stdin }, signal) {
    signal.throwIfAborted();
    const child = spawn("/bin/sh", ["-c", script, "alloy-runner", ...args], {
      stdio: ["pipe", "pipe", "pipe"],
      signal,
    });
    child.on("error", () => {}); // whoever waits for its end gets the error
    let stderr = Buffer.alloc(0);
    child.stderr.on("data", (chunk: Buffer) => {
      stderr = Buffer.concat([stderr, chunk]).subarray(-KEPT_BYTES);
    });
    child.stdin.on("error", () => {});
    if (stdin === undefined) child.stdin.end();
    else if (stdin instanceof Uint8Array) child.stdin.end(stdin);
    else stdin.pipe(child.stdin);
    const exit = new Promise<{ code: number; stderr: string }>((resolve) => {
      child.once("close", (code) => resolve({ code: code ?? 137, stderr: stderr.toString("utf8") }));
    });
    return { stdout: child.stdout, exit };
  },
};

/**
 * End what is left on this machine of a dead job's programs.
 * @returns how many it were, and those that could not be ended
 */
export async function endProcesses(
  jobKey: string,
  signal: AbortSignal,
): Promise<{ readonly ended: number; readonly survived: number }> {
  if (process.platform === "win32") return { ended: 0, survived: 0 };
  const tree = { mark: jobMark(jobKey), root: null, graceMs: GRACE_MS, limitMs: STUCK_MS };
  const { ended, survived } = await endTree(localCommands, tree, signal);
  return { ended: ended.length, survived: survived.length };
}
