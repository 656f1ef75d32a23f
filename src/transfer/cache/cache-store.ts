import type { FileHandle } from "node:fs/promises";

/** Where caches are kept: a directory of this machine, or a bucket. */

/** How caches are packed: `CACHE_COMPRESSION_FORMAT`. */
export const cacheFormats = ["zip", "tarzstd"] as const;
export type CacheFormat = (typeof cacheFormats)[number];

/** One cache of one project. */
export interface CachePlace {
  /** `group/project`: clean, relative. */
  readonly projectPath: string;
  /** The coordinator's number of the project; empty if it did not say. */
  readonly projectId: string;
  /** Cleaned by `cleanKey`. */
  readonly key: string;
  /** As people know it, where `key` is a hash of it. */
  readonly shownKey?: string;
}

/**
 * An archive that stays as it is until it is disposed of. It is an open file, because its name may mean another archive
 * by now.
 */
export interface StoredCache extends AsyncDisposable {
  readonly file: FileHandle;
  readonly bytes: number;
  /** No other archive has the same, nor has this one after any change; `null`: that is not known. */
  readonly version: string | null;
}

/**
 * Called again and again while an archive is written: the store gives up what it can do without, so that the disk has these bytes
 * beside what must stay free. @throws {SystemFailure} the archive has become larger than any may be
 */
export type MakeRoom = (bytes: number) => Promise<void>;

export interface NewCache {
  /** `.zip`, `.tar.zst`. */
  readonly extension: string;
  /**
   * Writes the archive as this file, which does not exist yet.
   * @returns what stands for the files in it: the same text, the same files
   */
  readonly write: (path: string, signal: AbortSignal, makeRoom: MakeRoom) => Promise<string>;
}

/** Called with the number of bytes that have moved; `total` is the size of all. */
export type OnBytes = (bytes: number, total: number) => void;

/** @throws {SystemFailure} from each: the store cannot be used, or not now (`retry`) */
export interface CacheStore {
  /** Says in sentences where caches are: `on this machine`, `in the bucket caches`. */
  readonly where: string;
  /** The format of archives if the job does not choose one: all who read from the store understand it. */
  readonly format: CacheFormat;
  /** How often an `open` that may work later is tried: more than once where a network lies in between. */
  readonly tries: number;
  /** What the complete archive was made of; `null`: there is none, or it does not say. */
  fingerprint(place: CachePlace, signal: AbortSignal): Promise<string | null>;
  /** Of what `open` would give now, without moving it; `null`: there is none, or it is not known. */
  version(place: CachePlace, signal: AbortSignal): Promise<string | null>;
  /** Makes one try. `null`: there is no such cache. */
  open(place: CachePlace, onBytes: OnBytes, signal: AbortSignal): Promise<StoredCache | null>;
  /** Replaces what is there: completely or, on any failure, not at all. The last of two at once wins. */
  put(place: CachePlace, cache: NewCache, onBytes: OnBytes, signal: AbortSignal): Promise<{ readonly bytes: number }>;
}
