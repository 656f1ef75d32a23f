import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { describeError, SystemFailure } from "../errors.ts";
import { crc32 } from "./crc32.ts";
import { characterBoundary, soundLength } from "./mask/utf8.ts";

const BLOCK_BYTES = 64 * 1024;
/** Written at a time at most; also what memory a spool needs when its disk is slower than its job. */
const BATCH_BLOCKS = 4;
/** Cut from the end when the disk is full, so that the runner can still say why the job ends. */
const LAST_WORDS_BYTES = 8 * 1024;
/** How often a growing spool is looked at: a deleted file takes writes without a word. */
const CHECK_MS = 1000;
/** So much is left to the system's own time before it is put on disk: a large trace is then not synced all at its end. */
const SYNC_BEHIND_BYTES = 16 * 1024 * 1024;

/** A trace on its way to disk: appended in memory, written behind, readable while it grows. */
export interface Spool {
  /** Bytes on disk. */
  readonly size: number;
  /** Where the next byte goes: after those on disk, and those on their way there. */
  readonly end: number;
  /** CRC-32 of these. */
  readonly crc32: number;
  /** The last byte, or `undefined` while there is none. */
  readonly lastByte: number | undefined;
  /** Fires with a SystemFailure when the file cannot be written any more. Output is dropped from then on. */
  readonly broken: AbortSignal;
  /** Takes a copy of `bytes`, which end with a whole character. `lastWords` are also tried on a spool that is broken. */
  append(bytes: Uint8Array, lastWords?: boolean): void;
  /** There is so much in memory that whoever writes should `await room()` first. */
  readonly crowded: boolean;
  /** When the disk has caught up, or the spool is broken. */
  room(): Promise<void>;
  /** When all that was appended before is on disk, or the spool is broken. */
  written(): Promise<void>;
  /** Bytes `[from, from + maxBytes)` of those on disk, in `into` where they fit. @throws {SystemFailure} */
  read(from: number, maxBytes: number, into?: Buffer): Promise<Buffer>;
  /** Told after each growth. */
  onGrowth(listener: () => void): void;
  close(): Promise<void>;
}

/**
 * Opens or continues `path` (0600, never through a link). Of an existing file the sound text is kept: what a crash left
 * behind it (half a character, zeros) is cut off.
 * @throws {SystemFailure} naming the path
 */
export async function openSpool(path: string): Promise<Spool> {
  const flags = constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0);
  const file = await open(path, flags, 0o600).catch((cause: unknown) => {
    throw spoolFailure(path, cause);
  });
  try {
    return createSpool(path, file, await inspect(file));
  } catch (cause) {
    await file.close();
    throw spoolFailure(path, cause);
  }
}

interface Existing {
  readonly size: number;
  readonly crc: number;
  readonly lastByte: number | undefined;
}

async function inspect(file: FileHandle): Promise<Existing> {
  const info = await file.stat();
  if (!info.isFile()) throw new Error("it is not a regular file");
  const block = Buffer.allocUnsafe(Math.min(info.size, 1024 * 1024));
  let size = 0;
  let crc = 0;
  let lastByte: number | undefined;
  while (size < info.size) {
    const { bytesRead } = await file.read(block, 0, block.length, size);
    const sound = soundLength(block.subarray(0, bytesRead));
    if (sound === 0) break;
    crc = crc32(block.subarray(0, sound), crc);
    lastByte = block[sound - 1];
    size += sound;
  }
  if (size < info.size) await file.truncate(size);
  return { size, crc, lastByte };
}

function spoolFailure(path: string, cause: unknown): SystemFailure {
  return new SystemFailure(
    `Cannot keep the trace in "${path}": ${describeError(cause)}; see that its directory is there, writable and not full, or choose another state_dir`,
    { cause },
  );
}

interface Block {
  readonly bytes: Buffer;
  used: number;
}

