import { Readable } from "node:stream";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import { readTar, type TarItem } from "../../../src/files/tar.ts";
import { type Engine, isGone } from "../engine/engine.ts";

export interface OpenArchive {
  readonly content: Readable;
  readonly bytes: number;
  close(): void;
}

/**
 * A file in a container that need not run, as the engine sends it.
 * @returns `null`: nothing is there, or what is there is no file
 * @throws {SystemFailure} the engine does not give it
 */
export async function openArchive(
  engine: Engine,
  { container, path }: { readonly container: string; readonly path: string },
  signal: AbortSignal,
): Promise<OpenArchive | null> {
  const what = `read ${path} of a container`;
  let stream: NodeJS.ReadableStream;
  try {
    stream = await engine.call(
      what,
      (docker, abortSignal) => docker.getContainer(container).getArchive({ path, abortSignal }),
      signal,
    );
  } catch (error) {
    if (isGone(error)) return null;
    throw error;
  }
  if (!(stream instanceof Readable)) throw new SystemFailure(`Cannot ${what}: the container engine sends no archive`);
  let item: TarItem | undefined;
  try {
    ({ value: item } = await readTar(stream).next());
  } catch (error) {
    stream.destroy();
    throw new SystemFailure(`Cannot ${what}: ${describeError(error)}`, { cause: error });
  }
  // A job could have put a link there.
  if (item === undefined || item.kind !== "file" || item.size === 0) {
    stream.destroy();
    return null;
  }
  return {
    content: Readable.from(bodyOf(item), { objectMode: false }),
    bytes: item.size,
    close: () => void stream.destroy(),
  };
}

const PIECE_BYTES = 256 * 1024;

async function* bodyOf({ body, size }: TarItem): AsyncGenerator<Buffer> {
  for (let left = size; left > 0; ) {
    const piece = await body.some(Math.min(left, PIECE_BYTES));
    left -= piece.length;
    yield piece;
  }
}
