import { Writable } from "node:stream";
import { describeError, Stop } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import type { ShellName } from "../../../src/shell.ts";
import { deadline } from "../../../src/time.ts";
import { quoted } from "../../remote/index.ts";
import type { DriverHost } from "../driver/call.ts";
import { runScriptCall } from "../driver/script-call.ts";
import type { DriverProgram } from "../settings.ts";

export const TIDY_MS = 60_000;

/** What it takes to remove a job's files before its place goes: the place itself may be one that stays. */
export interface Tidying {
  readonly program: DriverProgram;
  readonly shell: ShellName;
  readonly paths: readonly string[];
}

/**
 * Runs the stage `cleanup_file_variables`. Files that cannot be removed are only reported, as they go with the place.
 */
export async function removeFiles(
  host: DriverHost,
  { program, shell, paths }: Tidying,
  log: Log,
  signal: AbortSignal,
): Promise<boolean> {
  const tooLong = new Stop("timed_out", `removing a job's files took longer than ${TIDY_MS / 1000} s`);
  using limit = deadline(signal, TIDY_MS, tooLong);
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const call = { program, shell, text: removal(paths, shell), stage: "cleanup_file_variables" };
  try {
    return (await runScriptCall(host, call, nowhere, limit.signal)).code === 0;
  } catch (error) {
    log.warn("files of a job may still be where it ran", { problem: describeError(error) });
    return false;
  }
}

function removal(paths: readonly string[], shell: ShellName): string {
  const powerShell = shell === "pwsh" || shell === "powershell";
  const lines = paths.map((path) => {
    if (powerShell)
      return `Remove-Item -Recurse -Force -LiteralPath '${path.replaceAll("'", "''")}' -ErrorAction SilentlyContinue`;
    const place = quoted([path]);
    return `rm -rf ${place} 2>/dev/null || { find ${place} -type d ! -perm -700 -exec chmod u+rwx {} \\; 2>/dev/null; rm -rf ${place}; }`;
  });
  return `${lines.join("\n")}\nexit 0\n`;
}
