import { z } from "zod";
import type { FinalReport, StoredJob } from "../contract.ts";
import { failureReason, note } from "./words.ts";

/** What a key may look like: it names a directory, and the marks of processes and containers. */
export const keyShape = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

const path = z.string().nullable();

const storedJob: z.ZodType<StoredJob> = z.object({
  key: z.string().regex(keyShape),
  id: z.string().min(1),
  token: z.string(),
  dialect: z.enum(["alloy", "gitlab"]),
  stamped: z.boolean().optional(),
  debugTrace: z.boolean().optional(),
  title: z.string(),
  runner: z.object({
    id: z.string(),
    name: z.string(),
    token: z.string(),
    url: z.url(),
    tlsCaFile: path,
    tlsCertFile: path,
    tlsKeyFile: path,
    certsDir: z.string(),
  }),
  executor: z.string(),
  knownReasons: z.array(z.string()),
  acceptedAt: z.string(),
  boot: z.string(),
});

const finalReport: z.ZodType<FinalReport> = z.object({
  state: z.enum(["success", "failed"]),
  reason: failureReason.nullable(),
  exitCode: z.number().int().nullable(),
  at: z.string(),
});

const entry = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("accepted"), job: storedJob }),
  z.object({ kind: z.literal("note"), note }),
  z.object({ kind: z.literal("died"), offset: z.number().int().nonnegative() }),
  z.object({ kind: z.literal("finished"), report: finalReport }),
]);

/** One line of a record file. */
export type RecordEntry = z.infer<typeof entry>;

/** `null`: nothing that this runner writes. */
export function parseEntry(value: unknown): RecordEntry | null {
  return entry.safeParse(value).data ?? null;
}

const acknowledgement = z.object({ offset: z.number().int().nonnegative() });

export function parseAcknowledgement(value: unknown): number {
  return acknowledgement.safeParse(value).data?.offset ?? 0;
}
