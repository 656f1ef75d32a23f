import { randomUUID } from "node:crypto";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { troubleOf } from "../../coordinator/contract.ts";
import { describeError, SystemFailure } from "../../errors.ts";
import type { Dependency } from "../../job/job.ts";
import { openArchive, unpackLimits } from "../archive.ts";
import { createArchiveFile } from "../archive-file.ts";
import { withTries } from "../attempts.ts";
import { createProgress, formatBytes } from "../progress.ts";
import type { Transfer, TransferContext } from "../transfer.ts";

/** How many downloads run at once. */
const WIDTH = 4;

interface Downloaded {
  readonly path: string;
  readonly bytes: number;
}

/**
 * Fetch the artifacts of earlier jobs, several at once, and unpack them side by side where the files' place can. They come to their
 * places in the order of the list: later ones win, and nothing after one that fails.
 * @throws {SystemFailure} artifacts that are not there or cannot be had; names the job
 * @throws {ScriptFailure} an archive that is damaged or hostile; nothing of it was unpacked
 */
export async function downloadArtifacts(
  { dependencies, attempts }: Extract<Transfer, { what: "download_artifacts" }>,
  context: TransferContext,
  signal: AbortSignal,
): Promise<void> {
  const stop = new AbortController();
  const onAbort = (): void => stop.abort(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  const items = dependencies.map((dependency) => ({
    dependency,
    path: join(context.scratchDir, `dependency-${randomUUID()}`),
    downloaded: Promise.withResolvers<Downloaded>(),
  }));
  for (const { downloaded } of items) downloaded.promise.catch(() => {}); // the failure is thrown when its turn comes
  const downloads: Promise<void>[] = [];
  const start = (): void => {
    const item = items[downloads.length];
    if (item === undefined) return;
    const { dependency, path, downloaded } = item;
    const download = fetchOne({ dependency, path, attempts }, context, stop.signal);
    downloads.push(
      download.then((its) => {
        downloaded.resolve(its);
        start();
      }, downloaded.reject),
    );
  };
  const unpacked: Promise<void>[] = [];
  try {
    for (let i = 0; i < WIDTH; i++) start();
    for (const [index, { dependency, downloaded }] of items.entries()) {
      await unpacked[index - (context.files.unpacksAtOnce ?? 1)];
      const turn = unpacked[index - 1] ?? Promise.resolve();
      const work = unpackOne({ dependency, downloaded: downloaded.promise, turn }, context, stop.signal);
      work.catch(() => {}); // the failure is thrown when its turn comes
      unpacked.push(work);
    }
    for (const work of unpacked) await work;
    signal.throwIfAborted();
  } finally {
    signal.removeEventListener("abort", onAbort);
    const reason = new Error("the other artifacts are not needed any more");
    stop.abort(reason);
    for (const { downloaded } of items) downloaded.reject(reason); // for downloads that were never started
    await Promise.allSettled([...downloads, ...unpacked]);
    for (const { path } of items) await rm(path, { force: true });
  }
}

interface Unpacking {
  readonly dependency: Dependency;
  readonly downloaded: Promise<Downloaded>;
  /** Resolves once all archives before this one are in their places. */
  readonly turn: Promise<void>;
}

async function unpackOne(
  { dependency, downloaded, turn }: Unpacking,
  { files, trace, minFreeBytes }: TransferContext,
  signal: AbortSignal,
): Promise<void> {
  const { path, bytes } = await downloaded;
  const limits = unpackLimits(bytes, minFreeBytes());
  await using file = await open(path).catch((cause: unknown) => {
    throw new SystemFailure(`Cannot read ${path}`, { cause });
  });
  const tar = await openArchive(file, path, limits, signal);
  const held = Readable.from(holding(tar, turn), { objectMode: false });
  try {
    const report = await files.unpack(held, limits, signal);
    for (const warning of report.warnings.slice(0, 20)) trace.print(warning, "warning");
    trace.print(`Unpacked ${report.entries} entries, ${formatBytes(report.bytes)}, of ${shown(dependency)}`);
  } catch (error) {
    signal.throwIfAborted();
    trace.print(`The artifacts of ${shown(dependency)} cannot be unpacked`, "error");
    throw error;
  } finally {
    held.destroy();
    tar.destroy();
  }
  await rm(path, { force: true });
}

/** The unpacker moves nothing to its place before the stream has ended, so the stream ends only when it is its turn. */
async function* holding(tar: Readable, turn: Promise<void>): AsyncGenerator<unknown> {
  yield* tar;
  await turn;
}

function shown({ name, id }: Dependency): string {
  return `${name} (${id})`;
}

interface Download {
  readonly dependency: Dependency;
  readonly path: string;
  readonly attempts: number;
}

async function fetchOne(
  { dependency, path, attempts }: Download,
  context: TransferContext,
  signal: AbortSignal,
): Promise<Downloaded> {
  const { trace, coordinator, job } = context;
  const who = shown(dependency);
  trace.print(`Downloading artifacts of ${who}...`, "notice");
  const progress = createProgress(`Downloading artifacts of ${who}`, (line) => trace.print(line));
  const of = { id: dependency.id, token: dependency.token, dialect: job.dialect };
  try {
    return await withTries(
      { ...context, attempts },
      async (attempt) => {
        await rm(path, { force: true });
        const file = await createArchiveFile(path, context.minFreeBytes());
        try {
          let total = dependency.file?.size ?? 0;
          const { bytes, expectedBytes } = await coordinator.downloadArtifacts(
            of,
            async (piece) => {
              await file.append(piece);
              progress(file.position, total);
            },
            { direct: attempt === 1 },
            signal,
          );
          total = expectedBytes ?? total;
          if (expectedBytes !== undefined && expectedBytes !== bytes) {
            throw new SystemFailure(
              `Artifacts of ${who} were cut on their way: ${bytes} of ${expectedBytes} bytes came`,
              {
                retry: true,
              },
            );
          }
          return { path, bytes: await file.finish() };
        } finally {
          await file.close();
        }
      },
      signal,
    );
  } catch (error) {
    signal.throwIfAborted();
    throw unavailable(who, error, job.dialect === "alloy");
  }
}

function unavailable(who: string, error: unknown, alloy: boolean): unknown {
  const answered = troubleOf(error);
  if (answered === undefined) {
    return error instanceof SystemFailure && error.retry
      ? new SystemFailure(error.message, { cause: error.cause, reason: error.reason })
      : error;
  }
  const { kind, status } = answered;
  // A failure that may pass has been tried as often as allowed, so for the stage it is final.
  const sentence = (why: string): SystemFailure =>
    new SystemFailure(`The artifacts of ${who} ${why}`, { cause: error });
  if (kind === "missing" || kind === "gone")
    return sentence("are not there (any more): they have expired, were deleted or never uploaded");
  if (kind === "unauthorized" || kind === "refused") return sentence("may not be downloaded by this job");
  if (kind === "broken" || kind === "away" || kind === "busy") {
    const hint = alloy ? "; AlloyCI answers so when they have expired or were never uploaded" : "";
    return sentence(`are unavailable: the coordinator answered ${status} each time${hint}`);
  }
  return new SystemFailure(`Cannot get the artifacts of ${who}: ${describeError(error)}`, { cause: error });
}
