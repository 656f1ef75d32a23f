import { constants } from "node:fs";
import { open, rename } from "node:fs/promises";
import { join } from "node:path";
import { describeError, SystemFailure } from "../../errors.ts";
import type { Note } from "../../executor/prepare.ts";
import { removeTree } from "../../files/remove-tree.ts";
import type { Log } from "../../log.ts";
import type { FinalReport, JobRecord, StoredJob } from "../contract.ts";
import { encodeLine } from "./record-lines.ts";
import { type Outlives, syncContents, writeAt } from "./synced-file.ts";

/** Directories of this prefix are on their way out: a removal that was cut off is finished at the next start. */
export const REMOVED = ".removed-";
/** How often the acknowledged offset is written at most: it only saves sending again after a crash. */
const ACKNOWLEDGE_MS = 2000;

/** A record and what its journal needs of it. */
export interface OpenRecord {
  readonly record: JobRecord;
  /** Write what is kept lazily; no timer is left. */
  settle(): Promise<void>;
}

export interface OpenRecordOptions {
  readonly stored: StoredJob;
  readonly dir: string;
  readonly log: Log;
  /** Default: the machine. */
  readonly outlives?: Outlives;
  /** Sound bytes of the record file; the next line goes there. `torn`: others follow, which are cut off first. */
  readonly length: number;
  readonly torn: boolean;
  readonly report: FinalReport | null;
  readonly onRemoved: () => void;
}

export function openRecord(options: OpenRecordOptions): OpenRecord {
  const { stored, dir, log, outlives = "machine", length, torn, report, onRemoved } = options;
  const recordPath = join(dir, "record");
  const tracePath = join(dir, "trace");
  let end = length;
  let tornTail = torn;
  let verdict = report;
  let acknowledgedTo = 0;
  let keptTo = 0;
  let timer: NodeJS.Timeout | undefined;
  let removed = false;
  let last: Promise<unknown> = Promise.resolve();

  /** Writes of one record happen one after the other. */
  function inOrder<T>(work: () => Promise<T>): Promise<T> {
    const turn = last.then(work);
    last = turn.catch(() => undefined);
    return turn;
  }

  async function append(value: unknown): Promise<void> {
    const line = encodeLine(value);
    // Opened for each line: with a thousand results waiting, a thousand descriptors would be.
    const file = await open(recordPath, "r+");
    try {
      if (tornTail) await file.truncate(end);
      tornTail = true;
      await writeAt(file, line, end);
      if (outlives === "machine") await file.datasync();
      end += line.length;
      tornTail = false;
    } finally {
      await file.close();
    }
  }

  function keep(value: unknown, what: string): Promise<void> {
    return inOrder(() => append(value)).catch((cause: unknown) => {
      throw new SystemFailure(`Cannot keep ${what} in ${recordPath}`, { cause });
    });
  }

  async function keepAcknowledged(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    if (removed || acknowledgedTo === keptTo) return;
    keptTo = acknowledgedTo;
    // One line of fixed length, written over itself: a job of days makes no file that grows.
    const line = encodeLine({ offset: acknowledgedTo }, { padTo: 40 });
    try {
      const file = await open(join(dir, "acknowledged"), constants.O_CREAT | constants.O_WRONLY, 0o600);
      try {
        await writeAt(file, line, 0);
      } finally {
        await file.close();
      }
    } catch (error) {
      log.debug("cannot note how much of the trace has arrived", { job: stored.id, problem: describeError(error) });
    }
  }

  const record: JobRecord = {
    stored,
    dir,
    tracePath,
    get report() {
      return verdict;
    },
    remember: (note: Note) => keep({ kind: "note", note }, `a note of job ${stored.id}`),
    acknowledged(offset) {
      if (removed || offset <= acknowledgedTo) return;
      acknowledgedTo = offset;
      timer ??= setTimeout(() => void inOrder(keepAcknowledged), ACKNOWLEDGE_MS).unref();
    },
    async finish(final) {
      if (verdict !== null) throw new Error(`job ${stored.id} has its verdict already`);
      verdict = final;
      if (outlives === "machine")
        await syncContents(tracePath).catch((error: unknown) => {
          log.error(`cannot sync the trace ${tracePath}`, { job: stored.id, problem: describeError(error) });
        });
      await keep({ kind: "finished", report: final }, `the result of job ${stored.id}`);
    },
    died: (offset) => keep({ kind: "died", offset }, `the end of job ${stored.id}`),
    async remove() {
      if (removed) return;
      removed = true;
      clearTimeout(timer);
      timer = undefined;
      onRemoved();
      await inOrder(async () => {
        // In one step first: a record without its trace, or a trace without its record, would be taken for damage.
        const going = join(dir, "..", `${REMOVED}${stored.key}`);
        await rename(dir, going);
        await removeTree(going);
      }).catch((cause: unknown) => {
        throw new SystemFailure(`Cannot remove ${dir}`, { cause });
      });
    },
  };
  return { record, settle: () => inOrder(keepAcknowledged) };
}
