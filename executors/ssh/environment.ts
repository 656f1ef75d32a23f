import type { Writable } from "node:stream";
import { describeError, Stop, SystemFailure } from "../../src/errors.ts";
import type { Environment, Exit, JobLocation, Script } from "../../src/executor/environment.ts";
import type { Note, Notes } from "../../src/executor/prepare.ts";
import type { JobUsage } from "../../src/job/job.ts";
import type { Log } from "../../src/log.ts";
import type { Argv, ShellName } from "../../src/shell.ts";
import { deadline } from "../../src/time.ts";
import { notesOn } from "../common/notes.ts";
import { addUsage } from "../common/processes/group-usage.ts";
import { terminalShell } from "../common/terminal-start.ts";
import {
  durableCommands,
  endTree,
  keepingByChanges,
  openRemoteTerminal,
  type RemoteCommands,
  type RemotePty,
  type RemoteTools,
  remoteFiles,
  runRemoteScript,
  type ScriptCommands,
} from "../remote/index.ts";
import { commandLine } from "./connection/command-line.ts";
import type { Link } from "./connection/link.ts";
import { steadyCommands } from "./connection/steady.ts";
import type { Claim } from "./working-copy/claim.ts";
import type { LastingClaim } from "./working-copy/lasting-claim.ts";

export interface SshEnvironmentOptions {
  readonly link: Link;
  readonly commands: RemoteCommands;
  /** The same commands with what the account's profiles set, for scripts that do not read these themselves. */
  readonly profiled: RemoteCommands;
  readonly tools: RemoteTools;
  readonly claim: Claim;
  /** Its scripts outlive the connection, and the host waits so long for another; `null`: they end with it. */
  readonly lasting: { readonly claim: LastingClaim; readonly leaseMs: number } | null;
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
  /** By which the runner's next process finds it; absent: it ends with this one. */
  readonly handle?: Note;
  /** End the job's processes and remove its files: over a new connection, or, where its claim is gone, by `commands`. */
  cleanUp(commands: RemoteCommands | null, signal: AbortSignal): Promise<void>;
}

/** From SIGKILL until survivors are given up. */
const STUCK_MS = 5000;
/** How long the farewell to the host may take; what is left there after that ends by itself or stays. */
const FAREWELL_MS = 60_000;

/** One job's surroundings on a far host: a claim on a working copy, a temporary directory, and its processes. */
export function createSshEnvironment(options: SshEnvironmentOptions): Environment {
  const { link, commands, profiled, tools, claim, lasting, shell, mark, killLeftovers, killGraceMs, log } = options;
  const where = link.name;
  const { root, tmpDir } = claim;
  const place = { root, tmpDir, tools };
  const keeping =
    options.keepsFiles === true && killLeftovers
      ? keepingByChanges({ commands, place, host: link.name, asideDir: `${tmpDir}/kept` })
      : undefined;
  const ending = lasting === null ? commands : steadyCommands(commands);
  let destroying: Promise<void> | null = null;
  let used: JobUsage = {};

  const run = async (given: Script, output: Writable, signal: AbortSignal): Promise<Exit> => {
    const script = options.handle === undefined ? withoutKeeping(given) : given;
    const starting = script.login ? commands : profiled;
    const host = {
      scripts: lasting === null ? starting : outliving(lasting, starting, printerOf(script, output)),
      commands: ending,
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
      const lost = link.lost();
      if (signal.aborted || lost === null) throw error;
      if (lasting !== null) throw lasting.claim.lost() ?? error;
      throw new SystemFailure(
        `${describeError(lost)}. How the script went on there is not known; the host ends it as soon as it notices, too`,
        { cause: error, retry: false, reason: "runner_external_dependency_failure" },
      );
    }
  };

  /** Scripts whose output lies in files at the host, and is followed over whatever connection there is. */
  const outliving = (
    { claim: held, leaseMs }: NonNullable<SshEnvironmentOptions["lasting"]>,
    starting: RemoteCommands,
    print: Notes["print"],
  ): ScriptCommands =>
    durableCommands({
      commands: starting,
      reading: commands,
      directory: `${held.ownDir}/scripts`,
      awayMs: leaseMs,
      onWeather: (news) =>
        news === "lost"
          ? print(`The connection to ${where} is lost; the script goes on there, trying again`, "warning")
          : print(`Connected to ${where} again`),
      lost: async () => held.lost(),
      missed: () => held.missed(),
    });

  /** Ends processes that escaped from their script and carry the mark. */
  const endHidden = async (signal: AbortSignal): Promise<void> => {
    const tree = { mark, root: null, graceMs: killGraceMs, limitMs: STUCK_MS };
    const { ended, survived } = await endTree(ending, tree, signal);
    if (ended.length > 0) log.info("Ended what a job had hidden", { host: link.name, processes: ended.length });
    if (survived.length > 0) {
      const names = survived.map(({ name, pid }) => `${name} (${pid})`).join(", ");
      log.warn("Cannot end processes of a job", { host: link.name, processes: names });
    }
  };

  const isThere = (): boolean => (lasting === null ? link.lost() : lasting.claim.lost()) === null;

  const destroy = async (signal: AbortSignal): Promise<void> => {
    using limit = deadline(
      signal,
      FAREWELL_MS + killGraceMs,
      new Stop("timed_out", `${link.name} did not answer within ${(FAREWELL_MS + killGraceMs) / 1000} s of clean-up`),
    );
    try {
      if (isThere()) {
        try {
          let result = await claim.release(!killLeftovers, limit.signal);
          if (result === "left") {
            await endHidden(limit.signal);
            result = await claim.release(true, limit.signal);
          }
          if (result === "released") return;
          if (isThere()) return await options.cleanUp(commands, limit.signal);
        } catch (error) {
          if (lasting === null && isThere()) throw error;
        }
      }
      await options.cleanUp(null, limit.signal);
    } finally {
      lasting?.claim.close();
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
    ...(options.handle === undefined ? {} : { handle: options.handle }),
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

/** Of a job that ends with this process nobody goes on with anything. */
function withoutKeeping({ keeping: _, ...script }: Script): Script {
  return script;
}

/** What is said while a script is kept is no part of its output. */
function printerOf({ keeping }: Script, output: Writable): Notes["print"] {
  return keeping === undefined ? notesOn(output).print : (text, tone = "plain") => keeping.say(text, tone);
}
