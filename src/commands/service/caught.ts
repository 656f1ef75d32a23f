import { readFile } from "node:fs/promises";
import { constants } from "node:os";

/**
 * Whether a process has a handler for this signal, as Linux tells: a runner of a version that does not know one is ended by it.
 * False where that cannot be found out.
 */
export async function catches(pid: number, signal: NodeJS.Signals): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, "latin1").catch(() => "");
  const [, mask] = /^SigCgt:\s*([0-9a-f]+)$/m.exec(status) ?? [];
  return mask !== undefined && ((BigInt(`0x${mask}`) >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n;
}
