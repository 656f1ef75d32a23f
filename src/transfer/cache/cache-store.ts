import type { FileHandle } from "node:fs/promises";

/** Where caches are kept: a directory of this machine, or a bucket. */

/** How caches are packed: `CACHE_COMPRESSION_FORMAT`. */
export const cacheFormats = ["zip", "tarzstd"] as const;
export type CacheFormat = (typeof cacheFormats)[number];

/** One cache of one project. */
export interface CachePlace {
  /** `group/project`: clean, relative. */
  readonly projectPath: string;
  /** As the coordinator numbers it; empty where it did not say. */
  readonly projectId: string;
  /** Cleaned by `cleanKey`. */
  readonly key: string;
}

/** An archive that stays as it is until it is let go. An open file, as its name may mean another one by now. */
export interface StoredCache extends AsyncDisposable {
  readonly file: FileHandle;
  readonly bytes: number;
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

/** Told of bytes that have moved; `total` is what there is. */
export type OnBytes = (bytes: number, total: number) => void;

/** @throws {SystemFailure} from each: the store cannot be used, or not now (`retry`) */
export interface CacheStore {
  /** For sentences: `on this machine`, `in the bucket caches`. */
  readonly where: string;
  /** What archives are packed as unless the job says otherwise: what all who read there understand. */
  readonly format: CacheFormat;
  /** How often one `open` that may work later is asked for: more than once where there is a network in between. */
  readonly tries: number;
  /** What was put there last, as far as all of it arrived; `null`: nothing, or nothing that says so. */
  fingerprint(place: CachePlace, signal: AbortSignal): Promise<string | null>;
  /** One try. `null`: there is none. */
  open(place: CachePlace, onBytes: OnBytes, signal: AbortSignal): Promise<StoredCache | null>;
  /** Take the place of what is there: all of it or, on any failure, nothing. The last of two at once wins. */
  put(place: CachePlace, cache: NewCache, onBytes: OnBytes, signal: AbortSignal): Promise<{ readonly bytes: number }>;
}
