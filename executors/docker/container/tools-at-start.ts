import { PassThrough } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import type { Notes } from "../../../src/executor/prepare.ts";
import { REFUSED } from "../../common/places/walk-program.ts";
import { probeTools, quoted, type RemoteCommands, type RemoteTools } from "../../remote/index.ts";
import type { Engine } from "../engine/engine.ts";
import { startMain } from "./container.ts";
import { commandOf, type MainProgram } from "./main-program.ts";

export interface StartOptions {
  readonly id: string;
  /** For messages: `the build container (image ruby:3)`. */
  readonly name: string;
  /** Runs first, in the container's own user's name; what it prints shows in the trace. */
  readonly first: MainProgram | null;
}

interface StartedTools {
  readonly tools: RemoteTools;
  /** Environment of the container's first shell: what an ENTRYPOINT added is in there. `NAME=value`. */
  readonly environment: readonly string[];
}

const SEPARATOR = "\nalloy-runner-environment-ends\n";

/**
 * Start a container and find out what it has, by its first process: that costs no exec, and sees what scripts will see.
 * @throws {NoShellFailure} it runs no shell
 */
export async function startWithTools(
  engine: Engine,
  { id, name, first }: StartOptions,
  notes: Notes,
  signal: AbortSignal,
): Promise<StartedTools> {
  let environment: readonly string[] = [];
  const commands: RemoteCommands = {
    start: async (probe, starting) => {
      const script = [
        ...(first === null ? [] : [`${commandOf(first)} >&2 || { [ "$?" -ne ${REFUSED} ] || exit 98; exit 97; }`]),
        "cat /proc/self/environ 2>/dev/null",
        `printf '%s' ${quoted([SEPARATOR])}`,
        `exec ${commandOf(probe)}`,
      ].join("\n");
      const answer = await startMain(engine, { id, name, program: { script, args: [] } }, notes, starting);
      if (answer.code === 97 || answer.code === 98) {
        throw new SystemFailure(
          `Cannot set up ${name}: see the message above`,
          answer.code === 98 ? { reason: "runner_configuration_error" } : { retry: true },
        );
      }
      const at = answer.stdout.indexOf(SEPARATOR);
      environment = answer.stdout
        .toString("utf8", 0, Math.max(at, 0))
        .split("\0")
        .filter((entry) => entry !== "");
      const stdout = new PassThrough();
      stdout.end(at < 0 ? answer.stdout : answer.stdout.subarray(at + SEPARATOR.length));
      return { stdout, exit: Promise.resolve({ code: answer.code, stderr: "" }) };
    },
  };
  return { tools: await probeTools(commands, signal), environment };
}

/** Set by the shell or the engine for each process anew. */
const OF_THE_PROCESS = new Set(["_", "PWD", "OLDPWD", "SHLVL", "HOSTNAME", "TERM"]);

/** What an ENTRYPOINT changed or added. */
export function addedVariables(found: readonly string[], before: readonly string[]): string[] {
  const known = new Set(before);
  return found.filter((entry) => !known.has(entry) && !OF_THE_PROCESS.has(entry.split("=", 1)[0] ?? ""));
}
