import { readFile } from "node:fs/promises";
import { z } from "zod";
import type { JobUsage } from "../../../src/job/job.ts";
import { addUsage, groupMemory, groupOf, groupUsage } from "../../common/processes/group-usage.ts";
import type { Engine } from "../engine/engine.ts";

/** `one-shot`: an engine that does not know it measures for a second or two. */
const ONE_SHOT = [1, 41] as const;
const LIMIT_MS = 2000;

const statsSchema = z.object({
  cpu_stats: z.object({ cpu_usage: z.object({ total_usage: z.number().optional() }).nullish() }).nullish(),
  memory_stats: z
    .object({
      max_usage: z.number().optional(),
      usage: z.number().optional(),
      stats: z.object({ inactive_file: z.number().optional(), total_inactive_file: z.number().optional() }).nullish(),
    })
    .nullish(),
  blkio_stats: z
    .object({
      io_service_bytes_recursive: z.array(z.object({ op: z.string(), value: z.number() })).nullish(),
    })
    .nullish(),
});
const inspectSchema = z.object({ State: z.object({ Pid: z.number().default(0) }) });

/** Measures what containers use. */
export interface ContainerMeter {
  /** What those that run have used so far, and use now; of one that cannot be asked, nothing. */
  usage(ids: readonly string[], signal: AbortSignal): Promise<JobUsage>;
}

export function createContainerMeter(engine: Engine): ContainerMeter {
  /** Where the kernel of this machine counts for a container; `undefined`: not known. */
  const groups = new Map<string, Promise<string | undefined>>();
  const [major = 0, minor = 0] = engine.apiVersion.split(".").map(Number);
  const canTell = major > ONE_SHOT[0] || (major === ONE_SHOT[0] && minor >= ONE_SHOT[1]);

  const usageOf = async (id: string, signal: AbortSignal): Promise<JobUsage> => {
    const found = groups.get(id) ?? groupDirectory(engine, id, signal);
    groups.set(id, found);
    const dir = await found.catch(() => undefined);
    const group = dir === undefined ? () => "" : groupOf(dir);
    const counted = groupUsage(group);
    const memoryBytes = groupMemory(group);
    // A few small files instead of a question to the engine, where they tell all.
    if (counted.cpuSeconds !== undefined && memoryBytes !== undefined) return { ...counted, memoryBytes };
    return canTell ? { ...(await statsOf(engine, id, signal)), ...counted } : counted;
  };
  return {
    usage: async (ids, signal) => {
      const all = await Promise.all(ids.map((id) => usageOf(id, signal).catch((): JobUsage => ({}))));
      return all.reduce(addUsage, {});
    },
  };
}

async function statsOf(engine: Engine, id: string, signal: AbortSignal): Promise<JobUsage> {
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
  const { max_usage: peak = 0, usage: held = 0, stats } = memory_stats ?? {};
  // What the kernel would give back at once is not counted, by whichever of its two versions of control groups.
  const idle = stats?.total_inactive_file ?? stats?.inactive_file ?? 0;
  return {
    ...(nanoseconds === undefined ? {} : { cpuSeconds: nanoseconds / 1e9 }),
    ...(peak === 0 ? {} : { peakMemoryBytes: peak }),
    ...(held === 0 ? {} : { memoryBytes: Math.max(0, held - idle) }),
    ...(moved === null ? {} : { readBytes: bytes("read"), writtenBytes: bytes("write") }),
  };
}

/** The control group (version 2) of a container whose engine is on this machine. */
async function groupDirectory(engine: Engine, id: string, signal: AbortSignal): Promise<string | undefined> {
  if (!engine.local) return undefined;
  const { State } = inspectSchema.parse(
    await engine.call("look at a container", (docker) => docker.getContainer(id).inspect(), signal, LIMIT_MS),
  );
  if (State.Pid === 0) return undefined;
  const groups = await readFile(`/proc/${State.Pid}/cgroup`, "utf8").catch(() => "");
  const path = /^0::(\/.*)$/m.exec(groups)?.[1];
  // Up to the container's own: some engines have groups below it, and programs of the job may make more.
  const own = path === undefined ? null : new RegExp(`^.*${id}[^/]*`).exec(path);
  return own === null || own[0].split("/").includes("..") ? undefined : `/sys/fs/cgroup${own[0]}`;
}
