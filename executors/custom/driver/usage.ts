import { join } from "node:path";
import { z } from "zod";
import type { JobUsage } from "../../../src/job/job.ts";
import { saidIn } from "./said-file.ts";

/** Where a program may write what its script has used: only the driver knows where that ran. */
export function usageFile(callDir: string): string {
  return join(callDir, "job_usage");
}

const amount = z.number().nonnegative().optional().catch(undefined);
const schema = z.object({
  cpu_seconds: amount,
  peak_memory_bytes: amount,
  read_bytes: amount,
  written_bytes: amount,
});

/** What stands in that file; nothing where there is none, and without what cannot be read. */
export async function readUsage(callDir: string): Promise<JobUsage> {
  const read = schema.safeParse(jsonOf((await saidIn(usageFile(callDir))) ?? ""));
  if (!read.success) return {};
  const { cpu_seconds, peak_memory_bytes, read_bytes, written_bytes } = read.data;
  return {
    ...(cpu_seconds === undefined ? {} : { cpuSeconds: cpu_seconds }),
    ...(peak_memory_bytes === undefined ? {} : { peakMemoryBytes: peak_memory_bytes }),
    ...(read_bytes === undefined ? {} : { readBytes: read_bytes }),
    ...(written_bytes === undefined ? {} : { writtenBytes: written_bytes }),
  };
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
