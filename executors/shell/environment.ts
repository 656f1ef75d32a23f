import { hostname } from "node:os";
import { SystemFailure } from "../../src/errors.ts";
import type { Environment } from "../../src/executor/environment.ts";
import type { ShellName } from "../../src/shell.ts";
import { terminalShell } from "../common/terminal-start.ts";
import { openWorkspace } from "./files/workspace.ts";
import { makeDirectories } from "./places/make-directories.ts";
import { removeDirectory } from "./places/remove.ts";
import type { Slot } from "./places/slots.ts";
import { removeSoon } from "./processes/cgroup.ts";
import { endMembers } from "./processes/tree.ts";
import { runScript, type ScriptHost } from "./script/script.ts";
import { openTerminal, terminalMark } from "./script/terminal.ts";

export interface EnvironmentOptions {
  readonly host: ScriptHost;
  readonly shell: ShellName;
  readonly slot: Slot;
  readonly buildsDir: string;
  /** Nothing of the job is older, on the process table's clock. */
  readonly since: number;
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
    await makeDirectories(tmpDir, 0o700);
  } catch (cause) {
    throw new SystemFailure(`Cannot make the directory ${tmpDir}`, { cause, retry: true });
  }
}

function sessionsOfOthers({ shells, mark }: ScriptHost): ReadonlySet<number> {
  return new Set([...shells].flatMap(([pid, owner]) => (owner === mark ? [] : pid)));
}

/** One job's surroundings on this machine: two directories and its processes. */
export function createEnvironment({ host, shell, slot, buildsDir, since }: EnvironmentOptions): Environment {
  const { tmpDir } = slot.places;
  /** Marks of the terminals that there were. */
  const terminals = new Set<string>();

  /**
   * Ends processes that escaped the end of their script: they still carry the mark, or are in one of the job's control
   * groups.
   */
  const endStragglers = async (): Promise<void> => {
    const { launch, table, mark, killGraceMs, killLeftovers } = host;
    const others = sessionsOfOthers(host);
    const attendants = host.durable?.attendants ?? null;
    const groups = host.cgroups?.existing(host.groupPrefix) ?? [];
    for (const cgroup of [...groups.filter(({ dir }) => dir !== attendants?.dir), null]) {
      // Where nobody is in it, the look for the mark finds all that there is.
      if (killLeftovers && cgroup?.pids().length !== 0) {
        const belonging = { table, mark, uid: launch.uid, leader: null, since, cgroup, others };
        await endMembers({ belonging, graceMs: killGraceMs, limitMs: STUCK_MS });
      }
      if (cgroup !== null) await removeSoon(cgroup);
    }
    // They end by themselves once their scripts have.
    if (attendants !== null && !(await removeSoon(attendants)) && attendants.kill()) await removeSoon(attendants);
    for (const its of killLeftovers ? terminals : []) {
      const belonging = { table, mark: its, uid: launch.uid, leader: null, since, cgroup: null };
      await endMembers({ belonging, graceMs: killGraceMs, limitMs: STUCK_MS });
    }
  };

  return {
    shell,
    login: true,
    workspace: openWorkspace(slot.places, host),
    projectSlot: slot.number,
    host: hostname(),
    location: { at: "this machine" },
    buildsDir,
    run: (script, output, signal) => runScript(host, script, output, signal),
    openTerminal: async (request, signal) => {
      terminals.add(terminalMark(host.mark));
      const around = { ...request, root: slot.places.root, shell: terminalShell(shell, true) };
      return await openTerminal(host, around, signal);
    },
    destroy: async (signal) => {
      try {
        await endStragglers();
        await removeDirectory(host.launch, tmpDir, signal);
        await host.durable?.rooms.clear(host.durable.jobKey);
      } finally {
        slot[Symbol.dispose]();
      }
    },
  };
}
