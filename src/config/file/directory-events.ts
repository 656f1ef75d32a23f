import { realpath } from "node:fs/promises";
import { dirname } from "node:path";
import { type FSWatcher, watch } from "chokidar";
import { pause } from "../../time.ts";

/** Something may have happened; says nothing of what. Rings that nobody waited for are kept, as one. */
export interface Alarm {
  readonly ring: () => void;
  /** True when it rang, false after `ms` or when `signal` fired. */
  wait(ms: number, signal: AbortSignal): Promise<boolean>;
  /** Let `ms` pass, or less when `signal` fires, and forget what rang meanwhile. */
  rest(ms: number, signal: AbortSignal): Promise<void>;
}

export function createAlarm(): Alarm {
  let rung = false;
  let wake: (() => void) | undefined;
  return {
    ring() {
      rung = true;
      wake?.();
    },
    async wait(ms, signal) {
      if (!rung && !signal.aborted) {
        await new Promise<void>((resolve) => {
          const done = (): void => {
            clearTimeout(timer);
            signal.removeEventListener("abort", done);
            wake = undefined;
            resolve();
          };
          const timer = setTimeout(done, ms);
          wake = done;
          signal.addEventListener("abort", done);
        });
      }
      const result = rung;
      rung = false;
      return result;
    },
    async rest(ms, signal) {
      await pause(ms, signal).catch(() => {});
      rung = false;
    },
  };
}

/** Rings for events in the directories of `path` and of what it links to. */
export interface DirectoryEvents {
  /** See where the path leads by now. Never rejects: without events there are still looks. */
  follow(): Promise<void>;
  close(): Promise<void>;
}

export function watchDirectories(path: string, ring: () => void): DirectoryEvents {
  let watcher: FSWatcher | undefined;
  let watched = new Set<string>();
  return {
    async follow() {
      const target = await realpath(path).catch(() => path);
      const wanted = new Set([dirname(path), dirname(target)]);
      const added = [...wanted].filter((dir) => !watched.has(dir));
      const gone = [...watched].filter((dir) => !wanted.has(dir));
      watched = wanted;
      try {
        if (watcher === undefined) {
          watcher = watch([], {
            depth: 0,
            followSymlinks: false,
            ignoreInitial: true,
            ignorePermissionErrors: true,
            atomic: false,
          });
          // No watches left, a directory that may not be listed: the looks go on.
          watcher.on("error", () => {});
          watcher.on("all", ring);
        }
        if (added.length > 0) watcher.add(added);
        if (gone.length > 0) watcher.unwatch(gone);
      } catch {
        // There is nothing to watch: the regular looks go on.
      }
    },
    async close() {
      await watcher?.close().catch(() => {});
    },
  };
}
