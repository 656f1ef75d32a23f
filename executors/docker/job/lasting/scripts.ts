import { SystemFailure } from "../../../../src/errors.ts";
import type { Notes } from "../../../../src/executor/prepare.ts";
import { pause } from "../../../../src/time.ts";
import { durableCommands, type RemoteCommands, type ScriptCommands } from "../../../remote/index.ts";
import { inspectState } from "../../container/container.ts";
import type { JobContainer } from "../../container/job-container.ts";
import type { Engine } from "../../engine/engine.ts";

interface LastingOptions {
  readonly engine: Engine;
  /** Where the script runs. */
  readonly container: JobContainer;
  /** Where its output is read. */
  readonly reader: JobContainer;
  /** In either, with the rights of who runs scripts there. */
  readonly commands: RemoteCommands;
  readonly reading: RemoteCommands;
  /** On a volume that both have. */
  readonly directory: string;
  readonly print: Notes["print"];
}

/** An engine may be restarted, or upgraded, while a script runs. */
const AWAY_MS = 600_000;
/** From one question to an engine that does not answer to the next. */
const AGAIN_MS = 1000;
const WAIT_MS = 3_600_000;
/** In which output is still read after a container has ended. */
const LAST_OUTPUT_MS = 5000;

/** Scripts that go on while the engine, or the runner, is away: their output is in files of the job's private volume. */
export function lastingScripts(options: LastingOptions): ScriptCommands {
  const { engine, container, reader, commands, reading, directory, print } = options;
  return durableCommands({
    ...{ commands, reading, directory },
    awayMs: AWAY_MS,
    onWeather: (news) =>
      print(
        news === "lost"
          ? "The connection to the container engine is lost; the script goes on, and so does its output once the engine answers"
          : "The container engine is back",
        "warning",
      ),
    lost: async (signal) => {
      for (const { id, name } of container === reader ? [container] : [container, reader]) {
        const state = await inspectState(engine, id, name, signal).catch(() => undefined);
        signal.throwIfAborted();
        if (state === null) return new SystemFailure(`Somebody has removed ${name}`);
        if (state?.running === false) return new SystemFailure(`${name} has ended with status ${state.exitCode}`);
      }
      return null;
    },
  });
}

/** Resolves once the container has ended, or is gone: its script would be waited for as one that has nothing to say. */
async function untilEnded(
  engine: Engine,
  { id, name }: Pick<JobContainer, "id" | "name">,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const state = await inspectState(engine, id, name, signal).catch(() => undefined);
    signal.throwIfAborted();
    if (state === null || state?.running === false) return;
    try {
      const what = `wait for the end of ${name}`;
      await engine.call(what, (docker, abortSignal) => docker.getContainer(id).wait({ abortSignal }), signal, WAIT_MS);
    } catch {
      await pause(AGAIN_MS, signal);
    }
  }
}

/** A signal that fires with `signal`, or some time after the container has ended. @param over when nobody asks for it any more */
export function orEnded(
  engine: Engine,
  container: Pick<JobContainer, "id" | "name">,
  signal: AbortSignal,
  over: AbortSignal,
): AbortSignal {
  const ended = new AbortController();
  untilEnded(engine, container, over)
    .then(() => pause(LAST_OUTPUT_MS, over))
    .then(() => ended.abort(new SystemFailure(`${container.name} has ended`)))
    .catch(() => {});
  return AbortSignal.any([signal, ended.signal]);
}
