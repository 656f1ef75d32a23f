import { pause } from "../../src/time.ts";
import { listProcesses } from "../common/processes/process-list.ts";
import type { Hypervisor, Machine } from "./hypervisor.ts";

const LOOK_MS = 200;
const GRACE_MS = 15_000;

/**
 * Ends a dead runner's call of the hypervisor's program that is still at work on this machine, such as copying its
 * disk: it would put the machine back after its removal. Part of the machine's name is random, so no other process is
 * meant.
 */
export async function endOrphans(
  { program }: Pick<Hypervisor, "program">,
  machine: Machine,
  signal: AbortSignal,
): Promise<number> {
  if (process.platform === "win32") return 0;
  const own = [machine.name, ...(machine.id === null ? [] : [machine.id])];
  const found = async (): Promise<number[]> =>
    (await listProcesses(signal)).flatMap(({ pid, group, args }) => {
      // The founder of the group is the shell by which the runner starts programs.
      if (pid !== group || !args.includes(` alloy-runner ${program} `)) return [];
      return own.some((word) => args.includes(word)) ? [group] : [];
    });
  const groups = await found();
  if (groups.length === 0) return 0;
  for (const group of groups) signalTo(group, "SIGTERM");
  const end = performance.now() + GRACE_MS;
  while ((await found()).length > 0 && performance.now() < end) await pause(LOOK_MS, signal);
  for (const group of await found()) signalTo(group, "SIGKILL");
  return groups.length;
}

function signalTo(group: number, name: NodeJS.Signals): void {
  try {
    process.kill(-group, name);
  } catch {
    // The process has ended meanwhile.
  }
}
