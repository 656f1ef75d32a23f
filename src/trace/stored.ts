import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import type { ShownTrace } from "../board/contract.ts";
import type { StoredTrace } from "../coordinator/contract.ts";
import { SystemFailure } from "../errors.ts";

const BLOCK_BYTES = 256 * 1024;

/**
 * The first `size` bytes of a spool file, read from disk each time. Reading fails with a SystemFailure when the file is gone or
 * shorter: a trace is never cut in silence.
 */
export function storedTrace(path: string, size: number): StoredTrace {
  return { size, open: (signal) => blocks(path, size, signal) };
}

/** The same for whoever looks at it while its delivery waits: nothing stays open in between. */
export function shownTrace(path: string, size: number): ShownTrace {
  return {
    size,
    ended: true,
    async read(from, maxBytes) {
      const file = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0));
      try {
        const block = Buffer.allocUnsafe(Math.max(0, Math.min(maxBytes, size - from)));
        const { bytesRead } = await file.read(block, 0, block.length, from);
        return block.subarray(0, bytesRead);
      } finally {
        await file.close();
      }
    },
  };
}

async function* blocks(path: string, size: number, signal: AbortSignal): AsyncGenerator<Buffer> {
  signal.throwIfAborted();
  if (size === 0) return;
  const unreadable = (cause: unknown): never => {
    throw new SystemFailure(`Cannot read the trace in "${path}"`, { cause });
  };
  const file: FileHandle = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0)).catch(unreadable);
  try {
    const block = Buffer.allocUnsafeSlow(Math.min(BLOCK_BYTES, size));
    for (let at = 0; at < size; ) {
      const { bytesRead } = await file.read(block, 0, Math.min(block.length, size - at), at).catch(unreadable);
      signal.throwIfAborted();
      if (bytesRead === 0) unreadable(new Error(`it has ${at} of ${size} bytes`));
      at += bytesRead;
      yield block.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}
