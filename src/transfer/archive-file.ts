import { type FileHandle, open, rm, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { SystemFailure } from "../errors.ts";

/** A file that is written from its beginning on, by pieces that may still be in the making. */
export interface ArchiveFile {
  /** Bytes written once all queued work is done. It is right only inside of queued work. */
  readonly position: number;
  /** Does `work` after all work queued before it. Resolves as soon as there is room for more work of this weight. */
  queue(weight: number, work: () => Promise<void>): Promise<void>;
  /** The caller may use the buffer again once this resolves. */
  append(bytes: Uint8Array): Promise<void>;
  /** Changes bytes that were written. */
  patch(bytes: Uint8Array, at: number): Promise<void>;
  /**
   * Waits until all work is done and written.
   * @returns the size
   */
  finish(): Promise<number>;
  /** Closes the file, and removes it if it is not finished. */
  close(): Promise<void>;
}

const MOST_WEIGHT = 8 * 1024 * 1024;
/** Smaller pieces are gathered and written together. */
const LARGE_BYTES = 64 * 1024;
const GATHERED_BYTES = 256 * 1024;
/** The free space of the disk is checked again after this many bytes. */
const LOOK_BYTES = 64 * 1024 * 1024;

/**
 * @param minFreeBytes what the disk must still have free
 * @param mostWeight work under way holds at most this many bytes, and one piece of it may be larger
 */
export async function createArchiveFile(
  path: string,
  minFreeBytes: number,
  mostWeight = MOST_WEIGHT,
): Promise<ArchiveFile> {
  const fail = (cause: unknown): never => {
    throw cause instanceof SystemFailure ? cause : new SystemFailure(`Cannot write ${path}`, { cause });
  };
  const file: FileHandle = await open(path, "wx", 0o600).catch(fail);
  let [position, written, looked] = [0, 0, Number.NEGATIVE_INFINITY];
  let [weight, finished] = [0, false];
  const gathered = Buffer.allocUnsafeSlow(GATHERED_BYTES);
  let used = 0;
  let chain = Promise.resolve();
  let failure: { readonly error: unknown } | undefined;
  const waiting = new Set<() => void>();

  const room = async (): Promise<void> => {
    if (minFreeBytes <= 0 || written - looked < LOOK_BYTES) return;
    looked = written;
    const { bavail, bsize } = await statfs(dirname(path));
    if (bavail * bsize >= minFreeBytes) return;
    throw new SystemFailure(
      `Cannot write ${path}: the disk has ${bavail * bsize} bytes free, and ${minFreeBytes} must stay free (min_free_disk)`,
    );
  };
  const writeAt = async (bytes: Uint8Array, at: number): Promise<void> => {
    for (let done = 0; done < bytes.length; ) {
      done += (await file.write(bytes, done, bytes.length - done, at + done).catch(fail)).bytesWritten;
    }
  };
  const flush = async (): Promise<void> => {
    const bytes = gathered.subarray(0, used);
    used = 0;
    if (bytes.length > 0) await write(bytes);
  };
  const write = async (bytes: Uint8Array): Promise<void> => {
    await room();
    await writeAt(bytes, written);
    written += bytes.length;
  };

  return {
    get position() {
      return position;
    },
    async queue(its, work) {
      weight += its;
      chain = chain
        .then(async () => {
          if (failure === undefined) await work();
        })
        .catch((error: unknown) => {
          failure ??= { error };
        })
        .finally(() => {
          weight -= its;
          for (const wake of waiting) wake();
          waiting.clear();
        });
      while (weight > mostWeight) await new Promise<void>((resolve) => waiting.add(resolve));
      if (failure !== undefined) throw failure.error;
    },
    async append(bytes) {
      position += bytes.length;
      if (used + bytes.length > GATHERED_BYTES || bytes.length >= LARGE_BYTES) await flush();
      if (bytes.length >= LARGE_BYTES) {
        await write(bytes);
        return;
      }
      gathered.set(bytes, used);
      used += bytes.length;
    },
    async patch(bytes, at) {
      await flush();
      await writeAt(bytes, at);
    },
    async finish() {
      await chain;
      if (failure !== undefined) throw failure.error;
      await flush();
      finished = true;
      return position;
    },
    async close() {
      await chain;
      await file.close().catch(() => {});
      if (!finished) await rm(path, { force: true });
    },
  };
}
