import { win32 } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import type { Script } from "../../../src/executor.ts";

/** One program start, as `spawn` takes it with `windowsVerbatimArguments`. */
export interface WindowsCommand {
  readonly program: string;
  readonly args: readonly string[];
}

function quote(word: string): string {
  return /^[\w.:\\/=,;@+-]+$/.test(word) ? word : `"${word}"`;
}

/**
 * What runs a script that lies in the file `path`. It goes through cmd in any case, because only a shell can make stderr the
 * same pipe as stdout, and then their lines keep their order; and `cmd /c` passes the status on.
 * @throws {SystemFailure} the script's place cannot be written in a command line
 */
export function commandFor({ command }: Pick<Script, "command">, path: string, systemRoot: string): WindowsCommand {
  if (/["%!\r\n]/.test(path)) {
    throw new SystemFailure(`Scripts cannot be run in "${path}": choose a state_dir without quotes, % and !`, {
      reason: "runner_configuration_error",
    });
  }
  const program = win32.join(systemRoot, "System32", "cmd.exe");
  const [shell, ...flags] = command.argv;
  if (shell === "cmd") return { program, args: [...flags, `""${path}" 2>&1"`] };
  const words = [shell, ...flags].map(quote).join(" ");
  const line = command.scriptOn === "file" ? `${words} "${path}"` : `${words} <"${path}"`;
  return { program, args: ["/d", "/e:on", "/v:off", "/s", "/c", `"${line} 2>&1"`] };
}
