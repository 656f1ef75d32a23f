import { posix } from "node:path";
import type { Readable } from "node:stream";
import { describeError, ScriptFailure, SystemFailure } from "../../../src/errors.ts";
import { readTar } from "../../../src/files/tar.ts";
import { deadline } from "../../../src/time.ts";
import { type Engine, isGone } from "../engine/engine.ts";

/**
 * Files of a container, read through the engine's archive call: nothing of the image is run for that, and the container need
 * not run. The engine keeps links on the way inside of the container; the last part of a path is followed here.
 */

/** Longest way over links. */
const MOST_LINKS = 10;
/** The engine lets nobody touch the container while it sends an archive. */
const LIMIT_MS = 30_000;

interface ContainerFile {
  readonly container: string;
  /** Absolute. */
  readonly path: string;
  readonly mostBytes: number;
}

/**
 * @returns `null`: there is no such file, or it is none
 * @throws {ScriptFailure} it is larger than `mostBytes`
 * @throws {SystemFailure} it cannot be read
 */
export async function readContainerFile(
  engine: Engine,
  { container, path, mostBytes }: ContainerFile,
  signal: AbortSignal,
): Promise<Buffer | null> {
  let at = posix.resolve("/", path);
  for (let links = 0; links <= MOST_LINKS; links++) {
    const [first] = (await readEntries(engine, { container, path: at, mostBytes }, signal)) ?? [];
    if (first === undefined) return null;
    if (first.target === null) return first.content;
    at = posix.resolve(posix.dirname(at), first.target);
  }
  return null;
}

/**
 * The files in a directory, those in its directories too, by their paths below it.
 * @returns `null`: there is no such directory
 * @throws {ScriptFailure} they are larger than `mostBytes` together
 * @throws {SystemFailure} they cannot be read
 */
export async function readContainerDirectory(
  engine: Engine,
  file: ContainerFile,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Buffer> | null> {
  const entries = await readEntries(engine, { ...file, path: `${posix.resolve("/", file.path)}/.` }, signal);
  if (entries === null) return null;
  const name = posix.basename(file.path);
  return new Map(
    entries.flatMap((entry) =>
      entry.content === null ? [] : [[belowTop(posix.normalize(entry.name), name), entry.content] as const],
    ),
  );
}

/** Engines differ in whether names begin with the directory's own. */
function belowTop(name: string, top: string): string {
  return name.startsWith(`${top}/`) ? name.slice(top.length + 1) : name;
}

interface Entry {
  readonly name: string;
  /** `null`: no regular file. */
  readonly content: Buffer | null;
  /** Of a symlink. */
  readonly target: string | null;
}

async function readEntries(
  engine: Engine,
  { container, path, mostBytes }: ContainerFile,
  signal: AbortSignal,
): Promise<Entry[] | null> {
  const what = `read ${path} of a container`;
  using limit = deadline(signal, LIMIT_MS, new SystemFailure(`Cannot ${what} within ${LIMIT_MS / 1000} s`));
  let stream: Readable;
  try {
    const answer = await engine.call(
      what,
      (docker, abortSignal) => docker.getContainer(container).getArchive({ path, abortSignal }),
      limit.signal,
    );
    if (!isReadable(answer)) throw new SystemFailure(`Cannot ${what}: the container engine sends no archive`);
    stream = answer;
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
  const found: Entry[] = [];
  let bytes = 0;
  try {
    for await (const item of readTar(stream)) {
      bytes += item.size + BYTES_OF_AN_ENTRY;
      // Whoever chose the image is to hear it, and nobody else: the place of other jobs is in order.
      if (bytes > mostBytes) throw new ScriptFailure(`Cannot ${what}: it has more than ${mostBytes} bytes`);
      found.push({
        name: item.name,
        content: item.kind === "file" ? await item.body.take(item.size) : null,
        target: item.kind === "symlink" ? item.target : null,
      });
    }
  } catch (error) {
    limit.signal.throwIfAborted();
    if (error instanceof SystemFailure || error instanceof ScriptFailure) throw error;
    throw new SystemFailure(`Cannot ${what}: ${describeError(error)}`, { cause: error, retry: true });
  } finally {
    stream.destroy();
  }
  return found;
}

/** What each takes, so that many empty ones are bounded, too. */
const BYTES_OF_AN_ENTRY = 512;

function isReadable(answer: unknown): answer is Readable {
  return typeof answer === "object" && answer !== null && Symbol.asyncIterator in answer && "destroy" in answer;
}
