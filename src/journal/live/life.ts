import { closeSync, constants, fchmodSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { z } from "zod";
import { decodeLines, encodeLine } from "../records/record-lines.ts";

const count = z.number().int().nonnegative();

const entry = z.discriminatedUnion("kind", [
  /** A line of the runner's own is put at `at` of the spool next. */
  z.strictObject({ kind: z.literal("own"), at: count, text: z.string() }),
]);

/** What has happened to a job, in order: its steps, each before it is done and once it is. */
export type LifeEntry = z.infer<typeof entry>;

export interface LifeFile {
  /** Kept when it returns, for other processes of this boot: it is not synced. @throws it cannot be written */
  append(entry: LifeEntry): void;
  close(): void;
}

/** @param length of what is sound in it; what an earlier process wrote beyond was torn */
export function openLife(path: string, length = 0): LifeFile {
  const file = openSync(path, constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0), 0o600);
  if (process.platform !== "win32") fchmodSync(file, 0o600);
  ftruncateSync(file, length);
  let end = length;
  return {
    append(value) {
      const line = encodeLine(value);
      for (let done = 0; done < line.length; ) done += writeSync(file, line, done, line.length - done, end + done);
      end += line.length;
    },
    close: () => closeSync(file),
  };
}

export interface ReadLife {
  readonly entries: readonly LifeEntry[];
  /** Where the next one goes. */
  readonly length: number;
}

/** A line that was torn at the end counts as not written. `null`: another one is damaged, or another runner wrote it. */
export function readLife(bytes: Buffer): ReadLife | null {
  const { values, soundBytes, damaged, newer } = decodeLines(bytes);
  const entries = z.array(entry).safeParse(values);
  if (!entries.success || damaged > 0 || newer !== null) return null;
  return { entries: entries.data, length: soundBytes };
}
