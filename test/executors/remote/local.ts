import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { beforeAbort } from "../../../executors/common/processes/forward.ts";
import type { RemoteCommand, RemoteCommands } from "../../../executors/remote/index.ts";
import { SystemFailure } from "../../../src/errors.ts";
import { deadline, never } from "../../../src/time.ts";

/** Programs of this machine through the contract that containers and far hosts have: `argv` is put before `-c TEXT …`. */
export function localCommands(argv: readonly string[], env: Readonly<Record<string, string>>): RemoteCommands {
  const [program = "sh", ...before] = argv;
  return {
    async start(command: RemoteCommand, signal: AbortSignal) {
      signal.throwIfAborted();
      const words = ["-c", command.script, "alloy-runner", ...command.args];
      const child = spawn(program, [...before, ...words], {
        cwd: "/",
        env,
        detached: true,
        stdio: ["pipe", "pipe", "pipe"],
      });
      const { stdin, stdout, stderr } = child;
      let said = Buffer.alloc(0);
      stderr.on("data", (chunk: Buffer) => {
        said = Buffer.concat([said, chunk]).subarray(-16 * 1024);
      });
      const closed = new Promise<void>((resolve) => stderr.once("close", resolve));
      const onAbort = (): void => void child.kill("SIGKILL");
      signal.addEventListener("abort", onAbort, { once: true });
      if (command.stdin === undefined) stdin.end();
      else if (command.stdin instanceof Uint8Array) stdin.on("error", () => {}).end(command.stdin);
      else pipeline(command.stdin, stdin).catch(() => {});
      const exit = (async () => {
        try {
          const [code, killedBy] = await once(child, "exit");
          signal.throwIfAborted();
          // A process that the program left behind may keep its outputs open.
          using limit = deadline(never, 500, new Error("still open"));
          await beforeAbort(closed, limit.signal);
          if (killedBy !== null) throw new SystemFailure(`the program was killed by ${String(killedBy)}`);
          return { code: Number(code), stderr: said.toString() };
        } finally {
          signal.removeEventListener("abort", onAbort);
        }
      })();
      exit.catch(() => {});
      return { stdout, exit };
    },
  };
}

/** A directory with busybox's programs only, or with the named programs of this machine. */
export function toolDirectory(
  dir: string,
  kind: "busybox" | readonly string[],
  without: readonly string[] = [],
): string {
  mkdirSync(dir, { recursive: true });
  const busybox = "/bin/busybox";
  const names = kind === "busybox" ? execFileSync(busybox, ["--list"]).toString().trim().split("\n") : kind;
  for (const name of names) {
    if (without.includes(name)) continue;
    const path =
      kind === "busybox"
        ? busybox
        : execFileSync("sh", ["-c", `command -v ${name}`])
            .toString()
            .trim();
    symlinkSync(path, join(dir, name));
  }
  return dir;
}
