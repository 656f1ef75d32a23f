import { closeSync, constants, fstatSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { z } from "zod";
import { decodeLines, encodeLine } from "../records/record-lines.ts";
import { failureReason, note } from "../records/words.ts";

/**
 * What the entries may mean, the newest last: that is what is written. One is added with each change that an older runner would not
 * understand, and the one before stays, so that an upgrade ends no job.
 */
export const LIFE_FORMATS: readonly number[] = [1];

const count = z.number().int().nonnegative();
const setback = z.discriminatedUnion("result", [
  z.strictObject({ result: z.literal("canceled"), message: z.string() }),
  z.strictObject({
    result: z.literal("failed"),
    reason: failureReason,
    message: z.string(),
    exitCode: z.number().int().exactOptional(),
  }),
]);
const verdict = z.discriminatedUnion("is", [
  z.strictObject({ is: z.literal("passed") }),
  z.strictObject({
    is: z.literal("failed"),
    outcome: setback,
    weight: z.enum(["decides", "late", "ignored"]),
    usable: z.boolean(),
  }),
]);

const outcome = z.discriminatedUnion("result", [z.strictObject({ result: z.literal("success") }), ...setback.options]);
const used = z.strictObject({
  cpuSeconds: z.number().exactOptional(),
  peakMemoryBytes: z.number().exactOptional(),
  memoryBytes: z.number().exactOptional(),
  readBytes: z.number().exactOptional(),
  writtenBytes: z.number().exactOptional(),
  imageSeconds: z.number().exactOptional(),
});
/** By the machine's clock that no one can set: seconds since its start. */
const uptimeSeconds = z.number().nonnegative();

const entry = z.discriminatedUnion("kind", [
  /** Another process goes on with the job. */
  z.strictObject({ kind: z.literal("adopted"), uptimeSeconds, pid: count }),
  /** This process leaves it as it is, for another. */
  z.strictObject({ kind: z.literal("left") }),
  /** The time limit. */
  z.strictObject({ kind: z.literal("limit"), uptimeSeconds, boot: z.string() }),
  /** What the trace masks from here on (`PayloadSeal.digest`). */
  z.strictObject({ kind: z.literal("masks"), digest: z.string() }),
  /** A line of the runner's own is put at `at` of the spool next. */
  z.strictObject({ kind: z.literal("own"), at: count, text: z.string() }),
  z.strictObject({ kind: z.literal("preparing"), attempt: count, uptimeSeconds }),
  /** `handle`: by which the environment is found again; `null`: it ends with this process. */
  z.strictObject({ kind: z.literal("prepared"), handle: note.nullable() }),
  /** `stage`: its number in the plan, from 0. */
  z.strictObject({ kind: z.literal("begun"), stage: count, uptimeSeconds }),
  /** This try of the stage has failed, and another one follows. */
  z.strictObject({ kind: z.literal("again"), attempt: count }),
  z.strictObject({ kind: z.literal("script"), number: count, proof: z.string() }),
  /** Where it runs. */
  z.strictObject({ kind: z.literal("place"), number: count, place: note }),
  /** All of its output is in the trace. `read`: the shell had read the whole script. */
  z.strictObject({
    kind: z.literal("exit"),
    number: count,
    code: z.number().int(),
    signal: z.string().nullable(),
    read: z.boolean(),
    used: used.exactOptional(),
  }),
  z.strictObject({ kind: z.literal("ended"), stage: count, verdict }),
  z.strictObject({
    kind: z.literal("stopping"),
    why: z.enum(["canceling", "canceled", "shutting_down", "timed_out"]),
    message: z.string(),
  }),
  /** All stages have ended: the last lines follow. */
  z.strictObject({ kind: z.literal("over") }),
  z.strictObject({ kind: z.literal("finished"), outcome }),
]);

/** What has happened to a job, in order: its steps, each before it is done and once it is. Nothing of it is secret. */
export type LifeEntry = z.infer<typeof entry>;

/** The first line: whoever knows the frame of lines can read it. */
const begun = z.object({ kind: z.literal("format"), format: count, version: z.string() });

export interface LifeFile {
  /** Kept when it returns, for other processes of this boot: it is not synced. @throws it cannot be written */
  append(entry: LifeEntry): void;
  close(): void;
}

/**
 * @param by the runner's version, for whoever cannot read it
 * @param length of what is sound in it already; what an earlier process wrote beyond was torn
 */
export function openLife(path: string, by: string, length = 0): LifeFile {
  const file = openSync(path, constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0), 0o600);
  let end = length;
  const write = (value: unknown): void => {
    const line = encodeLine(value);
    for (let done = 0; done < line.length; ) done += writeSync(file, line, done, line.length - done, end + done);
    end += line.length;
  };
  try {
    if (fstatSync(file).size > length) ftruncateSync(file, length);
    if (length === 0) write({ kind: "format", format: LIFE_FORMATS.at(-1), version: by });
  } catch (error) {
    closeSync(file);
    throw error;
  }
  return { append: write, close: () => closeSync(file) };
}

export type ReadLife =
  | { readonly entries: readonly LifeEntry[]; readonly length: number; readonly version: string }
  /** Another version wrote it, in words that this one does not know. */
  | { readonly foreign: string }
  | { readonly problem: string };

/** A line that was torn at the end counts as not written. */
export function readLife(bytes: Buffer): ReadLife {
  const { values, soundBytes, damaged, newer } = decodeLines(bytes);
  const [first, ...rest] = values;
  const head = begun.safeParse(first);
  if (!head.success || damaged > 0) return { problem: damaged > 0 ? `${damaged} damaged lines` : "no beginning" };
  if (!LIFE_FORMATS.includes(head.data.format) || newer !== null) return { foreign: head.data.version };
  const entries = z.array(entry).safeParse(rest);
  if (!entries.success) return { foreign: head.data.version };
  return { entries: entries.data, length: soundBytes, version: head.data.version };
}
