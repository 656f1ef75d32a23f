import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { JobUsage } from "../../../src/executor.ts";
import { addUsage, groupUsage } from "../../common/processes/group-usage.ts";
import type { Engine } from "../engine/engine.ts";

/** `one-shot`: an engine that does not know it measures for a second or two. */
const ONE_SHOT = [1, 41] as const;
const LIMIT_MS = 2000;

const statsSchema = z.object({
  cpu_stats: z.object({ cpu_usage: z.object({ total_usage: z.number().optional() }).nullish() }).nullish(),
  memory_stats: z.object({ max_usage: z.number().optional() }).nullish(),
  blkio_stats: z
    .object({
      io_service_bytes_recursive: z.array(z.object({ op: z.string(), value: z.number() })).nullish(),
    })
    .nullish(),
});
const inspectSchema = z.object({ State: z.object({ Pid: z.number().default(0) }) });

/** What containers that run have used so far; of one that cannot be asked, nothing. */
export async function containersUsage(engine: Engine, ids: readonly string[], signal: AbortSignal): Promise<JobUsage> {
  const [major = 0, minor = 0] = engine.apiVersion.split(".").map(Number);
  if (major < ONE_SHOT[0] || (major === ONE_SHOT[0] && minor < ONE_SHOT[1])) return {};
  const all = await Promise.all(ids.map((id) => usageOf(engine, id, signal).catch((): JobUsage => ({}))));
  return all.reduce(addUsage, {});
}

async function usageOf(engine: Engine, id: string, signal: AbortSignal): Promise<JobUsage> {
  const answer: unknown = await engine.call(
    "measure a container",
    (docker) => docker.getContainer(id).stats({ stream: false, "one-shot": true }),
    signal,
    LIMIT_MS,
  );
  const { cpu_stats, memory_stats, blkio_stats } = statsSchema.parse(answer);
  const nanoseconds = cpu_stats?.cpu_usage?.total_usage;
  const moved = blkio_stats?.io_service_bytes_recursive ?? null;
  const bytes = (wanted: string): number =>
    (moved ?? []).reduce((sum, { op, value }) => sum + (op.toLowerCase() === wanted ? value : 0), 0);
  const peak = memory_stats?.max_usage ?? (await peakOf(engine, id, signal));
  return {
    ...(nanoseconds === undefined ? {} : { cpuSeconds: nanoseconds / 1e9 }),
    ...(peak === undefined || peak === 0 ? {} : { peakMemoryBytes: peak }),
    ...(moved === null ? {} : { readBytes: bytes("read"), writtenBytes: bytes("write") }),
  };
}

/** With control groups of version 2 the engine has only what is in use now; the kernel of this machine knows more. */
async function peakOf(engine: Engine, id: string, signal: AbortSignal): Promise<number | undefined> {
  if (!engine.local) return undefined;
  const { State } = inspectSchema.parse(
    await engine.call("look at a container", (docker) => docker.getContainer(id).inspect(), signal, LIMIT_MS),
  );
  if (State.Pid === 0) return undefined;
  const groups = await readFile(`/proc/${State.Pid}/cgroup`, "utf8").catch(() => "");
  const path = /^0::(\/.*)$/m.exec(groups)?.[1];
  if (path === undefined || !path.includes(id) || path.split("/").includes("..")) return undefined;
  return groupUsage(`/sys/fs/cgroup${path}`).peakMemoryBytes;
}
