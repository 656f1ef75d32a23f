import { closeSync, constants, fchmodSync, openSync, writeSync } from "node:fs";
import { uptime } from "node:os";
import { z } from "zod";
import type { TracePosition } from "../../trace/contract.ts";
import { decodeLines, frameLine } from "../records/record-lines.ts";

/** Where a running job's output has come to: from here on another process reads it again. */
export interface Checkpoint {
  /** Number of the script in its job, from 1; 0: none runs. */
  readonly script: number;
  /** Where the script's proof stood in its output, if that is decided. */
  readonly proof: { readonly at: number; readonly bytes: number } | null;
  /** Counted from the script's beginning. */
  readonly trace: TracePosition;
}

/** As it is read: `seq` is for whoever goes on writing, `uptimeSeconds` when somebody looked last, by the machine's clock. */
export type FoundCheckpoint = Checkpoint & { readonly seq: number; readonly uptimeSeconds: number };

/** Two of them, written in turn: one that was torn leaves the one before. */
const SLOT_BYTES = 512;
/** Of a line that is not its JSON: version, checksum, line end. */
const FRAME_BYTES = 12;

const count = z.number().int().nonnegative();
const run = z.enum(["none", "armed", "open"]);
const slot = z.strictObject({
  seq: count,
  uptimeSeconds: z.number().nonnegative(),
  script: count,
  proof: z.strictObject({ at: count, bytes: count }).nullable(),
  trace: z.strictObject({
    spool: count,
    lineStart: z.boolean(),
    limit: z.strictObject({ beyond: count, reached: z.boolean() }),
    chain: z.strictObject({
      at: count,
      behind: count,
      character: count.max(3),
      mask: z.strictObject({ behind: count, covered: count, word: run, url: run }),
    }),
    stamps: z.strictObject({ open: z.enum(["runner", "script", "service"]).nullable(), lastMicros: count }).nullable(),
  }),
});

export interface CheckpointFile {
  /** Kept when it returns, for other processes of this boot: it is not synced. False: the one before holds. */
  write(checkpoint: Checkpoint): boolean;
  /** Writes the last one again: somebody still looks. */
  beat(): void;
  close(): void;
}

/** @param last `seq` of the last one that was written, by an earlier process */
export function openCheckpoints(path: string, last = 0): CheckpointFile {
  const flags = constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0);
  const file = openSync(path, flags, 0o600);
  // Made whole at once: later writes need no space.
  if (last === 0) writeSync(file, Buffer.alloc(2 * SLOT_BYTES, " "), 0, 2 * SLOT_BYTES, 0);
  if (process.platform !== "win32") fchmodSync(file, 0o600);
  let seq = last;
  /** The last checkpoint as JSON, made once: what tells the slots apart is put before it. */
  let latest = "";
  let isWritten = false;
  const write = (): boolean => {
    const uptimeSeconds = Math.round(uptime() * 100) / 100;
    const json = `{"seq":${seq + 1},"uptimeSeconds":${uptimeSeconds},${latest.slice(1)}`;
    const line = frameLine(json, SLOT_BYTES - FRAME_BYTES);
    if (line.length > SLOT_BYTES) return false;
    try {
      writeSync(file, line, 0, line.length, (seq % 2) * SLOT_BYTES);
      seq++;
      return true;
    } catch {
      // The one before holds as well: more is read again.
      return false;
    }
  };
  return {
    write(checkpoint) {
      const text = JSON.stringify(checkpoint);
      // Nothing has come since: when somebody looked last is told by the next beat.
      if (isWritten && text === latest) return true;
      latest = text;
      isWritten = write();
      return isWritten;
    },
    beat() {
      if (latest !== "") write();
    },
    close: () => closeSync(file),
  };
}

/** The newer one of those that are sound. */
export function readCheckpoint(bytes: Buffer): FoundCheckpoint | null {
  const sound = [0, SLOT_BYTES].flatMap((from) => {
    const [value] = decodeLines(bytes.subarray(from, from + SLOT_BYTES)).values;
    return slot.safeParse(value).data ?? [];
  });
  return sound.reduce<z.infer<typeof slot> | null>((a, b) => (a !== null && a.seq > b.seq ? a : b), null);
}
