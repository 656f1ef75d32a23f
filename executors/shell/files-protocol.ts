import { z } from "zod";
import { type FileName, fileName } from "../../src/workspace.ts";

/**
 * What the runner and its second process say to each other. stdin: the length of the request as 8 hex digits, the request as
 * JSON and, to unpack, a tar. stdout: the result as JSON, or the tar. stderr: a line of JSON for each `Remark`.
 */

const name = z.string().transform((text): FileName => fileName(text));
const places = { root: z.string(), tmpDir: z.string() };

export const requestSchema = z.discriminatedUnion("do", [
  z.object({
    do: z.literal("list"),
    ...places,
    select: z.object({ globs: z.array(z.string()), exclude: z.array(z.string()), untracked: z.boolean() }),
  }),
  z.object({ do: z.literal("pack"), ...places, paths: z.array(name) }),
  z.object({
    do: z.literal("unpack"),
    ...places,
    limits: z.object({ bytes: z.number(), entries: z.number(), freeBytes: z.number() }),
  }),
]);
export type FilesRequest = z.infer<typeof requestSchema>;

export const listSchema = z.object({
  paths: z.array(name),
  bytes: z.number(),
  fingerprint: z.string(),
  unpackedFingerprint: z.string(),
  notes: z.array(z.string()),
  warnings: z.array(z.string()),
});

export const reportSchema = z.object({ entries: z.number(), bytes: z.number(), warnings: z.array(z.string()) });

export const remarkSchema = z.union([
  z.object({ warning: z.string() }),
  z.object({ error: z.object({ blame: z.enum(["script", "system"]), message: z.string() }) }),
]);
export type Remark = z.infer<typeof remarkSchema>;

/** Name of the command of `main.ts` that is the second process. */
export const FILES_COMMAND = "internal-files";
/** Digits before a request. */
export const LENGTH_DIGITS = 8;

export function encodeRequest(request: FilesRequest): Buffer {
  const json = Buffer.from(JSON.stringify(request));
  return Buffer.concat([Buffer.from(json.length.toString(16).padStart(LENGTH_DIGITS, "0")), json]);
}
