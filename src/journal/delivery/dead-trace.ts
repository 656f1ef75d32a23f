import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { describeError } from "../../errors.ts";
import type { Log } from "../../log.ts";
import { HEADER_BYTES } from "../../trace/stamp/header.ts";
import { stampLines } from "../../trace/stamp/stamper.ts";
import type { LeftoverJob } from "../contract.ts";
import { soundBytes } from "../records/spool-file.ts";
import { writeAt } from "../records/synced-file.ts";

/** Losing more than this to a power failure is beyond what is worth filling up. */
const LARGEST_GAP_BYTES = 64 * 1024 * 1024;

/**
 * Complete the spool of a job that died with its runner: what is sound of it, then a line that says what happened.
 * Safe to repeat: where the notice begins is kept before it is written.
 * @returns where the notice begins
 */
export async function sealDeadTrace(leftover: LeftoverJob, circumstances: string, log: Log): Promise<number> {
  const { record, acknowledged, diedAt } = leftover;
  const { stored, tracePath } = record;
  const fields = { job: stored.id, runner: stored.runner.id };
  let offset = diedAt ?? 0;
  try {
    const file = await open(tracePath, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      offset = Math.min(await soundBytes(tracePath), diedAt ?? Number.POSITIVE_INFINITY);
      if (diedAt === null) await record.died(offset);
      await file.truncate(offset);
      // GitLab counts bytes: what it has of a tail that the disk lost must not push the notice out of its place.
      const lost = stored.dialect === "gitlab" ? acknowledged - offset : 0;
      const stamped = stored.stamped === true;
      const gap = stamped ? await stampedGap(file, offset, lost) : gapFiller(lost);
      const text = `ERROR: Job failed (system failure): the runner died while this job ran (${circumstances})`;
      const onOwnLine = gap.length > 0 || (await endsLine(file, offset)) ? "" : "\n";
      const notice = Buffer.from(`\u001b[0m\u001b[31;1m${printable(text)}\u001b[0m\n`);
      const line = stamped ? stampLines(notice) : notice;
      await writeAt(file, Buffer.concat([gap, Buffer.from(stamped ? "" : onOwnLine), line]), offset);
    } finally {
      await file.close();
    }
  } catch (error) {
    // The verdict matters more than its explanation.
    log.error(`cannot complete the trace ${tracePath}`, { ...fields, problem: describeError(error) });
  }
  return offset;
}

async function endsLine(file: FileHandle, offset: number): Promise<boolean> {
  if (offset === 0) return true;
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, offset - 1);
  return buffer[0] === 0x0a;
}

function gapFiller(length: number): Buffer {
  if (length <= 0 || length > LARGEST_GAP_BYTES) return Buffer.alloc(0);
  const filler = Buffer.alloc(length, ".");
  const text = `\n[${length} bytes of output were lost]\n`;
  if (text.length < length) filler.write(text, "latin1");
  filler[length - 1] = 0x0a;
  return filler;
}

/** The same where each line has its time: a torn line is ended behind its header, and what was lost is one line. */
async function stampedGap(file: FileHandle, offset: number, lost: number): Promise<Buffer> {
  const last = Math.min(offset, HEADER_BYTES);
  const { buffer } = await file.read(Buffer.alloc(last), 0, last, offset - last);
  const isTorn = last > 0 && buffer[last - 1] !== 0x0a;
  const missing = isTorn ? HEADER_BYTES - (last - 1 - buffer.lastIndexOf(0x0a)) : 0;
  const torn = Buffer.from(isTorn ? `${" ".repeat(Math.max(0, missing))}\n` : "");
  const length = lost - torn.length;
  if (length <= 0 || length > LARGEST_GAP_BYTES) return torn;
  const text = `[${lost} bytes of output were lost]`;
  return Buffer.concat([torn, stampLines(Buffer.from(text.padEnd(length - HEADER_BYTES - 1, ".")))]);
}

function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f]+/g, " ");
}
