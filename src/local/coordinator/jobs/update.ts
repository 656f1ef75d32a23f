import { nowMs } from "../channel.ts";
import type { BodyLimits } from "../http/body.ts";
import type { Call } from "../http/http.ts";
import { tableAt, textAt, type Wire } from "../http/wire.ts";
import type { LocalUpdate } from "./job.ts";
import type { JobRecord } from "./job-record.ts";
import { createUpdateReader } from "./update-body.ts";

/** The body of PUT jobs/:id, its trace already in the place where it would be stored. */
export interface Update {
  readonly fields: Wire;
  readonly trace: { readonly bytes: number; readonly hasNul: boolean; commit(): void } | undefined;
}

/** @returns the update, or why there is none: `malformed` is not JSON */
export async function readUpdate(
  call: Call,
  job: JobRecord | undefined,
  limits: BodyLimits,
): Promise<Update | "malformed" | "too_large" | "gone"> {
  let storage = job?.replaceTrace();
  let trace: { bytes: number; hasNul: boolean; commit(): void } | undefined;
  const reader = createUpdateReader({
    begin() {
      storage = job?.replaceTrace();
      const target = storage;
      trace = { bytes: 0, hasNul: false, commit: () => target?.commit() };
    },
    write(text) {
      storage?.write(text);
      if (trace === undefined) return;
      trace.bytes += Buffer.byteLength(text);
      trace.hasNul ||= text.includes("\0");
    },
  });
  let fields: Wire;
  try {
    const end = await call.body(limits, (chunk) => reader.write(chunk));
    if (end === "too_large") return "too_large";
    if (end !== "complete") return "gone";
    fields = reader.end();
  } catch (error) {
    if (error instanceof SyntaxError) return "malformed";
    throw error;
  }
  return { fields: { ...Object.fromEntries(call.query), ...fields }, trace };
}

/** What is remembered of an update that was answered with `status`. */
export function noteUpdate(job: JobRecord, { fields, trace }: Update, status: number): void {
  const output = tableAt(fields, "output");
  const { trace: _, ...body } = fields;
  const update: LocalUpdate = {
    at: nowMs(),
    state: fields.state,
    failureReason: textAt(fields, "failure_reason"),
    exitCode: typeof fields.exit_code === "number" ? fields.exit_code : undefined,
    checksum: textAt(output, "checksum") ?? textAt(fields, "checksum"),
    bytes: typeof output.bytesize === "number" ? output.bytesize : undefined,
    traceBytes: trace?.bytes,
    status,
    body,
  };
  job.addUpdate(update);
}
