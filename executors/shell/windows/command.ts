import { win32 } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import type { Script } from "../../../src/executor/environment.ts";

/** One program start, as `spawn` takes it with `windowsVerbatimArguments`. */
export interface WindowsCommand {
  readonly program: string;
  readonly args: readonly string[];
}

/**
 * A program's file on `path` (`;` between directories), so that nothing in a job's directory is taken for it: Windows
 * looks there first. Only what can be started without a shell; `name` as it is where nothing is found.
 */
export function findOnPath(name: string, path: string, isFile: (file: string) => boolean): string {
  if (/[\\/]/.test(name)) return name;
  const names = /\.(?:exe|com)$/i.test(name) ? [name] : [`${name}.exe`, `${name}.com`];
  const places = path.split(";").map((dir) => dir.replace(/^"(.*)"$/, "$1"));
  const files = places
    .filter((dir) => win32.isAbsolute(dir))
    .flatMap((dir) => names.map((one) => win32.join(dir, one)));
  return files.find(isFile) ?? name;
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
