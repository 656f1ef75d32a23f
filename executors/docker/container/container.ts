import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import type { ContainerCreateOptions } from "dockerode";
import { z } from "zod";
import { ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import type { Notes } from "../../../src/executor/prepare.ts";
import { deadline } from "../../../src/time.ts";
import { passOn } from "../../common/notes.ts";
import { type Engine, EngineFailure, isGone } from "../engine/engine.ts";
import { createDemultiplexer } from "../engine/stream.ts";
import { createAnswerReader, type MainAnswer, type MainProgram, mainText } from "./main-program.ts";

export interface ContainerState {
  readonly running: boolean;
  readonly exitCode: number;
  readonly outOfMemory: boolean;
  readonly error: string;
}

/** A container that ended, or could not begin, before it ran the runner's program. */
export class NoShellFailure extends SystemFailure {}

const stateSchema = z.object({
  State: z.object({
    Running: z.boolean().default(false),
    ExitCode: z.number().default(0),
    OOMKilled: z.boolean().nullish(),
    Error: z.string().nullish(),
  }),
});

/** A container is created while its image is being unpacked, or a volume driver thinks: that takes its time. */
const CREATE_LIMIT_MS = 300_000;
/** After this the trace says what is being waited for. */
const QUIET_START_MS = 15_000;

/**
 * @param name completes "Cannot create …": `the build container`
 * @returns its id
 */
export async function createContainer(
  engine: Engine,
  name: string,
  body: ContainerCreateOptions,
  signal: AbortSignal,
): Promise<string> {
  const container = await engine
    .call(
      `create ${name}`,
      (docker, abortSignal) => docker.createContainer({ ...body, abortSignal }),
      signal,
      CREATE_LIMIT_MS,
    )
    .catch((error: unknown) => {
      throw refused(error);
    });
  return container.id;
}

const STREAMS = { stream: true, stdin: true, stdout: true, stderr: true };
/**
 * Podman hands the body of this request to the container's stdin, and the client sends none without one: it is a line of shell that
 * does nothing.
 */
const ATTACH = { ...STREAMS, hijack: true, _query: STREAMS, _body: true };

/** What the daemon takes for a wrong request was set by somebody: trying again does not help. */
function refused(error: unknown): unknown {
  if (!(error instanceof EngineFailure) || error.status !== 400) return error;
  return new SystemFailure(error.message, { reason: "runner_configuration_error", cause: error.cause });
}

/**
 * Start a created container and have its first process answer `program`. What it prints before that goes to `notes`.
 * @param name for messages: `the build container (image ruby:3)`
 * @throws {NoShellFailure} it ended before, or has no shell
 */
export async function startMain(
  engine: Engine,
  { id, name, program }: { id: string; name: string; program: MainProgram },
  notes: Notes,
  signal: AbortSignal,
): Promise<MainAnswer> {
  const marker = `alloy-runner-${randomBytes(16).toString("hex")}`;
  const attaching = engine.docker.getContainer(id).attach(ATTACH);
  let connection: Duplex;
  try {
    const stream = await engine.call(`attach to ${name}`, () => attaching, signal);
    if (!isDuplex(stream)) throw new SystemFailure(`Cannot attach to ${name}: the container engine keeps its stdin`);
    connection = stream;
  } catch (error) {
    attaching.then(
      (late) => isDuplex(late) && late.destroy(),
      () => {},
    );
    throw error;
  }
  try {
    connection.write(mainText(program, marker));
    const answered = readAnswer(connection, marker, notes, signal);
    answered.catch(() => {});
    await startContainer(engine, id, name, signal);
    using slow = deadline(signal, QUIET_START_MS, new Error("slow"));
    slow.signal.addEventListener("abort", () => {
      if (!signal.aborted) notes.print(`Still waiting for ${name} to start a shell: its ENTRYPOINT runs first`);
    });
    const answer = await answered;
    if (answer === null) throw await endedEarly(engine, id, name, signal);
    return answer;
  } finally {
    connection.destroy();
  }
}

function isDuplex(stream: unknown): stream is Duplex {
  return typeof stream === "object" && stream !== null && "write" in stream && "read" in stream;
}

/** @throws {NoShellFailure} there is no such program in the image */
export async function startContainer(engine: Engine, id: string, name: string, signal: AbortSignal): Promise<void> {
  try {
    await engine.call(
      `start ${name}`,
      (docker, abortSignal) => docker.getContainer(id).start({ abortSignal }),
      signal,
      CREATE_LIMIT_MS,
    );
  } catch (error) {
    if (!(error instanceof EngineFailure)) throw error;
    if (error.status === 304) return; // it runs already
    if (error.complaint === "no_program") {
      throw new NoShellFailure(error.message, { cause: error.cause, reason: "runner_configuration_error" });
    }
    throw refused(error);
  }
}

/** `null`: the container ended without an answer. */
async function readAnswer(
  connection: Duplex,
  marker: string,
  notes: Notes,
  signal: AbortSignal,
): Promise<MainAnswer | null> {
  const { promise, resolve, reject } = Promise.withResolvers<MainAnswer | null>();
  const reader = createAnswerReader(marker);
  const pass = (payload: Buffer): void => passOn(notes, payload);
  const frames = createDemultiplexer((channel, payload) => {
    if (channel === "stderr") pass(reader.answer === null ? payload : Buffer.alloc(0));
    else pass(reader.write(payload));
    if (reader.answer !== null) resolve(reader.answer);
  });
  const onData = (chunk: Buffer): void => {
    try {
      frames.write(chunk);
    } catch (error) {
      reject(error);
    }
  };
  const onEnd = (): void => resolve(null);
  const onAbort = (): void => reject(signal.reason);
  connection.on("error", onEnd).on("data", onData).on("end", onEnd).on("close", onEnd);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await promise;
  } finally {
    // The listener for errors stays: one may come while the connection is closed.
    connection.off("data", onData).off("end", onEnd).off("close", onEnd);
    signal.removeEventListener("abort", onAbort);
  }
}

