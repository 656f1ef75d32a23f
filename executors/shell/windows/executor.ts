import { constants, existsSync } from "node:fs";
import { access, mkdir } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import type { ExecutorDeps } from "../../../src/executor/deps.ts";
import type { Environment } from "../../../src/executor/environment.ts";
import type { Executor } from "../../../src/executor/executor.ts";
import type { ShellName } from "../../../src/shell.ts";
import { handingOver } from "../../common/hand-over.ts";
import { openWorkspace } from "../files/workspace.ts";
import type { Launch } from "../launch/launch.ts";
import { findOwnProgram } from "../launch/own-program.ts";
import { inChosenRoot } from "../places/chosen.ts";
import { createDirectoryLocks } from "../places/locks.ts";
import { makeDirectories } from "../places/make-directories.ts";
import { createSlots, type Slot } from "../places/slots.ts";
import { words } from "../words.ts";
import { findOnPath } from "./command.ts";
import { withWindowsPatterns } from "./patterns.ts";
import { aliveTable, descendantsOf, fileTime, listProcesses, stopProcesses } from "./processes.ts";
import { removeOnWindows } from "./remove.ts";
import { runOnWindows, type WindowsHost } from "./script.ts";
import { fitsWindows, inheritOnWindows, mergeVariables, systemRootOf } from "./surroundings.ts";

/** The first is what the Go runner takes where an entry names none. */
export const WINDOWS_SHELLS: readonly ShellName[] = ["cmd", "powershell", "pwsh"];

const noteSchema = z.object({ kind: z.literal("shell-job"), tmpDir: z.string() });

/** From the end of a process until clean-up goes on without one that stays. */
const STUCK_MS = 5000;

/** Jobs in a shell of this machine, with the runner's own rights. */
export function createWindowsShell(deps: ExecutorDeps): Executor {
  const { log, entry, host: around } = deps;
  const { user, inheritEnvironment, ownProgram } = deps.shell ?? { user: undefined, inheritEnvironment: [] };
  const { killGraceMs, killLeftovers } = entry;
  const scratchDir = around.scratch;
  const shell = entry.shell ?? "cmd";
  const buildsDir = resolve(around.working, entry.buildsDir ?? "builds");
  const environment = inheritOnWindows(around.env, inheritEnvironment);
  const systemRoot = systemRootOf(around.env);
  const locks = createDirectoryLocks([join(tmpdir(), "alloy-runner-locks")], aliveTable);
  const slots = createSlots(locks);
  const searched = Object.entries(environment).find(([name]) => /^path$/i.test(name))?.[1] ?? "";
  const launch: Launch = {
    account: null,
    uid: null,
    environment,
    command: ([program, ...args]) => [findOnPath(program, searched, existsSync), ...args],
    check: async () => {},
  };

  const endStragglers = async ({ roots }: WindowsHost): Promise<void> => {
    if (!killLeftovers || roots.length === 0) return;
    const members = descendantsOf(await listProcesses(), roots);
    await stopProcesses(members, { polite: false, graceMs: 0, limitMs: STUCK_MS });
  };

  const environmentFor = (host: WindowsHost, slot: Slot): Environment => ({
    shell,
    login: false,
    workspace: withWindowsPatterns(
      openWorkspace(slot.places, {
        launch,
        mark: `ALLOY_RUNNER_JOB_KEY=${host.jobKey}`,
        ownProgram: ownProgram ?? findOwnProgram(process.execPath, process.argv[1]),
        keepsFiles: false,
      }),
    ),
    projectSlot: slot.number,
    host: hostname(),
    location: { at: "this machine" },
    buildsDir,
    run: (script, output, signal) => runOnWindows(host, script, output, signal),
    destroy: async (signal) => {
      try {
        await endStragglers(host);
        await removeOnWindows(slot.places.tmpDir, signal);
      } finally {
        slot[Symbol.dispose]();
      }
    },
  });

  return handingOver({
    name: words.name,
    title: words.title,
    features: { variables: true, image: false, services: false, shared: true },
    shell,
    plainShell: "cmd",
    disks: () => [buildsDir],
    prepare: async (request, _notes, signal) => {
      const { job, jobKey, runnerId } = request;
      if (user !== undefined && user !== "") {
        throw new SystemFailure(
          `Cannot run jobs as user "${user}": on Windows they run as the runner's own account; let its service log on as that user instead`,
          { reason: "runner_configuration_error" },
        );
      }
      const runnerDir = join(buildsDir, runnerId);
      try {
        await makeDirectories(runnerDir);
        await access(runnerDir, constants.W_OK);
      } catch (cause) {
        throw new SystemFailure(`Cannot use ${runnerDir} as directory for builds`, { cause, retry: true });
      }
      signal.throwIfAborted();
      const projectPath = fitsWindows(request.projectPath)
        ? request.projectPath
        : `project-${job.projectId.replace(/[^\w-]/g, "_")}`;
      const free = await slots.take({ runnerDir, projectPath, projectId: job.projectId, trust: request.trust });
      const slot = await inChosenRoot(free, buildsDir, request, locks.claim);
      try {
        const { tmpDir } = slot.places;
        await request.remember({ kind: "shell-job", tmpDir });
        await removeOnWindows(tmpDir, signal);
        await mkdir(tmpDir, { recursive: true, mode: 0o700 }).catch((cause: unknown) => {
          throw new SystemFailure(`Cannot make the directory ${tmpDir}`, { cause, retry: true });
        });
        const marked = mergeVariables(environment, { ALLOY_RUNNER_JOB_KEY: jobKey });
        const host = { environment: marked, systemRoot, scratchDir, jobKey, roots: [], killLeftovers, killGraceMs };
        return environmentFor(host, slot);
      } catch (error) {
        slot[Symbol.dispose]();
        throw error;
      }
    },
    recover: async (jobKey, notes, signal) => {
      const done: string[] = [];
      const all = await listProcesses(`${jobKey}-`);
      const roots = all.filter((one) => one.named && /^(?:cmd|powershell|pwsh)\.exe$/i.test(one.name));
      const dead = roots.map(({ pid, startedAt }) => ({ pid, startedAt, endedAt: fileTime() }));
      const { ended, survived } = await stopProcesses(descendantsOf(all, dead), {
        polite: false,
        graceMs: 0,
        limitMs: STUCK_MS,
      });
      if (ended.length > 0) done.push(`ended ${ended.length === 1 ? "1 process" : `${ended.length} processes`}`);
      const left = survived.length > 0 ? [`could not end ${survived.length} of its processes`] : [];
      for (const note of notes) {
        signal.throwIfAborted();
        const known = noteSchema.safeParse(note);
        if (!known.success) {
          if (note.kind === "crash") continue;
          log.warn("A note of a dead job is not one of the shell executor", { note: String(note.kind ?? "unknown") });
          continue;
        }
        const { tmpDir } = known.data;
        if (!isAbsolute(tmpDir)) throw new SystemFailure(`A journal names "${tmpDir}" for removal: not absolute`);
        if (await removeOnWindows(tmpDir, signal)) done.push("removed its temporary files");
      }
      return { done, left };
    },
    close: async () => {},
  });
}
