import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import { LONGEST_PATH_BYTES } from "../../../src/files/tar.ts";
import { type FileName, fileName, type KeptFiles } from "../../../src/workspace.ts";
import type { NameCount } from "../../common/files/found.ts";
import { MOST_PLACED } from "../../common/files/placed.ts";

/**
 * What the runner and its second process say to each other. stdin: the length of the request as 8 hex digits, the request as
 * JSON and, to unpack, a tar or, to pack, names with a NUL after each. stdout: to list, names with a NUL after each and one more
 * NUL; then the result as JSON, or the tar. stderr: a line of JSON for each `Remark`.
 */

const places = { root: z.string(), tmpDir: z.string() };
const nameSchema = z.string().transform((name) => fileName(name));

/** It comes from a process of the job's user: no larger than what is true of any files. */
export const keptSchema: z.ZodType<KeptFiles> = z.object({
  tops: z.array(z.object({ name: nameSchema, state: z.string().max(300) })).max(MOST_PLACED),
  inside: z.string().max(100),
  entries: z.number(),
  aside: z.string().nullable(),
});

export const requestSchema = z.discriminatedUnion("do", [
  z.object({
    do: z.literal("list"),
    ...places,
    select: z.object({ globs: z.array(z.string()), exclude: z.array(z.string()), untracked: z.boolean() }),
  }),
  z.object({ do: z.literal("pack"), ...places }),
  z.object({
    do: z.literal("unpack"),
    ...places,
    limits: z.object({ bytes: z.number(), entries: z.number(), freeBytes: z.number() }),
  }),
  z.object({ do: z.literal("record"), ...places, names: z.array(nameSchema) }),
  z.object({ do: z.literal("set aside"), ...places, kept: keptSchema }),
  z.object({ do: z.literal("put back"), ...places, kept: keptSchema }),
  z.object({ do: z.literal("drop"), ...places, kept: keptSchema }),
]);
export type FilesRequest = z.infer<typeof requestSchema>;

export const listSchema = z.object({
  bytes: z.number(),
  fingerprint: z.string(),
  unpackedFingerprint: z.string(),
  notes: z.array(z.string()),
  warnings: z.array(z.string()),
});

export const reportSchema = z.object({
  entries: z.number(),
  bytes: z.number(),
  warnings: z.array(z.string()),
  placed: z.array(nameSchema).max(MOST_PLACED).exactOptional(),
});

export const remarkSchema = z.union([
  z.object({ warning: z.string() }),
  z.object({ error: z.object({ blame: z.enum(["script", "system"]), message: z.string() }) }),
]);
export type Remark = z.infer<typeof remarkSchema>;

/** Name of the command that is the second process. */
export const FILES_COMMAND = "internal-files";
/** Digits before a request. */
export const LENGTH_DIGITS = 8;

export function encodeRequest(request: FilesRequest): Buffer {
  const json = Buffer.from(JSON.stringify(request));
  return Buffer.concat([Buffer.from(json.length.toString(16).padStart(LENGTH_DIGITS, "0")), json]);
}

/** Names on their way to the other process: as bytes, with a NUL after each, in pieces of some size. */
export function* nameBytes(names: Iterable<FileName>): Generator<Buffer> {
  let text = "";
  for (const name of names) {
    text += `${name}\0`;
    if (text.length < PIECE_BYTES) continue;
    yield Buffer.from(text, "latin1");
    text = "";
  }
  if (text !== "") yield Buffer.from(text, "latin1");
}

const PIECE_BYTES = 64 * 1024;

interface NameReader {
  readonly names: readonly FileName[];
  /** @returns what follows the end of the names, once it has come. @throws a name, or what comes before its end, is too much */
  push(bytes: Buffer): Buffer | undefined;
}

/** An empty name is the end of them. */
export function createNameReader(count: NameCount): NameReader {
  const names: FileName[] = [];
  let rest: Buffer = Buffer.alloc(0);
  return {
    names,
    push(bytes) {
      const all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes]);
      let at = 0;
      for (let nul = all.indexOf(0); nul >= 0; nul = all.indexOf(0, at)) {
        const name = all.toString("latin1", at, nul);
        at = nul + 1;
        if (name === "") return all.subarray(at);
        count.count(name);
        names.push(fileName(name));
      }
      rest = Buffer.from(all.subarray(at));
      if (rest.length > LONGEST_PATH_BYTES)
        throw new SystemFailure("a name that the process for the job's files tells of has no end");
      return undefined;
    },
  };
}
