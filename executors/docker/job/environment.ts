import type { Writable } from "node:stream";
import { handsOver, SystemFailure } from "../../../src/errors.ts";
import type { Environment, Exit, Script, ScriptKeeping } from "../../../src/executor/environment.ts";
import type { Note, Notes } from "../../../src/executor/prepare.ts";
import type { Variable } from "../../../src/job/job.ts";
import type { ShellName } from "../../../src/shell.ts";
import { deadline, never, pause, unlessAborted } from "../../../src/time.ts";
import { gitTrust } from "../../common/places/git-trust.ts";
import type { Ended } from "../../common/processes/say-ended.ts";
import { stoppable } from "../../common/processes/stoppable.ts";
import { jobMark, type RemoteCommands, runRemoteScript, type ScriptCommands } from "../../remote/index.ts";
import { inspectState } from "../container/container.ts";
import type { JobContainer } from "../container/job-container.ts";
import type { Places } from "../container/places.ts";
import { containerCommands } from "../engine/commands.ts";
import type { Engine } from "../engine/engine.ts";
import { notesBeside, unheard } from "./beside.ts";
import { lastingScripts, orEnded } from "./lasting/scripts.ts";
import { outOfMemory, watchMemory } from "./out-of-memory.ts";
import { createOwnProcesses } from "./own-processes.ts";
import { openContainerTerminal } from "./terminal.ts";
import { createContainerMeter } from "./usage.ts";
import { type KeptFilesPlace, openWorkspace } from "./workspace.ts";

export interface EnvironmentOptions {
  readonly engine: Engine;
  readonly jobKey: string;
  readonly shell: ShellName;
  readonly build: JobContainer;
  /** May be the build container itself. */
  readonly helper: JobContainer;
  readonly places: Places;
  /** What the surroundings add to the job's variables. */
  readonly variables: readonly Variable[];
  readonly slot: number;
  readonly keeps: KeptFilesPlace | null;
  readonly memoryBytes: number | undefined;
  /** How long the job waited for its images. */
  readonly imageSeconds: number;
  readonly killLeftovers: boolean;
  readonly killGraceMs: number;
  /** Start a build container again that has ended. @throws {SystemFailure} it cannot be */
  readonly revive: (notes: Notes, signal: AbortSignal) => Promise<void>;
  readonly formerCache: NonNullable<Environment["formerCache"]> | null;
  /** By which the runner's next process finds it; absent: it ends with this one. */
  readonly handle?: Note;
  /** Processes of the build container that no script has started, where an earlier process has looked. */
  readonly own?: ReadonlySet<string> | null;
  /** Nothing of a service's log comes any more. */
  readonly stopLogs: () => Promise<void>;
  readonly destroy: (signal: AbortSignal) => Promise<void>;
}

/** More than a stop may take beyond its grace: then the container itself is killed. */
const STUCK_MS = 30_000;
const REVIVE_MS = 120_000;
/** From the death of programs until the engine says that they, or their container, have ended. */
const DEATH_LOOKS = 6;
const DEATH_PAUSE_MS = 100;

