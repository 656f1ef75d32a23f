import { hostname } from "node:os";
import { SystemFailure } from "../../src/errors.ts";
import type { Environment, Script } from "../../src/executor/environment.ts";
import type { JobPlace, Notes } from "../../src/executor/prepare.ts";
import type { JobUsage } from "../../src/job/job.ts";
import type { Log } from "../../src/log.ts";
import type { WorkspaceFiles } from "../../src/workspace.ts";
import { addUsage } from "../common/processes/group-usage.ts";
import { probeTools, quoted, remoteFiles } from "../remote/index.ts";
import { driverCommands } from "./channel/channel.ts";
import { removeFiles, TIDY_MS, type Tidying } from "./clean-up/tidy.ts";
import type { DriverAnswer } from "./driver/answer.ts";
import { type DriverHost, nameCall } from "./driver/call.ts";
import { runScriptCall } from "./driver/script-call.ts";
import { driverStage } from "./driver/stages.ts";
import type { CustomSettings } from "./settings.ts";

export interface CustomEnvironmentOptions {
  readonly settings: CustomSettings;
  readonly host: DriverHost;
  readonly answer: DriverAnswer;
  readonly place: JobPlace;
  readonly notes: Notes;
  readonly log: Log;
  readonly ephemeral: boolean;
  /** Called once there are files of the job. */
  onFiles(tidying: Tidying): Promise<void>;
  /** Runs `cleanup_exec` and lets go of everything. */
  cleanUp(): Promise<void>;
}

/** Time that clean-up may take beyond the operator's own limits. */
const MARGIN_MS = 30_000;

/** The environment that a driver has made, once the first script has run in it. */
export async function createCustomEnvironment(
  options: CustomEnvironmentOptions,
  signal: AbortSignal,
): Promise<Environment> {
  const { settings, host, answer, place, notes, log, ephemeral } = options;
  const { shell } = answer;
  const program = settings.run;
  const { root, tmpDir } = place;
  let stage = "prepare_script";

  const via = answer.hostname === "" ? hostname() : answer.hostname;
  const commands = driverCommands({
    host,
    program,
    shell,
    stage: () => stage,
    notes: notes.stream,
    tmpDir,
    // The greeting stands in double quotes, because the shell over there inserts its host's name.
    greeting: `echo "Running on $(uname -n 2>/dev/null) via "${quoted([via])}"..."`,
  });
  const files = await reachFiles();

  const tidying: Tidying = { program, shell, paths: ephemeral ? [tmpDir, root] : [tmpDir] };
  await options.onFiles(tidying);

  let destroying: Promise<void> | null = null;
  let used: JobUsage = {};
  return {
    shell,
    plainShell: shell,
    login: false,
    workspace: { root, tmpDir, ...files },
    projectSlot: place.projectSlot,
    host: answer.hostname || answer.driver?.name || "what its driver has made",
    location: { at: "this machine" },
    buildsDir: place.buildsDir,
    scriptsBy: nameCall({ program }),
    destroyMs: TIDY_MS + (settings.cleanup?.timeoutMs ?? 0) + settings.gracefulMs + settings.forceMs + MARGIN_MS,
    enter: (name, failed) => {
      stage = driverStage(name, failed);
    },
    run: (script, output, until) => {
      const of = { program, text: script.text, shell: scriptShellOf(script), stage: driverStage(script.stage, false) };
      const onUsed = (usage: JobUsage): void => {
        used = addUsage(used, usage);
      };
      return runScriptCall(host, { ...of, onUsed }, output, until);
    },
    usage: async () => used,
    destroy: (until) => {
      destroying ??= removeFiles(host, tidying, log, until).then(options.cleanUp);
      return destroying;
    },
  };

  /** Scripts also run in a place whose shell does not know how to move files. */
  async function reachFiles(): Promise<WorkspaceFiles> {
    const powerShell = shell === "pwsh" || shell === "powershell";
    try {
      return remoteFiles(commands, { root, tmpDir, tools: await probeTools(commands, signal) });
    } catch (error) {
      if (!powerShell || !(error instanceof SystemFailure) || error.retry) throw error;
      const refuse = (): Promise<never> => Promise.reject(error);
      return { list: refuse, pack: refuse, unpack: refuse };
    }
  }

  function scriptShellOf({ command }: Script): Environment["shell"] {
    return command.extension === ".ps1" ? shell : shell === "sh" ? "sh" : "bash";
  }
}
