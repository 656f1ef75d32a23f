import { randomUUID } from "node:crypto";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { troubleOf } from "../../coordinator/contract.ts";
import { describeError, SystemFailure } from "../../errors.ts";
import type { Dependency } from "../../job/job.ts";
import { openArchive, unpackLimits } from "../archive.ts";
import { createArchiveFile } from "../archive-file.ts";
import { withTries } from "../attempts.ts";
import { createProgress, formatBytes } from "../progress.ts";
import type { Transfer, TransferContext } from "../transfer.ts";

/** Downloads at once. */
const WIDTH = 4;

interface Downloaded {
  readonly path: string;
  readonly bytes: number;
}

/**
 * Fetch the artifacts of earlier jobs, several at once, and unpack them in the order of the list: later ones win.
 * @throws {SystemFailure} artifacts that are not there or cannot be had; names the job
 * @throws {ScriptFailure} an archive that is damaged or hostile; nothing of it was unpacked
 */
export async function downloadArtifacts(
  { dependencies, attempts }: Extract<Transfer, { what: "download_artifacts" }>,
  context: TransferContext,
  signal: AbortSignal,
): Promise<void> {
  const { trace, files, scratchDir, minFreeBytes } = context;
  const stop = new AbortController();
  const onAbort = (): void => stop.abort(signal.reason);
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  const places = dependencies.map(() => join(scratchDir, `dependency-${randomUUID()}`));
  const started: Promise<Downloaded>[] = [];
  const start = (): void => {
    const index = started.length;
    const [dependency, path] = [dependencies[index], places[index]];
    if (dependency === undefined || path === undefined) return;
    const download = fetchOne({ dependency, path, attempts }, context, stop.signal);
    download.then(start, () => {}); // a failure is heard when its turn comes
    started.push(download);
  };
  try {
    for (let i = 0; i < WIDTH; i++) start();
    for (const [index, dependency] of dependencies.entries()) {
      const downloaded = await started[index];
      if (downloaded === undefined) throw new SystemFailure("a download was not started");
      const { path, bytes } = downloaded;
      const limits = unpackLimits(bytes, minFreeBytes());
      await using file = await open(path).catch((cause: unknown) => {
        throw new SystemFailure(`Cannot read ${path}`, { cause });
      });
      const tar = await openArchive(file, path, limits, signal);
      try {
        const report = await files.unpack(tar, limits, signal);
        for (const warning of report.warnings.slice(0, 20)) trace.print(warning, "warning");
        trace.print(`Unpacked ${report.entries} entries, ${formatBytes(report.bytes)}, of ${shown(dependency)}`);
      } catch (error) {
        signal.throwIfAborted();
        trace.print(`The artifacts of ${shown(dependency)} cannot be unpacked`, "error");
        throw error;
      } finally {
        tar.destroy();
      }
      await rm(path, { force: true });
    }
    signal.throwIfAborted();
  } finally {
    signal.removeEventListener("abort", onAbort);
    stop.abort(new Error("the other downloads are not needed any more"));
    await Promise.allSettled(started);
    for (const path of places) await rm(path, { force: true });
  }
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
  // What could pass has been tried as often as it may: for the stage it is final.
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
