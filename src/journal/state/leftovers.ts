import { lstat, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { describeError } from "../../errors.ts";
import type { Note } from "../../executor/prepare.ts";
import { removeTree } from "../../files/remove-tree.ts";
import type { Log } from "../../log.ts";
import type { FinalReport, LeftoverJob } from "../contract.ts";
import { type OpenRecord, openRecord, REMOVED } from "../records/record.ts";
import { decodeLines, RECORD_VERSION } from "../records/record-lines.ts";
import { keyShape, parseAcknowledgement, parseEntry } from "../records/stored-job.ts";

/** No record that a runner writes comes near; a foreign file may. */
export const LARGEST_RECORD_BYTES = 16 * 1024 * 1024;
/** Entries read at the same time. */
const PARALLEL = 16;

export interface LeftoverSearch {
  readonly jobsDir: string;
  readonly corruptDir: string;
  readonly log: Log;
  readonly track: (make: (onRemoved: () => void) => OpenRecord) => OpenRecord;
}

/** All jobs in `jobsDir`, oldest first. Rejects only if the directory itself cannot be read. */
export async function findLeftovers(search: LeftoverSearch): Promise<LeftoverJob[]> {
  const names = (await readdir(search.jobsDir)).values();
  const found: LeftoverJob[] = [];
  const readAll = async (): Promise<void> => {
    for (const name of names) {
      const leftover = await readEntry(name, search);
      if (leftover !== null) found.push(leftover);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, readAll));
  const age = ({ record }: LeftoverJob): string => record.stored.acceptedAt;
  return found.sort((a, b) => (age(a) < age(b) ? -1 : age(a) > age(b) ? 1 : 0));
}

async function readEntry(name: string, search: LeftoverSearch): Promise<LeftoverJob | null> {
  const { jobsDir, log } = search;
  const dir = join(jobsDir, name);
  try {
    if (name.startsWith(REMOVED)) {
      await removeTree(dir);
      return null;
    }
    const verdict = keyShape.test(name)
      ? await readJob(dir, name, search)
      : { problem: "it is nothing of the runner's" };
    if ("leftover" in verdict) return verdict.leftover;
    if ("newer" in verdict) {
      log.warn(
        `${dir} was written by a newer runner (format ${verdict.newer}, this one knows ${RECORD_VERSION}): left alone`,
      );
      return null;
    }
    await setAside(dir, name, verdict.problem, search);
  } catch (error) {
    log.warn(`${dir} cannot be read and is left alone`, { problem: describeError(error) });
  }
  return null;
}

type ReadJob = { leftover: LeftoverJob } | { newer: number } | { problem: string };

async function readJob(dir: string, name: string, { log, track }: LeftoverSearch): Promise<ReadJob> {
  if (!(await lstat(dir)).isDirectory()) return { problem: "it is no directory" };
  const file = await readRegular(join(dir, "record"));
  if (typeof file === "string") return { problem: file };
  const { values, soundBytes, damaged, newer } = decodeLines(file);
  if (newer !== null) return { newer };

  let unknown = 0;
  const notes: Note[] = [];
  let report: FinalReport | null = null;
  let diedAt: number | null = null;
  const [first, ...rest] = values.map(parseEntry);
  if (first?.kind !== "accepted") return { problem: "its record does not begin with a job" };
  if (first.job.key !== name) return { problem: `its record is that of ${first.job.key}` };
  for (const entry of rest) {
    if (entry?.kind === "note") notes.push(entry.note);
    else if (entry?.kind === "died") diedAt ??= entry.offset;
    else if (entry?.kind === "finished") report ??= entry.report;
    else unknown++;
  }
  if (damaged + unknown > 0) {
    log.warn(`${join(dir, "record")}: ${damaged + unknown} damaged lines are left out, the rest is used`);
  }
  const acknowledged = await readAcknowledged(dir);
  const torn = soundBytes < file.length;
  const stored = first.job;
  const { record } = track((onRemoved) =>
    openRecord({ stored, dir, log, length: soundBytes, torn, report, onRemoved }),
  );
  return { leftover: { record, notes, acknowledged, diedAt } };
}

/** The bytes, or what is wrong. */
async function readRegular(path: string): Promise<Buffer | string> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return "it has no record";
  if (!found.isFile()) return "its record is no file";
  if (found.size > LARGEST_RECORD_BYTES) return `its record has ${found.size} bytes`;
  const file = await open(path, "r");
  try {
    return await file.readFile();
  } finally {
    await file.close();
  }
}

async function readAcknowledged(dir: string): Promise<number> {
  const bytes = await readRegular(join(dir, "acknowledged")).catch(() => "");
  return typeof bytes === "string" ? 0 : parseAcknowledgement(decodeLines(bytes).values[0]);
}

async function setAside(
  dir: string,
  name: string,
  problem: string,
  { corruptDir, log }: LeftoverSearch,
): Promise<void> {
  const aside = join(corruptDir, `${name}-${Date.now().toString(36)}`);
  await rename(dir, aside);
  // Of a job whose record was not written yet, or is none, nothing secret is to stay.
  await rm(join(aside, "payload"), { force: true, recursive: true }).catch(() => undefined);
  log.warn(`${dir} cannot be used: ${problem}; moved to ${aside}`);
}
