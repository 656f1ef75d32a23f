import { mkdir } from "node:fs/promises";
import { hostname } from "node:os";
import { SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor.ts";
import type { ShellName } from "../../src/shell.ts";
import { removeDirectory } from "./remove.ts";
import { runScript, type ScriptHost } from "./script.ts";
import type { Slot } from "./slots.ts";
import { endMembers } from "./tree.ts";

export interface EnvironmentOptions {
  readonly host: ScriptHost;
  readonly shell: ShellName;
  readonly slot: Slot;
  readonly buildsDir: string;
}

/** From SIGKILL until clean-up goes on without a process that cannot be ended. */
const STUCK_MS = 5000;

/**
 * Start with no files of an earlier job: `tmpDir` may be left from one that died with its runner.
 * @throws {SystemFailure} the disk is full, read-only, or somebody else's
 */
export async function clearTmpDir(host: ScriptHost, tmpDir: string, signal: AbortSignal): Promise<void> {
  await removeDirectory(host.launch, tmpDir, signal);
  // Below a directory that belongs to another user only that user's scripts make anything.
  if (host.launch.account !== null) return;
  try {
    await mkdir(tmpDir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new SystemFailure(`Cannot make the directory ${tmpDir}`, { cause, retry: true });
  }
}

/** One job's surroundings on this machine: two directories and its processes. */
export function createEnvironment({ host, shell, slot, buildsDir }: EnvironmentOptions): Environment {
  const { root, tmpDir } = slot.places;

  /** What hid from the end of its script: it carries the mark, whatever else it has shaken off. */
  const endStragglers = async (): Promise<void> => {
    if (!host.killLeftovers) return;
    const belonging = { table: host.table, mark: host.mark, leader: null, cgroup: null };
    await endMembers({ belonging, graceMs: host.killGraceMs, limitMs: STUCK_MS });
  };

  return {
    shell,
    login: true,
    workspace: { root, tmpDir },
    projectSlot: slot.number,
    host: hostname(),
    buildsDir,
    run: (script, output, signal) => runScript(host, script, output, signal),
    destroy: async (signal) => {
      try {
        await endStragglers();
        await removeDirectory(host.launch, tmpDir, signal);
      } finally {
        slot[Symbol.dispose]();
      }
    },
  };
}
