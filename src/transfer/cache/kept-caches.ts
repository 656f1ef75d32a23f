import { describeError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import type { FileKeeping, KeptFiles, UnpackReport, WorkspaceFiles } from "../../workspace.ts";
import { placeOf } from "./cache-keys.ts";
import type { CachePlace } from "./cache-store.ts";

/**
 * Restored caches that still lie in working copies, so that a job of the same cache need not unpack it again. What is known of
 * them is in the memory of this process alone: no job can write there, and after a restart each cache is unpacked once more.
 */
export interface KeptCaches {
  /** Before a working copy is cleaned: those of these caches that are in it wait elsewhere. */
  setAside(caches: readonly Keyed[], files: WorkspaceFiles, signal: AbortSignal): Promise<void>;
  /** @returns what is back, exactly as it was unpacked from this version of the cache; `null`: nothing */
  putBack(cache: Wanted, files: WorkspaceFiles, signal: AbortSignal): Promise<Size | null>;
  /** What was unpacked just now, before anything of the job runs. */
  remember(cache: Version, report: UnpackReport, files: WorkspaceFiles, signal: AbortSignal): Promise<void>;
  /** Removes what was set aside and has not been put back. */
  dropRest(caches: readonly Keyed[], files: WorkspaceFiles, signal: AbortSignal): Promise<void>;
}

/** A cache by all of its keys. */
interface Keyed extends CachePlace {
  readonly fallbacks: readonly string[];
  readonly hashed?: true;
}

interface Version {
  readonly place: CachePlace;
  /** Of its archive; `null`: not known. */
  readonly version: string | null;
}

interface Wanted {
  readonly place: CachePlace;
  /** Asked for only where the cache is kept. */
  version(): Promise<string | null>;
}

type Size = Pick<UnpackReport, "entries" | "bytes">;

interface Kept extends Size {
  readonly version: string;
  readonly files: KeptFiles;
}

/** What is remembered of one has some kilobytes at most. */
const MOST_KEPT = 500;

export function createKeptCaches({ log }: { readonly log: Pick<Log, "warn"> }): KeptCaches {
  const kept = new Map<string, Kept>();
  const nameOf = ({ place }: FileKeeping, { projectPath, projectId, key }: CachePlace): string =>
    JSON.stringify([place, projectPath, projectId, key]);
  const take = (name: string): Kept | undefined => {
    const its = kept.get(name);
    kept.delete(name);
    return its;
  };
  const put = (name: string, its: Kept): void => {
    kept.set(name, its);
    const [oldest] = kept.keys();
    if (kept.size > MOST_KEPT && oldest !== undefined) kept.delete(oldest);
  };
  /** A cache that is not kept is unpacked: that is no job's failure. */
  const orNothing = async <T>(work: Promise<T>, signal: AbortSignal): Promise<T | null> =>
    await work.catch((error: unknown) => {
      signal.throwIfAborted();
      log.warn("files of a cache could not be kept for the next job", { problem: describeError(error) });
      return null;
    });

  return {
    async setAside(caches, { keeping }, signal) {
      if (keeping === undefined) return;
      for (const place of placesOf(caches)) {
        const name = nameOf(keeping, place);
        const its = take(name);
        // What an earlier job had set aside went with it.
        const files = its?.files.aside === null ? await orNothing(keeping.setAside(its.files, signal), signal) : null;
        if (its !== undefined && files !== null) put(name, { ...its, files });
      }
    },
    async putBack({ place, version }, { keeping }, signal) {
      if (keeping === undefined) return null;
      const name = nameOf(keeping, place);
      const its = take(name);
      if (its === undefined || its.files.aside === null) return null;
      if ((await orNothing(version(), signal)) !== its.version) {
        await orNothing(keeping.drop(its.files, signal), signal);
        return null;
      }
      const files = await orNothing(keeping.putBack(its.files, signal), signal);
      if (files === null) return null;
      put(name, { ...its, files });
      return its;
    },
    async remember({ place, version }, report, { keeping }, signal) {
      const { entries, bytes, placed, warnings } = report;
      if (keeping === undefined || version === null || placed === undefined || warnings.length > 0) return;
      const files = await orNothing(keeping.record(report, signal), signal);
      if (files !== null) put(nameOf(keeping, place), { version, files, entries, bytes });
    },
    async dropRest(caches, { keeping }, signal) {
      if (keeping === undefined) return;
      for (const place of placesOf(caches)) {
        const name = nameOf(keeping, place);
        const its = (kept.get(name)?.files.aside ?? null) === null ? undefined : take(name);
        if (its !== undefined) await orNothing(keeping.drop(its.files, signal), signal);
      }
    },
  };
}

function placesOf(caches: readonly Keyed[]): CachePlace[] {
  return caches.flatMap((cache) => [cache.key, ...cache.fallbacks].map((key) => placeOf(cache, key)));
}
