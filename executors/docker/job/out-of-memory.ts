import { open } from "node:fs/promises";
import { z } from "zod";
import { pause } from "../../../src/time.ts";
import type { Engine } from "../engine/engine.ts";

/**
 * Whether the kernel took processes of a container away for want of memory, seen from outside: in its control group where the
 * engine works on this machine, else by the engine's word. Nothing of the image is asked.
 */
interface OutOfMemory {
  /** Processes that had to go since the container was looked at before; more than 0 where only that is known. */
  killed(signal: AbortSignal): Promise<number>;
}

const stateSchema = z.object({
  State: z.object({
    Pid: z.number().default(0),
    Running: z.boolean().default(false),
    OOMKilled: z.boolean().nullish(),
  }),
});

/** The engine hears of it a moment after the process's parent does. */
const LOOKS = 4;
const PAUSE_MS = 50;
const LARGEST_FILE_BYTES = 16 * 1024;

export function watchMemory(engine: Engine, id: string): OutOfMemory {
  let before = 0;
  let told = false;
  const look = async (signal: AbortSignal): Promise<z.output<typeof stateSchema>["State"]> => {
    const answer = await engine.call(
      "look at the build container",
      (docker, abortSignal) => docker.getContainer(id).inspect({ abortSignal }),
      signal,
    );
    return stateSchema.parse(answer).State;
  };
  return {
    killed: async (signal) => {
      const state = await look(signal);
      const counted = engine.local && state.Pid > 0 ? await countInGroup(state.Pid, id) : null;
      if (counted !== null) {
        // A container that was started again counts from 0.
        const more = counted < before ? counted : counted - before;
        before = counted;
        return more;
      }
      for (let found = state, looks = 1; !told; looks++) {
        if (found.OOMKilled === true) {
          told = true;
          return 1;
        }
        if (looks === LOOKS) break;
        await pause(PAUSE_MS, signal);
        found = await look(signal);
      }
      return 0;
    },
  };
}

/** `null`: this machine's process of that number is not in the container, or its group cannot be read. */
async function countInGroup(pid: number, id: string): Promise<number | null> {
  const groups = await head(`/proc/${pid}/cgroup`);
  for (const line of groups.split("\n")) {
    const [, controllers = "", path = ""] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (!path.includes(id) || path.split("/").includes("..")) continue;
    // cgroup v1 has a tree for each controller; v2 one for all, also beside those.
    const files = controllers.split(",").includes("memory")
      ? [`/sys/fs/cgroup/memory${path}/memory.oom_control`]
      : controllers === ""
        ? [`/sys/fs/cgroup${path}/memory.events`, `/sys/fs/cgroup/unified${path}/memory.events`]
        : [];
    for (const file of files) {
      const [, count] = /^oom_kill (\d{1,9})$/m.exec(await head(file)) ?? [];
      if (count !== undefined) return Number(count);
    }
  }
  return null;
}

/** The beginning of a file of the kernel's; empty where it cannot be read. */
async function head(path: string): Promise<string> {
  const file = await open(path, "r").catch(() => null);
  if (file === null) return "";
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(LARGEST_FILE_BYTES), 0, LARGEST_FILE_BYTES, 0);
    return buffer.toString("utf8", 0, bytesRead);
  } catch {
    return "";
  } finally {
    await file.close();
  }
}

/** @param memoryBytes the job's limit, where it has one */
export function outOfMemory(count: number, memoryBytes: number | undefined): string {
  const limit =
    memoryBytes === undefined
      ? "the machine has no memory left"
      : `the job may use ${formatBytes(memoryBytes)} (memory in [runners.docker])`;
  const killed = count === 1 ? "a process" : `${count} processes`;
  return `Out of memory: the kernel killed ${killed} of the job; ${limit}`;
}

export function formatBytes(bytes: number): string {
  const mebibytes = bytes / 2 ** 20;
  return mebibytes >= 1024 && mebibytes % 1024 === 0 ? `${mebibytes / 1024} GiB` : `${Math.round(mebibytes)} MiB`;
}
