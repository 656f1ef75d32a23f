import type { Readable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import { deadline, unlessAborted } from "../../../src/time.ts";
import { startProgram } from "../../common/processes/program.ts";
import type { MachineStore } from "./store.ts";

const PROGRAM = "docker-machine";
const MOST_OUTPUT = 64 * 1024;
const GRACE_MS = 5_000;

/** docker-machine, for one store. */
export interface MachineProgram {
  /** Before a command's own: global flags stand first. */
  readonly argv: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string>>;
  /** A command that ends by itself. Those that only read may run at the same time. */
  run(args: readonly string[], limitMs: number, signal: AbortSignal): Promise<Ended>;
}

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  /** What it complains about, in one line. */
  readonly complaint: string;
}

/** @param workingDirectory default: the store */
export function machineProgram(
  store: MachineStore,
  env: Readonly<Record<string, string | undefined>>,
  workingDirectory = store.path,
): MachineProgram {
  const own = Object.entries(env).flatMap(([key, value]): [string, string][] =>
    value === undefined ? [] : [[key, value]],
  );
  // A failed creation would be told to a third party, with what it printed.
  const argv = [PROGRAM, "--bugsnag-api-token=no-report"] as const;
  const environment = {
    ...Object.fromEntries(own),
    MACHINE_BUGSNAG_API_TOKEN: "no-report",
    MACHINE_STORAGE_PATH: store.path,
  };
  return {
    argv,
    environment,
    async run(args, limitMs, signal) {
      const what = `docker-machine ${args.join(" ")}`;
      using limit = deadline(
        signal,
        limitMs,
        new SystemFailure(`${what} does not end within ${limitMs / 1000} s`, { retry: true }),
      );
      limit.signal.throwIfAborted();
      const program = await startProgram({
        argv: [...argv, ...args],
        workingDirectory,
        environment,
        stderr: "apart",
      });
      const output = Promise.all([collect(program.stdout), collect(program.stderr)]);
      // Destroyed in the end, whether anybody still waits for it or not.
      output.catch(() => {});
      try {
        const { code } = await unlessAborted(program.exit, limit.signal);
        const [stdout, stderr] = await unlessAborted(output, limit.signal);
        return { code, stdout, complaint: inOneLine(stderr) };
      } catch (error) {
        // Its drivers are programs of their own in its group.
        await program.stop(GRACE_MS, GRACE_MS);
        throw error;
      } finally {
        program.stdout.destroy();
        program.stderr.destroy();
      }
    },
  };
}

/** What is said of a failure: bounded, and without keys and certificates that provisioning prints. */
export function inOneLine(text: string): string {
  const bare = text
    .replace(/-----BEGIN [\s\S]*?-----END [^\n]*/g, "[certificate]")
    .replace(/\s+/g, " ")
    .trim();
  return bare.length > 500 ? `…${bare.slice(-500)}` : bare;
}

async function collect(stream: Readable): Promise<string> {
  let text = "";
  stream.setEncoding("utf8");
  for await (const chunk of stream) if (text.length < MOST_OUTPUT) text += String(chunk);
  return text;
}
