import type { Writable } from "node:stream";
import { handsOver, SystemFailure } from "../../../src/errors.ts";
import type { Environment, Exit, JobLocation, Script, ScriptKeeping } from "../../../src/executor/environment.ts";
import type { Note, Notes } from "../../../src/executor/prepare.ts";
import type { ShellName } from "../../../src/shell.ts";
import { deadline, never, pause } from "../../../src/time.ts";
import { notesOn } from "../../common/notes.ts";
import { gitTrust } from "../../common/places/git-trust.ts";
import { stoppable } from "../../common/processes/stoppable.ts";
import { terminalShell } from "../../common/terminal-start.ts";
import {
  durableCommands,
  jobMark,
  openRemoteTerminal,
  remoteFiles,
  runRemoteScript,
  runToEnd,
} from "../../remote/index.ts";
import type { Places } from "../pod/places.ts";
import { TABLE } from "../settings/settings.ts";
import { areApart, type JobContainer } from "./containers/job-container.ts";
import { GIVE_AWAY, OOM_COUNT } from "./containers/places-program.ts";
import { OutOfMemory } from "./failures.ts";
import { createPodMeter } from "./usage.ts";

export interface EnvironmentOptions {
  readonly jobKey: string;
  readonly shell: ShellName;
  readonly build: JobContainer;
  /** The container of the runner's own scripts; it may be the build container itself. */
  readonly helper: JobContainer;
  readonly places: Pick<Places, "buildsDir" | "root" | "tmpDir" | "scriptsDir">;
  readonly slot: number;
  readonly host: string;
  readonly location: JobLocation;
  readonly killLeftovers: boolean;
  readonly killGraceMs: number;
  /** Ends the pod, whatever runs in it. */
  readonly kill: () => Promise<void>;
  readonly destroy: (signal: AbortSignal) => Promise<void>;
  /** How long that may take. */
  readonly destroyMs: number;
  /** By which the runner's next process finds it; absent: it ends with this one. */
  readonly handle: Note | undefined;
}

/** If a stop takes this much longer than its grace period, the pod itself is ended. */
const STUCK_MS = 30_000;
const LOOK_MS = 20_000;
/** Time in which output is still read after a container has ended. */
const LAST_OUTPUT_MS = 5000;

/** Has a program's files be its group's, too. */
const FOR_GROUP: readonly string[] = ["sh", "-c", 'umask 002; exec "$@"', "alloy-runner"];

/** What is said while a script is kept is no part of its output. */
function printerOf(keeping: ScriptKeeping | undefined, output: Writable): Notes["print"] {
  return keeping === undefined ? notesOn(output).print : (text, tone = "plain") => keeping.say(text, tone);
}

