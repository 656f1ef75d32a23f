import type { Writable } from "node:stream";
import { SystemFailure } from "../../src/errors.ts";
import type { Environment, Exit, Script } from "../../src/executor.ts";
import type { ShellName } from "../../src/shell.ts";
import { deadline, never, pause } from "../../src/time.ts";
import { jobMark, type RemoteCommands, type RemoteTools, remoteFiles, runRemoteScript } from "../remote/index.ts";
import { containerCommands } from "./commands.ts";
import { inspectState } from "./container.ts";
import type { Engine } from "./engine.ts";
import { countKilled, formatBytes } from "./out-of-memory.ts";
import type { Places } from "./places.ts";

/** A container that runs, as scripts and file work use it. */
export interface JobContainer {
  readonly id: string;
  /** `the build container`. */
  readonly name: string;
  /** What it was made of, for messages. */
  readonly image: string;
  readonly tools: RemoteTools;
  /** Whom scripts run as; `undefined`: as the container says. */
  readonly user: string | undefined;
  /** `NAME=value` for scripts, beyond the container's own. */
  readonly env: readonly string[];
}

export interface EnvironmentOptions {
  readonly engine: Engine;
  readonly jobKey: string;
  readonly shell: ShellName;
  readonly build: JobContainer;
  /** May be the build container itself. */
  readonly helper: JobContainer;
  readonly places: Places;
  readonly slot: number;
  readonly memoryBytes: number | undefined;
  readonly killLeftovers: boolean;
  readonly killGraceMs: number;
  /** Start a build container again that has ended. @throws {SystemFailure} it cannot be */
  readonly revive: (notes: Writable, signal: AbortSignal) => Promise<void>;
  readonly destroy: (signal: AbortSignal) => Promise<void>;
}

const RED = "\x1b[31;1m";
const PLAIN = "\x1b[0;m";
/** More than a stop may take beyond its grace: then the container itself is killed. */
const STUCK_MS = 30_000;
/** From the death of a container's programs until the engine says that it has ended. */
const DEATH_LOOKS = 6;
const DEATH_PAUSE_MS = 100;

/** One job's surroundings in containers. */
export function createEnvironment(options: EnvironmentOptions): Environment {
  const { engine, build, helper, places } = options;
  const commandsOf = (container: JobContainer, root: boolean, stopping?: AbortSignal): RemoteCommands =>
    containerCommands({
      engine,
      container: container.id,
      name: container.name,
      env: container.env,
      ...(stopping === undefined ? {} : { stopping }),
      ...(root ? { user: "0" } : container.user === undefined ? {} : { user: container.user }),
    });
  const files = commandsOf(helper, false);
  const buildRoot = commandsOf(build, true);
  let killedBefore = 0;
  let dead = false;

  const run = async (script: Script, output: Writable, signal: AbortSignal): Promise<Exit> => {
    const container = script.runIn === "build" ? build : helper;
    const { killLeftovers, killGraceMs } = options;
    // The same text in either shell: the helper needs no bash only because the job's image has one.
    const isBash = script.command.argv[0] === "bash" && container.tools.bash === null;
    const suited: Script = isBash ? { ...script, command: { ...script.command, argv: ["sh"] } } : script;
    const host = {
      scripts: commandsOf(container, false, signal),
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
      where: `${container.name} (image ${container.image})`,
    };
    const running = runRemoteScript(host, suited, output, signal);
    running.catch(() => {});
    try {
      return await stoppable(running, signal, killGraceMs + STUCK_MS, () => kill(container));
    } catch (error) {
      signal.throwIfAborted();
      throw await explain(container, error);
    }
  };

  /** Nothing inside did what it was told to. */
  const kill = async (container: JobContainer): Promise<void> => {
    using limit = deadline(never, STUCK_MS, new Error("the container cannot be killed"));
    await engine
      .call(`kill ${container.name}`, (docker) => docker.getContainer(container.id).kill(), limit.signal)
      .catch(() => {});
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
  const sayOutOfMemory = async (output: Writable, signal: AbortSignal): Promise<void> => {
    const killed = await countKilled(buildRoot, signal);
    if (killed === null || killed <= killedBefore) return;
    const count = killed - killedBefore;
    killedBefore = killed;
    const limit =
      options.memoryBytes === undefined
        ? "the machine has no memory left"
        : `the job may use ${formatBytes(options.memoryBytes)} (memory in [runners.docker])`;
    if (!output.destroyed && !output.writableEnded) {
      output.write(
        `${RED}ERROR: Out of memory: the kernel killed ${count === 1 ? "a process" : `${count} processes`} of the job; ${limit}${PLAIN}\n`,
      );
    }
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
    workspace: { root: places.root, tmpDir: places.tmpDir, ...remoteFiles(files, { ...places, tools: helper.tools }) },
    projectSlot: options.slot,
    host: `container ${build.id.slice(0, 12)} on ${engine.hostName}`,
    buildsDir: places.buildsDir,
    run: async (script, output, signal) => {
      signal.throwIfAborted();
      if (dead && (script.runIn === "build" || helper === build)) {
        await options.revive(output, signal);
        dead = false;
        killedBefore = 0;
      }
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
          output.write(`${RED}ERROR: Out of memory: the build container was killed${PLAIN}\n`);
        } else await sayOutOfMemory(output, signal);
      }
      return exit;
    },
    destroy: options.destroy,
  };
}

/** `body`, which ends by itself after a stop; if it does not within `limitMs`, `force` has it end. */
async function stoppable<T>(
  body: Promise<T>,
  signal: AbortSignal,
  limitMs: number,
  force: () => Promise<void>,
): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    timer = setTimeout(() => {
      force().then(
        () => reject(signal.reason),
        () => reject(signal.reason),
      );
    }, limitMs);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([body, late]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