function createSpool(path: string, file: FileHandle, existing: Existing): Spool {
  let { size, crc, lastByte } = existing;
  const broken = new AbortController();
  const listeners: (() => void)[] = [];
  /** Bytes that were taken, and of these the ones that are written or given up. */
  let taken = 0;
  let settled = 0;
  let waiters: { ready: () => boolean; resolve: () => void }[] = [];
  let writing: Promise<void> | undefined;
  let checkedAt = performance.now();
  let closed = false;
  let syncedSize = size;
  let syncing: Promise<void> | undefined;

  /** Filled blocks, and the one that is being filled, in order. */
  let queue: Block[] = [];
  let spare: Buffer[] = [];
  /** What was written last, still in memory: whoever reads right behind needs no disk. */
  let recent: { from: number; bytes: Buffer } = { from: size, bytes: Buffer.alloc(0) };
  /** The memory that `recent` lies in. */
  let recentBlock: Buffer | undefined;

  function append(bytes: Uint8Array, lastWords = false): void {
    if (closed || bytes.length === 0 || (broken.signal.aborted && !lastWords)) return;
    for (let at = 0; at < bytes.length; ) {
      const block = roomyBlock();
      // No character across two blocks: they may reach the disk, and readers, one after the other.
      const rest = bytes.subarray(at);
      const piece = rest.subarray(0, characterBoundary(rest, block.bytes.length - block.used));
      block.bytes.set(piece, block.used);
      block.used += piece.length;
      taken += piece.length;
      at += piece.length;
    }
    writing ??= drain();
  }

  function roomyBlock(): Block {
    const last = queue.at(-1);
    if (last !== undefined && last.used + 4 <= last.bytes.length) return last;
    const block = { bytes: spare.pop() ?? Buffer.allocUnsafeSlow(BLOCK_BYTES), used: 0 };
    queue.push(block);
    return block;
  }

  async function drain(): Promise<void> {
    // Let the caller's own turn gather: many small appends are one write.
    await Promise.resolve();
    while (queue.length > 0) {
      const batch = queue.splice(0, BATCH_BLOCKS);
      const written = await write(batch.map((block) => block.bytes.subarray(0, block.used)));
      if (written.length > 0) grow(written);
      if (size - syncedSize >= SYNC_BEHIND_BYTES) syncing ??= syncBehind();
      settled = batch.reduce((sum, block) => sum + block.used, settled);
      spare = batch.map((block) => block.bytes);
      // The last block stays readable as `recent`; the one that was so before is free. Readers have copies.
      const last = written.length > 0 ? spare.pop() : undefined;
      if (last !== undefined && recentBlock !== undefined) spare.push(recentBlock);
      recentBlock = last ?? recentBlock;
      wake();
    }
    writing = undefined;
  }

  /** Beside the writing; what is written after it is synced at the job's end. The system tells of a failure only once. */
  async function syncBehind(): Promise<void> {
    syncedSize = size;
    await file.datasync().catch(breakWith);
    syncing = undefined;
  }

  /** @returns what of `views` is on disk now, cut at a character */
  async function write(views: Buffer[]): Promise<Buffer[]> {
    let done = 0;
    let rest = views;
    try {
      await checkDeleted();
      while (rest.length > 0) {
        const { bytesWritten } = await file.writev(rest, size + done);
        if (bytesWritten === 0) throw new Error("the file takes no more bytes");
        done += bytesWritten;
        rest = skip(rest, bytesWritten);
      }
      return views;
    } catch (cause) {
      const kept = await shrink(Buffer.concat(views), done);
      breakWith(cause);
      return kept.length === 0 ? [] : [kept];
    }
  }

  async function checkDeleted(): Promise<void> {
    const now = performance.now();
    if (now - checkedAt < CHECK_MS || broken.signal.aborted) return;
    checkedAt = now;
    if ((await file.stat()).nlink === 0) throw new Error("the file was deleted while the job was running");
  }

  /** After a failed write of which `done` bytes arrived: keeps whole characters, with room left for last words. */
  async function shrink(bytes: Buffer, done: number): Promise<Buffer> {
    const wanted = broken.signal.aborted ? 0 : done - LAST_WORDS_BYTES;
    const kept = bytes.subarray(0, characterBoundary(bytes, wanted));
    try {
      await file.truncate(size + kept.length);
      return kept;
    } catch {
      return kept; // `size` holds all the same: nobody reads beyond it
    }
  }

  function breakWith(cause: unknown): void {
    settled = queue.reduce((sum, block) => sum + block.used, settled);
    queue = [];
    if (!broken.signal.aborted) broken.abort(spoolFailure(path, cause));
  }

  function grow(views: readonly Buffer[]): void {
    for (const view of views) {
      crc = crc32(view, crc);
      recent = { from: size, bytes: view };
      size += view.length;
      lastByte = view.at(-1) ?? lastByte;
    }
    for (const listener of listeners) listener();
  }

  function wake(): void {
    for (const { ready, resolve } of waiters) if (ready()) resolve();
    waiters = waiters.filter(({ ready }) => !ready());
  }

  function waitFor(ready: () => boolean): Promise<void> {
    return ready() ? Promise.resolve() : new Promise((resolve) => waiters.push({ ready, resolve }));
  }

  async function read(from: number, maxBytes: number, into?: Buffer): Promise<Buffer> {
    const length = Math.max(0, Math.min(maxBytes, size - from));
    if (length > 0 && from >= recent.from) {
      return Buffer.from(recent.bytes.subarray(from - recent.from, from - recent.from + length));
    }
    const fits = into !== undefined && into.length >= length;
    const bytes = fits ? into.subarray(0, length) : Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const { bytesRead } = await file.read(bytes, done, length - done, from + done).catch((cause: unknown) => {
        throw new SystemFailure(`Cannot read the trace in "${path}"`, { cause, retry: true });
      });
      if (bytesRead === 0) throw new SystemFailure(`Cannot read the trace in "${path}": it is shorter than it was`);
      done += bytesRead;
    }
    return bytes;
  }

  return {
    get size() {
      return size;
    },
    get end() {
      return existing.size + taken;
    },
    get crc32() {
      return crc;
    },
    get lastByte() {
      return lastByte;
    },
    broken: broken.signal,
    append,
    get crowded() {
      return queue.length >= BATCH_BLOCKS;
    },
    room: () => waitFor(() => queue.length < BATCH_BLOCKS),
    written() {
      const target = taken;
      return waitFor(() => settled >= target);
    },
    read,
    onGrowth(listener) {
      listeners.push(listener);
    },
    async close() {
      if (closed) return;
      closed = true;
      await writing;
      await syncing;
      await file.close();
    },
  };
}

/** `views` without their first `count` bytes. */
function skip(views: readonly Buffer[], count: number): Buffer[] {
  const rest: Buffer[] = [];
  let left = count;
  for (const view of views) {
    if (left >= view.length) left -= view.length;
    else {
      rest.push(view.subarray(left));
      left = 0;
    }
  }
  return rest;
}
