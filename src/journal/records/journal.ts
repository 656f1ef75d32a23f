import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { SystemFailure } from "../../errors.ts";
import { removeTree } from "../../files/remove-tree.ts";
import type { Log } from "../../log.ts";
import type { Journal } from "../contract.ts";
import { findLeftovers } from "../state/leftovers.ts";
import type { StateDir } from "../state/state-dir.ts";
import { type OpenRecord, openRecord } from "./record.ts";
import { encodeLine } from "./record-lines.ts";
import { keyShape } from "./stored-job.ts";
import { type Outlives, syncDirectory, writeSynced } from "./synced-file.ts";

export interface JournalOptions {
  readonly stateDir: StateDir;
  readonly log: Log;
  /** Default: the machine. */
  readonly outlives?: Outlives;
}

/**
 * Read what the last process left and be ready for new jobs. A job is a directory `<state_dir>/jobs/<key>` with
 * `record` (lines of JSON, only ever appended to), `trace` (the spool) and `acknowledged` (how much has arrived).
 * What cannot be read is moved to `<state_dir>/corrupt` with a warning, or left alone if a newer runner made it.
 */
export async function openJournal({ stateDir, log, outlives = "machine" }: JournalOptions): Promise<Journal> {
  const { jobsDir, corruptDir, boot } = stateDir;
  const open = new Set<OpenRecord>();

  function track(make: (onRemoved: () => void) => OpenRecord): OpenRecord {
    const opened = make(() => open.delete(opened));
    open.add(opened);
    return opened;
  }

  const leftovers = await findLeftovers({ jobsDir, corruptDir, log, track });

  return {
    boot,
    leftovers: () => leftovers,
    async accept(stored, beside) {
      if (!keyShape.test(stored.key)) throw new Error(`"${stored.key}" is no key of a job`);
      const dir = join(jobsDir, stored.key);
      const line = encodeLine({ kind: "accepted", job: stored });
      let made = false;
      try {
        await mkdir(dir, { mode: 0o700 });
        made = true;
        // With a record it counts: from then on all of it is there.
        await beside?.(dir);
        // Together, so that a journaling file system commits once for all of them.
        const files = await Promise.allSettled([
          writeSynced(join(dir, "record"), line, outlives),
          writeSynced(join(dir, "trace"), Buffer.alloc(0), outlives),
        ]);
        for (const file of files) if (file.status === "rejected") throw file.reason;
        if (outlives === "machine") await Promise.all([syncDirectory(dir), syncDirectory(jobsDir)]);
      } catch (cause) {
        if (made) await removeTree(dir).catch(() => undefined);
        throw new SystemFailure(`Cannot keep job ${stored.id} in ${dir}`, { cause });
      }
      const length = line.length;
      return track((onRemoved) =>
        openRecord({ stored, dir, log, outlives, length, torn: false, report: null, onRemoved }),
      ).record;
    },
    async close() {
      await Promise.all([...open].map((opened) => opened.settle()));
    },
  };
}
