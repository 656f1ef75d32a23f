import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { type ArtifactFile, troubleOf } from "../../coordinator/contract.ts";
import { ScriptFailure } from "../../errors.ts";
import { tidyAfter } from "../../files/tidy.ts";
import type { FileName } from "../../workspace.ts";
import { tarToZip } from "../archive.ts";
import { withTries } from "../attempts.ts";
import { createProgress, formatBytes } from "../progress.ts";
import { selectFiles } from "../select-files.ts";
import type { ArtifactUpload, TransferContext } from "../transfer.ts";
import type { Packed } from "../zip/write.ts";
import { artifactFileName } from "./artifact-name.ts";
import { expiryForAlloy } from "./expiry.ts";
import { tarToGzip, tarToRaw } from "./plain-formats.ts";

export { downloadArtifacts } from "./dependencies.ts";

/** AlloyCI refuses a larger form. */
const ALLOY_BYTES = 100_000_000;
/** Bytes of a form beside its file. */
const FORM_BYTES = 1024;
/** Longest list of warnings. */
const MOST_WARNINGS = 20;

/**
 * Pack what one entry of `artifacts` names, once, and hand it to the coordinator. Nothing that matches is a warning.
 * @throws {ScriptFailure} it is too large, or not one file where it has to be one
 * @throws {SystemFailure} the coordinator, the disk or the environment
 */
export async function uploadArtifacts(
  upload: ArtifactUpload,
  context: TransferContext,
  signal: AbortSignal,
): Promise<void> {
  const { files, trace, scratchDir } = context;
  const what = upload.type === "" || upload.type === "archive" ? "artifacts" : `the report ${upload.type}`;
  trace.print(`Uploading ${what}...`, "notice");
  const { paths: globs, exclude, untracked } = upload;
  const list = await selectFiles(files, { globs, exclude, untracked }, signal);
  for (const note of list.notes) trace.print(note);
  warn(list.warnings, context);
  if (list.paths.length === 0) {
    trace.print(`There are no files to upload as ${what}`, "warning");
    return;
  }
  const path = join(scratchDir, `artifacts-${randomUUID()}`);
  try {
    const packed = await pack({ upload, path, paths: list.paths, total: list.bytes }, context, signal);
    if (packed === null) return;
    await send({ upload, what, path, packed }, context, signal);
  } finally {
    await rm(path, { force: true });
  }
}

function warn(warnings: readonly string[], { trace }: TransferContext): void {
  for (const warning of warnings.slice(0, MOST_WARNINGS)) trace.print(warning, "warning");
  const more = warnings.length - MOST_WARNINGS;
  if (more > 0) trace.print(`${more} more warnings of this kind are not shown`, "warning");
}

interface Packing {
  readonly upload: ArtifactUpload;
  /** The archive. */
  readonly path: string;
  readonly paths: readonly FileName[];
  /** Bytes of all of these. */
  readonly total: number;
}

/** @returns `null` where nothing is left of what was listed */
async function pack(
  { upload: { format, level }, path, paths, total }: Packing,
  context: TransferContext,
  signal: AbortSignal,
): Promise<Packed | null> {
  const { tar, warnings } = await context.files.pack(paths, signal);
  const progress = createProgress("Packing", (line) => context.trace.print(line));
  const counted = counting(tar, (bytes) => progress(bytes, total));
  const options = { level, minFreeBytes: context.minFreeBytes() };
  const write = format === "gzip" ? tarToGzip : format === "raw" ? tarToRaw : tarToZip;
  try {
    const packed = await write(counted, path, options, signal);
    warn(warnings, context);
    if (packed.entries > 0) return packed;
    context.trace.print("None of these files is left: nothing is uploaded", "warning");
    return null;
  } finally {
    tar.destroy();
  }
}

async function* counting(stream: Readable, onBytes: (bytes: number, more: number) => void): AsyncGenerator<unknown> {
  let bytes = 0;
  for await (const chunk of stream) {
    const more = chunk instanceof Uint8Array ? chunk.length : 0;
    bytes += more;
    onBytes(bytes, more);
    yield chunk;
  }
}

interface Sending {
  readonly upload: ArtifactUpload;
  /** Names the upload in sentences: `artifacts`, `the report junit`. */
  readonly what: string;
  readonly path: string;
  readonly packed: Packed;
}

async function send(
  { upload, what, path, packed: { bytes, entries } }: Sending,
  context: TransferContext,
  signal: AbortSignal,
): Promise<void> {
  const { job, trace, coordinator } = context;
  if (job.dialect === "alloy" && bytes + FORM_BYTES > ALLOY_BYTES)
    throw tooLarge(what, bytes, "AlloyCI takes at most 100 MB");
  const expiry = job.dialect === "alloy" ? expiryForAlloy(upload.expireIn) : { expireIn: upload.expireIn };
  if (expiry.warning !== undefined) trace.print(expiry.warning, "warning");
  const fileName = artifactFileName(upload.name, upload.format);
  const progress = createProgress(`Uploading ${fileName}`, (line) => trace.print(line));
  const file: ArtifactFile = {
    size: bytes,
    fileName,
    expireIn: expiry.expireIn,
    type: upload.type,
    format: upload.format,
    open: () => {
      const stream = createReadStream(path, { highWaterMark: 256 * 1024 });
      return Readable.from(
        counting(stream, (sent, more) => {
          progress(sent, bytes);
          tidyAfter(more);
        }),
        { objectMode: false },
      );
    },
  };
  try {
    await withTries(context, () => coordinator.uploadArtifacts(job, file, signal), signal);
  } catch (error) {
    if (troubleOf(error)?.kind === "too_large")
      throw tooLarge(what, bytes, "the coordinator refused them (413)", error);
    throw error;
  }
  const items = entries === 1 ? "1 entry" : `${entries} entries`;
  trace.print(`Uploaded ${what} as ${fileName}: ${items}, ${formatBytes(bytes)}`);
}

function tooLarge(what: string, bytes: number, why: string, cause?: unknown): ScriptFailure {
  return new ScriptFailure(
    `${what} are too large to be uploaded: ${formatBytes(bytes)} packed; ${why}`,
    cause === undefined ? {} : { cause },
  );
}
