import { describeError, ScriptFailure, SystemFailure } from "../../errors.ts";
import { deadline, retry } from "../../time.ts";
import { createProgress, formatBytes } from "../progress.ts";
import { selectFiles } from "../select-files.ts";
import type { CacheTransfer, Transfer, TransferContext } from "../transfer.ts";
import { packCache, unpackCache } from "./cache-archive.ts";
import { restoreFormer } from "./cache-former.ts";
import { placeOf } from "./cache-keys.ts";
import type { CacheStore } from "./cache-store.ts";

/** Restoring and saving caches. Whatever goes wrong is a warning, in bounded time: no job depends on a cache. */

type Restore = Extract<Transfer, { what: "restore_cache" }>;
type Archive = Extract<Transfer, { what: "archive_cache" }>;

/** More warnings than this say nothing new. */
const MOST_WARNINGS = 20;

/** Restores caches one after the other, as they may hold the same files. Rejects with `signal.reason` only. */
export async function restoreCaches(
  { caches, attempts, timeoutMs }: Restore,
  context: TransferContext,
  signal: AbortSignal,
): Promise<void> {
  await eachCache({ caches, timeoutMs, done: "restored" }, context, signal, async (cache, store, limit) => {
    /**
     * The job's number of attempts counts for any failure, the store's for failures that may pass; the larger one
     * holds.
     */
    const most = (error: unknown): number =>
      error instanceof SystemFailure && error.retry ? Math.max(attempts, store.tries) : attempts;
    context.trace.print(`Checking cache for ${cache.key} ${store.where}...`);
    await retry(
      {
        attempts: most,
        firstMs: context.retryPauseMs,
        onRetry: (error, attempt) =>
          context.trace.print(`Attempt ${attempt} of ${most(error)} failed: ${describeError(error)}`, "warning"),
        retryable: (error) => error instanceof SystemFailure,
      },
      () => restore(cache, store, context, limit),
      limit,
    );
  });
  await context.keptCaches.dropRest(caches, context.files, signal);
}

async function restore(
  cache: CacheTransfer,
  store: CacheStore,
  context: TransferContext,
  signal: AbortSignal,
): Promise<void> {
  const { files, keptCaches } = context;
  const { print } = context.trace;
  for (const key of [cache.key, ...cache.fallbacks]) {
    const place = placeOf(cache, key);
    const kept = { place, version: () => store.version(place, signal) };
    const back = await keptCaches.putBack(kept, files, signal);
    if (back !== null) {
      const size = `${back.entries} entries, ${formatBytes(back.bytes)}`;
      print(`Successfully restored cache ${key}: ${size}, which are still as they were unpacked`, "notice");
      return;
    }
    await using stored = await store.open(place, createProgress("Downloading the cache", print), signal);
    if (stored === null) continue;
    try {
      const report = await unpackCache(stored.file, stored.bytes, context, signal);
      tell(report.warnings, context);
      await keptCaches.remember({ place, version: stored.version }, report, files, signal);
      print(`Successfully restored cache ${key}: ${report.entries} entries, ${formatBytes(report.bytes)}`, "notice");
      return;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof ScriptFailure)) throw error;
      print(`The cache ${key} cannot be used: ${error.message}`, "warning");
    }
  }
  if (await restoreOfOthers(cache, context, signal)) return;
  const others = cache.fallbacks.length === 0 ? "" : `, nor for ${cache.fallbacks.join(", ")}`;
  print(`There is no cache for ${cache.key} yet${others}`);
}

/** What another runner has left is tried once, after all else, and nothing that comes of it is a failure. */
async function restoreOfOthers(cache: CacheTransfer, context: TransferContext, signal: AbortSignal): Promise<boolean> {
  if (context.formerCache === undefined) return false;
  const { print } = context.trace;
  for (const key of [cache.key, ...cache.fallbacks]) {
    try {
      const former = await restoreFormer({ ...placeOf(cache, key), key }, context, signal);
      if (former === null) continue;
      const { report, from } = former;
      tell(report.warnings, context);
      const size = `${report.entries} entries, ${formatBytes(report.bytes)}`;
      print(`Successfully restored cache ${key}: ${size}, which ${from} has left`, "notice");
      return true;
    } catch (error) {
      signal.throwIfAborted();
      print(`The cache ${key} that another runner has left cannot be used: ${describeError(error)}`, "warning");
    }
  }
  return false;
}