/** Makes the environment of one job in a pod. */
export function createEnvironment(options: EnvironmentOptions): Environment {
  const { build, helper, places, killLeftovers, killGraceMs } = options;
  const { root, tmpDir, buildsDir } = places;
  const apart = areApart(build, helper);
  /** The helper works as root and the scripts do not, so what the helper has made is given to the scripts' user. */
  const givesAway = helper !== build && helper.tools.uid === 0 && build.tools.uid > 0;
  /** Processes that the kernel has killed so far, by container. */
  const oomKilled = new Map<string, number>();
  const meter = createPodMeter((helper === build ? [build] : [build, helper]).map(({ commands }) => commands));

  const giveAway = async (signal: AbortSignal): Promise<void> => {
    if (!givesAway) return;
    const checkout = root.slice(buildsDir.length + 1);
    const args = [String(build.tools.uid), String(build.tools.gid), buildsDir, checkout, tmpDir];
    const { code, stderr } = await runToEnd(helper.commands, { script: GIVE_AWAY, args }, 64 * 1024, signal);
    if (code !== 0)
      throw new SystemFailure(`What the helper has made cannot be given to the job's user: ${stderr.trim()}`);
  };

  const files = (): Environment["workspace"] => {
    // The directory is on the file system of the checkout, so that moving files is cheap.
    const place = { root, tmpDir: `${root}.tmp`, tools: helper.tools };
    const plain = remoteFiles(helper.commands, place);
    return {
      ...plain,
      root,
      tmpDir,
      unpack: async (tar, limits, signal) => {
        const report = await plain.unpack(tar, limits, signal);
        await giveAway(signal);
        return report;
      },
    };
  };

  /** What the next process has to know of a container's past is noted with the script's place. */
  const suitedToKeep = ({ keeping, ...script }: Script, name: string): Script => {
    // Of a job that ends with this process nobody goes on with anything.
    if (keeping === undefined || options.handle === undefined) return script;
    const before = keeping.resume?.place.oomKilled;
    if (typeof before === "number") oomKilled.set(name, before);
    const begins = (place: Note): void => keeping.begins({ ...place, oomKilled: oomKilled.get(name) ?? 0 });
    return { ...script, keeping: { ...keeping, begins } };
  };

  const run = async (script: Script, output: Writable, signal: AbortSignal): Promise<Exit> => {
    const container = script.runIn === "build" ? build : helper;
    const print = printerOf(script.keeping, output);
    const where = `the ${container.name} container (image ${container.image})`;
    // sh runs the same text, so the helper needs no bash where only the job's image has one.
    const isBash = script.command.argv[0] === "bash" && container.tools.bash === null;
    const shell = isBash ? (["sh"] as const) : script.command.argv;
    const [first = "sh", ...others] = apart ? [...FOR_GROUP, ...shell] : shell;
    const suited: Script = { ...script, command: { ...script.command, argv: [first, ...others] } };
    const scripts = durableCommands({
      commands: container.commands,
      reading: helper.commands,
      // It belongs to the user who runs scripts there.
      directory: apart && container === helper ? `${places.scriptsDir}.helper` : places.scriptsDir,
      onWeather: (news) =>
        print(
          news === "lost"
            ? "The connection to the pod is lost; the script goes on, and so does its output once the cluster answers"
            : "The connection to the pod is back",
          "warning",
        ),
      lost: async (asking) => (await container.lost(asking)) ?? (await helper.lost(asking)),
    });
    // A quiet script in a container that has ended would be waited for as one that has nothing to say.
    const broken = new AbortController();
    const over = new AbortController();
    const both = AbortSignal.any([signal, broken.signal]);
    Promise.race([container.whenLost(over.signal), helper.whenLost(over.signal)])
      .then(async (loss) => {
        await pause(LAST_OUTPUT_MS, over.signal);
        broken.abort(loss);
      })
      .catch(() => {});
    const running = runRemoteScript(
      {
        scripts,
        commands: container.commands,
        tools: container.tools,
        mark: jobMark(options.jobKey),
        scriptDir: tmpDir,
        killLeftovers,
        killGraceMs,
        isGone: async () => (await lossWithin(container)) !== null,
        where,
        onUsed: meter.used,
      },
      suited,
      output,
      both,
    );
    try {
      const force = async (): Promise<void> => {
        if (!handsOver(both)) await options.kill();
      };
      return await stoppable(running, both, killGraceMs + STUCK_MS, force);
    } finally {
      over.abort(new Error("the script has ended"));
    }
  };

  const lossWithin = async (container: JobContainer): Promise<Error | null> => {
    using limit = deadline(never, LOOK_MS, new Error("no answer"));
    return await container.lost(limit.signal).catch(() => null);
  };

  /** Tells that the kernel has killed processes for want of memory: `Killed` alone does not say why. */
  const sayOutOfMemory = async (container: JobContainer, print: Notes["print"], signal: AbortSignal): Promise<void> => {
    const { name, commands, memoryLimit } = container;
    const { code, stdout } = await runToEnd(commands, { script: OOM_COUNT, args: [] }, 1024, signal);
    const count = code === 0 ? Number(stdout.toString("utf8").trim()) : 0;
    const more = count - (oomKilled.get(name) ?? 0);
    oomKilled.set(name, count);
    if (!(more > 0)) return;
    const what = more === 1 ? "a process" : `${more} processes`;
    const key = name === "helper" ? "helper_memory_limit" : "memory_limit";
    const limit = memoryLimit === "" ? "" : `; the ${name} container may use ${memoryLimit} (${key} in [${TABLE}])`;
    print(`Out of memory: the kernel killed ${what} of the job${limit}`, "error");
  };

  return {
    shell: options.shell,
    login: false,
    ...(helper !== build && helper.tools.uid !== build.tools.uid ? { helperApart: true as const } : {}),
    workspace: files(),
    projectSlot: options.slot,
    gitSettings: gitTrust(root),
    host: options.host,
    location: options.location,
    buildsDir,
    run: async (given, output, signal) => {
      const container = given.runIn === "build" ? build : helper;
      const script = suitedToKeep(given, container.name);
      const { keeping } = script;
      // What was begun before is ended where that is wanted by now.
      if (keeping?.resume === undefined || handsOver(signal)) signal.throwIfAborted();
      const print = printerOf(keeping, output);
      using _ = meter.script();
      let exit: Exit;
      try {
        exit = await run(script, output, signal);
        if (exit.code !== 0) {
          // If the pod is deleted or the container ends, a script looks as if a signal had killed it.
          const loss = exit.code === 137 || exit.code === 143 ? await lossWithin(container) : null;
          if (loss !== null) throw loss;
          await sayOutOfMemory(container, print, signal).catch(() => signal.throwIfAborted());
        }
        if (script.runIn === "helper") await giveAway(signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof OutOfMemory)) throw error;
        print(error.message, "error");
        exit = { code: 137, signal: "SIGKILL" };
      }
      await keeping?.ended(exit);
      return exit;
    },
    openTerminal: async (request, signal) => {
      const shell = terminalShell(options.shell, false);
      const mark = jobMark(options.jobKey);
      const around = { commands: build.commands, root, tmpDir, shell, mark, killGraceMs, start: build.openPty };
      return await openRemoteTerminal(around, request, signal);
    },
    usage: meter.usage,
    ...(options.handle === undefined ? {} : { handle: options.handle }),
    destroy: options.destroy,
    destroyMs: options.destroyMs,
  };
}
