import { rm } from "node:fs/promises";
import type { Writable } from "node:stream";
import type { Exit } from "../../../src/executor/environment.ts";
import type { JobUsage } from "../../../src/job/job.ts";
import type { ShellName } from "../../../src/shell.ts";
import { beforeAbort, drain, forward } from "../../common/processes/forward.ts";
import type { DriverProgram } from "../settings.ts";
import { type DriverHost, makeCallDir, startCall } from "./call.ts";
import { writeScriptFile } from "./script-file.ts";
import { readUsage } from "./usage.ts";

export interface ScriptCall {
  readonly program: DriverProgram;
  readonly text: string;
  /** The shell that the script is written for. */
  readonly shell: ShellName;
  /** The name by which drivers know the stage. */
  readonly stage: string;
  /** Told what the driver says that the script has used, however it ended. */
  readonly onUsed?: (usage: JobUsage) => void;
}

/**
 * One script through `run_exec`, to its end.
 * @throws {SystemFailure} the driver failed, not the script
 * @throws the signal's reason, once the program has ended
 */
export async function runScriptCall(
  host: DriverHost,
  { program, text, shell, stage, onUsed }: ScriptCall,
  output: Writable,
  signal: AbortSignal,
): Promise<Exit> {
  signal.throwIfAborted();
  const callDir = await makeCallDir(host);
  try {
    const file = await writeScriptFile(callDir, text, shell);
    const run = await startCall(host, { program, args: [file, stage], stage, stderr: "joined" }, callDir);
    const reader = forward(run.running.stdout, output);
    try {
      const exit = await run.ended(reader, output, signal);
      await beforeAbort(drain(reader, Number.POSITIVE_INFINITY), signal);
      return await run.verdict(exit);
    } finally {
      reader.close();
      run.running.stderr.destroy();
    }
  } finally {
    onUsed?.(await readUsage(callDir));
    await rm(callDir, { recursive: true, force: true }).catch(() => {});
  }
}