/** Rejects with `signal.reason` only. */
export async function archiveCaches(
  { caches, format, level, timeoutMs }: Archive,
  context: TransferContext,
  signal: AbortSignal,
): Promise<void> {
  await eachCache({ caches, timeoutMs, done: "saved" }, context, signal, async (cache, store, limit) => {
    const { trace, files, minFreeBytes } = context;
    const { key, paths, untracked } = cache;
    const place = placeOf(cache, key);
    trace.print(`Saving cache ${key} ${store.where}...`);
    const list = await selectFiles(files, { globs: paths, exclude: [], untracked }, limit);
    for (const note of list.notes) trace.print(note);
    tell(list.warnings, context);
    if (list.paths.length === 0) {
      trace.print(`Nothing to save in cache ${key}; what was there stays`, "warning");
      return;
    }
    // The files are as they were unpacked: a file that was written since has a time with a fraction, even within the
    // same second.
    if ((await store.fingerprint(place, limit)) === list.fingerprint) {
      trace.print(`The cache ${key} is up to date`);
      return;
    }
    const chosen = format ?? store.format;
    const { bytes } = await store.put(
      place,
      {
        extension: chosen === "zip" ? ".zip" : ".tar.zst",
        write: async (path, stop, makeRoom) => {
          const packed = await files.pack(list.paths, stop);
          const onBytes = createProgress("Packing the cache", trace.print);
          const options = { format: chosen, level, minFreeBytes: minFreeBytes(), totalBytes: list.bytes, onBytes };
          await packCache(packed.tar, path, { ...options, makeRoom }, stop);
          tell(packed.warnings, context);
          // A list that was not packed completely never counts as up to date.
          return packed.warnings.length === 0 ? list.unpackedFingerprint : "";
        },
      },
      createProgress("Uploading the cache", trace.print),
      limit,
    );
    trace.print(
      `Saved cache ${key}: ${list.paths.length} entries, ${formatBytes(list.bytes)}, packed ${formatBytes(bytes)}`,
      "notice",
    );
  });
}

interface Round {
  readonly caches: readonly CacheTransfer[];
  /** Limit for each cache. */
  readonly timeoutMs: number;
  readonly done: "restored" | "saved";
}

async function eachCache(
  { caches, timeoutMs, done }: Round,
  context: TransferContext,
  signal: AbortSignal,
  body: (cache: CacheTransfer, store: CacheStore, limit: AbortSignal) => Promise<void>,
): Promise<void> {
  for (const cache of caches) {
    tell(cache.warnings, context);
    const minutes = Math.round((timeoutMs / 60_000) * 100) / 100;
    using clock = deadline(
      signal,
      timeoutMs,
      new SystemFailure(`it took longer than ${minutes} min (CACHE_REQUEST_TIMEOUT)`),
    );
    try {
      await body(cache, await context.openCaches(), clock.signal);
    } catch (error) {
      signal.throwIfAborted();
      const cause: unknown = clock.signal.aborted ? clock.signal.reason : error;
      context.trace.print(
        `The cache ${cache.key} was not ${done}: ${describeError(cause)}. The job goes on without`,
        "warning",
      );
      if (!(cause instanceof SystemFailure || cause instanceof ScriptFailure)) {
        context.log.error("an unexpected error while a cache was moved", {
          problem: describeError(cause),
          stack: cause instanceof Error ? cause.stack : undefined,
        });
      }
    }
  }
}

function tell(warnings: readonly string[], { trace }: TransferContext): void {
  for (const warning of warnings.slice(0, MOST_WARNINGS)) trace.print(warning, "warning");
  if (warnings.length > MOST_WARNINGS) trace.print(`... and ${warnings.length - MOST_WARNINGS} more`, "warning");
}