async function endedEarly(engine: Engine, id: string, name: string, signal: AbortSignal): Promise<SystemFailure> {
  const state = await inspectState(engine, id, name, signal);
  if (state === null) return new SystemFailure(`${sentence(name)} was removed while it started`, { retry: true });
  if (state.running) return new SystemFailure(`The connection to ${name} was lost while it started`, { retry: true });
  const why = state.outOfMemory
    ? "it ran out of memory"
    : `its first process ended with status ${state.exitCode} instead of running a shell${state.error === "" ? "" : ` (${state.error})`}`;
  return new NoShellFailure(`Cannot run ${name}: ${why}`, { reason: "runner_configuration_error" });
}

function sentence(name: string): string {
  return name.slice(0, 1).toUpperCase() + name.slice(1);
}

/** `null`: there is no such container. */
export async function inspectState(
  engine: Engine,
  id: string,
  name: string,
  signal: AbortSignal,
): Promise<ContainerState | null> {
  let answer: unknown;
  try {
    answer = await engine.call(
      `look at ${name}`,
      (docker, abortSignal) => docker.getContainer(id).inspect({ abortSignal }),
      signal,
    );
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
  const found = stateSchema.safeParse(answer);
  if (!found.success) throw new SystemFailure(`Cannot look at ${name}: the container engine's answer has no state`);
  const { Running, ExitCode, OOMKilled, Error: error } = found.data.State;
  return { running: Running, exitCode: ExitCode, outOfMemory: OOMKilled === true, error: error ?? "" };
}

/** What the author can do about an image that cannot run scripts. */
export function explainNoShell(image: string, failure: NoShellFailure, entrypoint: boolean): ScriptFailure {
  const advice = entrypoint
    ? `Its ENTRYPOINT must start the command that it is given; set "entrypoint" of the job's image to [""] to leave it out`
    : "Jobs need an image with a POSIX shell (sh) on its PATH";
  return new ScriptFailure(`The image ${image} cannot run scripts: ${failure.message}. ${advice}`, { cause: failure });
}