/** One job's surroundings in containers. */
export function createEnvironment(options: EnvironmentOptions): Environment {
  const { engine, build, helper, places } = options;
  /** What works against a job's will is root where it may be, and else has the job's own rights. */
  const commandsOf = (container: JobContainer, firm: boolean, stopping?: AbortSignal): RemoteCommands =>
    containerCommands({
      engine,
      container: container.id,
      name: container.name,
      env: container.env,
      ...(stopping === undefined ? {} : { stopping }),
      ...(firm && container.trusted ? { user: "0" } : container.user === undefined ? {} : { user: container.user }),
    });
  const memory = watchMemory(engine, build.id);
  const meter = createContainerMeter(engine);
  let dead = false;
  /** Its scripts go on while the engine, or the runner, is away. */
  const lasts = options.handle !== undefined;

  const own = createOwnProcesses(engine, build.id, options.own);
  /** How many scripts run in the build container now. */
  let scripts = 0;

  let reviving: Promise<void> | null = null;
  /** A container that was started, but has not answered, never will: the next one to need it begins anew. */
  const startAgain = async (notes: Notes): Promise<void> => {
    using limit = deadline(never, REVIVE_MS, new SystemFailure("The build container does not start again"));
    try {
      await options.revive(notes, limit.signal);
      own.renew();
      dead = false;
    } catch (error) {
      await kill(build);
      throw error;
    } finally {
      reviving = null;
    }
  };
  /** A build container that has ended is started again for whoever needs it; the start outlives a stop of who asked first. */
  const revive = async (notes: Notes, signal: AbortSignal): Promise<void> => {
    if (!dead) return;
    reviving ??= startAgain(notes);
    await unlessAborted(reviving, signal);
  };
  const helping = commandsOf(helper, false);
  const files: RemoteCommands =
    helper === build
      ? {
          start: async (command, signal) => {
            await revive(notesBeside(undefined, unheard()), signal);
            return await helping.start(command, signal);
          },
        }
      : helping;

  /**
   * The job's own rights may not be enough to end all that a script started, and its image's programs need not tell the truth.
   * What the engine still sees is ended with the container, which is started again for the next script.
   */
  const makeSure = async (container: JobContainer, known: Ended | null, stopped: boolean): Promise<Ended | null> => {
    if (container.trusted) return known;
    const isDone = known !== null && known.survived.length === 0;
    // Beside another script nobody can tell whose a process is.
    const alone = scripts === 1 && options.killLeftovers;
    if (isDone && (!stopped || !alone || (await own.isQuiet()))) return known;
    if (!(await kill(container))) return known;
    if (known === null) return { ended: [], killed: [], survived: [] };
    const { ended, killed, survived } = known;
    return { ended: [...ended, ...survived], killed: [...killed, ...survived], survived: [] };
  };

  const scriptsOf = (
    container: JobContainer,
    keeping: ScriptKeeping | undefined,
    output: Writable,
    signal: AbortSignal,
  ): ScriptCommands => {
    if (!lasts) return commandsOf(container, false, signal);
    return lastingScripts({
      ...{ engine, container, reader: helper, reading: helping },
      commands: commandsOf(container, false),
      // It belongs to the user who runs scripts there.
      directory: `${places.tmpDir}/scripts${container === build ? "" : ".helper"}`,
      print: notesBeside(keeping, output).print,
    });
  };

  const run = async (script: Script, output: Writable, signal: AbortSignal): Promise<Exit> => {
    const container = script.runIn === "build" ? build : helper;
    const { killLeftovers, killGraceMs } = options;
    // The same text in either shell: the helper needs no bash only because the job's image has one.
    const isBash = script.command.argv[0] === "bash" && container.tools.bash === null;
    const suited: Script = isBash ? { ...script, command: { ...script.command, argv: ["sh"] } } : script;
    const host = {
      scripts: scriptsOf(container, script.keeping, output, signal),
      commands: commandsOf(container, true),
      tools: container.tools,
      mark: jobMark(options.jobKey),
      scriptDir: places.tmpDir,
      killLeftovers,
      killGraceMs,
      outputEndsEarly: engine.podman,
      isGone: async () => {
        const state = await stateOf(container);
        return state === null || state?.running === false;
      },
      makeSure: (known: Ended | null, stopped: boolean) => makeSure(container, known, stopped),
      where: `${container.name} (image ${container.image})`,
    };
    if (!container.trusted) await own.known();
    if (container === build) scripts++;
    const over = new AbortController();
    const stop = lasts ? orEnded(engine, container, signal, over.signal) : signal;
    const running = runRemoteScript(host, suited, output, stop);
    try {
      return await stoppable(running, stop, killGraceMs + STUCK_MS, async () => {
        if (!handsOver(stop)) await kill(container);
      });
    } catch (error) {
      signal.throwIfAborted();
      throw await explain(container, error);
    } finally {
      over.abort(new Error("the script has ended"));
      if (container === build) scripts--;
    }
  };

  /** Nothing inside did what it was told to. @returns whether nothing runs there any more */
  const kill = async (container: JobContainer): Promise<boolean> => {
    using limit = deadline(never, STUCK_MS, new Error("the container cannot be killed"));
    await engine
      .call(`kill ${container.name}`, (docker) => docker.getContainer(container.id).kill(), limit.signal)
      .catch(() => {});
    const state = await stateOf(container);
    const ended = state !== undefined && state?.running !== true;
    if (ended && container === build) dead = true;
    return ended;
  };

  /** `null`: it was removed; `undefined`: the engine cannot say. */
  const stateOf = async (container: JobContainer): Promise<Awaited<ReturnType<typeof inspectState>> | undefined> => {
    using limit = deadline(never, STUCK_MS, new Error("no answer"));
    return await inspectState(engine, container.id, container.name, limit.signal).catch(() => undefined);
  };

  /** What became of the container is what matters, not how its connection ended. */
  const explain = async (container: JobContainer, error: unknown): Promise<unknown> => {
    const state = await stateOf(container);
    if (state === undefined || state?.running === true) return error;
    if (container === build) dead = true;
    if (state === null) {
      return new SystemFailure(`Somebody has removed ${container.name} while a script ran in it`, { cause: error });
    }
    return new SystemFailure(
      `The ${container.name.replace(/^the /, "")} has ended with status ${state.exitCode} while a script ran in it${state.outOfMemory ? ": out of memory" : ""}`,
      { cause: error },
    );
  };

  /** A script that failed because the kernel took its processes away: nobody would guess that from `Killed`. */
  const sayOutOfMemory = async (print: Notes["print"], signal: AbortSignal): Promise<void> => {
    const count = await memory.killed(signal).catch(() => {
      signal.throwIfAborted();
      return 0;
    });
    if (count > 0) print(outOfMemory(count, options.memoryBytes), "error");
  };

  /** A container that is killed takes its scripts along first, and is said to run for a moment yet. */
  const stateAfter = async ({ signal: ended }: Exit, signal: AbortSignal): ReturnType<typeof inspectState> => {
    for (let look = 1; ; look++) {
      const state = await inspectState(engine, build.id, build.name, signal);
      if (state?.running !== true || ended !== "SIGKILL" || look === DEATH_LOOKS) return state;
      await pause(DEATH_PAUSE_MS, signal);
    }
  };

  return {
    shell: options.shell,
    login: false,
    workspace: openWorkspace({ commands: files, helper, places, keeps: options.keeps }),
    projectSlot: options.slot,
    variables: options.variables,
    gitSettings: gitTrust(places.root),
    host: `container ${build.id.slice(0, 12)} on ${engine.hostName}`,
    location: engine.location,
    buildsDir: places.buildsDir,
    run: async (script, output, signal) => {
      const { keeping } = script;
      const beside = notesBeside(lasts ? keeping : undefined, output);
      // What was begun before is ended where that is wanted by now.
      if (keeping?.resume === undefined || handsOver(signal)) signal.throwIfAborted();
      if (script.runIn === "build" || helper === build) await revive(beside, signal);
      const exit = await run(script, output, signal);
      if (exit.code !== 0 && script.runIn === "build") {
        const state = exit.code < 128 ? null : await stateAfter(exit, signal);
        if (state !== null && !state.running) {
          dead = true;
          if (!state.outOfMemory) {
            throw new SystemFailure(
              `The build container has ended with status ${state.exitCode} while a script ran in it`,
            );
          }
          beside.print("Out of memory: the build container was killed", "error");
        } else await sayOutOfMemory(beside.print, signal);
      }
      if (lasts) await keeping?.ended(exit);
      return exit;
    },
    openTerminal: async (request, signal) => {
      await revive(notesBeside(undefined, unheard()), signal);
      const { shell, killGraceMs } = options;
      const mark = jobMark(options.jobKey);
      const around = { engine, container: build, commands: commandsOf(build, false), places, shell, mark, killGraceMs };
      return await openContainerTerminal(around, request, signal);
    },
    usage: async (signal) => {
      const ids = helper === build ? [build.id] : [build.id, helper.id];
      return { ...(await meter.usage(ids, signal)), imageSeconds: options.imageSeconds };
    },
    ...(options.formerCache === null ? {} : { formerCache: options.formerCache }),
    ...(options.handle === undefined ? {} : { handle: options.handle }),
    scriptsOver: options.stopLogs,
    destroy: options.destroy,
  };
}
