import type { Writable } from "node:stream";
import { describeError, Stop, SystemFailure } from "../../src/errors.ts";
import type { Environment, Exit, JobLocation, Script } from "../../src/executor/environment.ts";
import type { JobUsage } from "../../src/job/job.ts";
import type { Log } from "../../src/log.ts";
import type { Argv, ShellName } from "../../src/shell.ts";
import { deadline } from "../../src/time.ts";
import { addUsage } from "../common/processes/group-usage.ts";
import { terminalShell } from "../common/terminal-start.ts";
import {
  endTree,
  keepingByChanges,
  openRemoteTerminal,
  type RemoteCommands,
  type RemotePty,
  type RemoteTools,
  remoteFiles,
  runRemoteScript,
} from "../remote/index.ts";
import { commandLine } from "./connection/command-line.ts";
import type { Link } from "./connection/link.ts";
import type { Claim } from "./working-copy/claim.ts";

export interface SshEnvironmentOptions {
  readonly link: Link;
  readonly commands: RemoteCommands;
  /** The same commands with what the account's profiles set, for scripts that do not read these themselves. */
  readonly profiled: RemoteCommands;
  readonly tools: RemoteTools;
  readonly claim: Claim;
  readonly shell: ShellName;
  /** `jobMark(jobKey)` */
  readonly mark: string;
  readonly killLeftovers: boolean;
  readonly killGraceMs: number;
  readonly log: Log;
  readonly location: JobLocation;
  /** It is a container: what memory there is, is not its machine's. */
  readonly inContainer?: true;
  /** Whoever logs in next finds the working copy as this job leaves it, and nothing of the job runs then. */
  readonly keepsFiles?: true;
  /** End the job's processes and remove its files: over a new connection, or, where its claim is gone, by `commands`. */
  cleanUp(commands: RemoteCommands | null, signal: AbortSignal): Promise<void>;
}

/** From SIGKILL until survivors are given up. */
const STUCK_MS = 5000;
/** How long the farewell to the host may take; what is left there after that ends by itself or stays. */
const FAREWELL_MS = 60_000;

/** One job's surroundings on a far host: a claim on a working copy, a temporary directory, and its processes. */
export function createSshEnvironment(options: SshEnvironmentOptions): Environment {
  const { link, commands, profiled, tools, claim, shell, mark, killLeftovers, killGraceMs, log } = options;
  const where = link.name;
  const { root, tmpDir } = claim;
  const place = { root, tmpDir, tools };
  const keeping =
    options.keepsFiles === true && killLeftovers
      ? keepingByChanges({ commands, place, host: link.name, asideDir: `${tmpDir}/kept` })
      : undefined;
  let destroying: Promise<void> | null = null;
  let used: JobUsage = {};

  const run = async (script: Script, output: Writable, signal: AbortSignal): Promise<Exit> => {
    const host = {
      scripts: script.login ? commands : profiled,
      commands,
      tools,
      mark,
      scriptDir: tmpDir,
      killLeftovers,
      killGraceMs,
      where,
      onUsed: (usage: JobUsage) => {
        used = addUsage(used, usage);
      },
      isMachine: options.inContainer !== true,
    };
    try {
      return await runRemoteScript(host, script, output, signal);
    } catch (error) {
      if (signal.aborted || !link.lost.aborted) throw error;
      throw new SystemFailure(
        `${describeError(link.lost.reason)}. How the script went on there is not known; the host ends it as soon as it notices, too`,
        { cause: error, retry: false, reason: "runner_external_dependency_failure" },
      );
    }
  };

  /** Ends processes that escaped from their script and carry the mark. */
  const endHidden = async (signal: AbortSignal): Promise<void> => {
    const tree = { mark, root: null, graceMs: killGraceMs, limitMs: STUCK_MS };
    const { ended, survived } = await endTree(commands, tree, signal);
    if (ended.length > 0) log.info("Ended what a job had hidden", { host: link.name, processes: ended.length });
    if (survived.length > 0) {
      const names = survived.map(({ name, pid }) => `${name} (${pid})`).join(", ");
      log.warn("Cannot end processes of a job", { host: link.name, processes: names });
    }
  };

  const destroy = async (signal: AbortSignal): Promise<void> => {
    using limit = deadline(
      signal,
      FAREWELL_MS + killGraceMs,
      new Stop("timed_out", `${link.name} did not answer within ${(FAREWELL_MS + killGraceMs) / 1000} s of clean-up`),
    );
    try {
      if (!link.lost.aborted) {
        try {
          let result = await claim.release(!killLeftovers, limit.signal);
          if (result === "left") {
            await endHidden(limit.signal);
            result = await claim.release(true, limit.signal);
          }
          if (result === "released") return;
          if (!link.lost.aborted) return await options.cleanUp(commands, limit.signal);
        } catch (error) {
          if (!link.lost.aborted) throw error;
        }
      }
      await options.cleanUp(null, limit.signal);
    } finally {
      link.close();
    }
  };

  return {
    shell,
    login: true,
    workspace: {
      root,
      tmpDir,
      ...remoteFiles(profiled, place, { unpacksAtOnce: 3, ...(keeping === undefined ? {} : { keeping }) }),
    },
    projectSlot: claim.slot,
    location: options.location,
    host: claim.node === link.name ? link.name : `${claim.node} (${link.name})`,
    buildsDir: claim.buildsDir,
    run,
    openTerminal: async (request, signal) => {
      // Where PowerShell is, only the account's profile may say, as for scripts.
      const argv: Argv = shell === "pwsh" ? ["sh", "-l", "-c", "exec pwsh"] : terminalShell(shell, true);
      const around = { commands, root, tmpDir, shell: argv, mark, killGraceMs };
      const start = async ([program, ...args]: Argv, starting: AbortSignal): Promise<RemotePty> => {
        const latin = [program, ...args].map((word) => Buffer.from(word).toString("latin1"));
        const { line } = commandLine('exec "$@"', latin, "");
        const channel = await link.exec(line, starting, true);
        channel.stderr.resume();
        return { input: channel.stdin, output: channel.stdout, hangUp: () => channel.close() };
      };
      return await openRemoteTerminal({ ...around, start }, request, signal);
    },
    usage: async () => used,
    destroy: (signal) => {
      destroying ??= destroy(signal);
      return destroying;
    },
  };
}
