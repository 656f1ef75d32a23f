import type { JobUsage } from "../../../src/job/job.ts";
import { addUsage, groupMemory, groupUsage } from "../../common/processes/group-usage.ts";
import { type RemoteCommands, runToEnd } from "../../remote/index.ts";
import { ACCOUNT } from "./containers/places-program.ts";

/** What the job uses in its pod. */
export interface PodMeter {
  /** A script of the job runs until that is disposed of. */
  script(): Disposable;
  /** Told by the attendant of a script that has ended. */
  used(usage: JobUsage): void;
  usage(signal: AbortSignal): Promise<JobUsage>;
}

/** Whoever looks at a job that runs has the cluster asked that often: each answer takes a program in the pod. */
const AGAIN_MS = 10_000;
const MOST_BYTES = 64 * 1024;

/** Measures by the control groups of these containers; where they cannot be read, only what scripts have used is known. */
export function createPodMeter(containers: readonly RemoteCommands[], now = (): number => performance.now()): PodMeter {
  let running = 0;
  let byScripts: JobUsage = {};
  let last: { readonly at: number; readonly usage: JobUsage } | null = null;

  const look = async (commands: RemoteCommands, signal: AbortSignal): Promise<JobUsage> => {
    const { stdout } = await runToEnd(commands, { script: ACCOUNT, args: [] }, MOST_BYTES, signal);
    const files = new Map<string, string>();
    for (const part of stdout.toString("latin1").split(/^=/m)) {
      const end = part.indexOf("\n");
      files.set(part.slice(0, end), part.slice(end + 1));
    }
    const read = (file: string): string => files.get(file) ?? "";
    const memoryBytes = groupMemory(read);
    return { ...groupUsage(read), ...(memoryBytes === undefined ? {} : { memoryBytes }) };
  };
  return {
    script() {
      running++;
      return { [Symbol.dispose]: () => void running-- };
    },
    used: (usage) => {
      byScripts = addUsage(byScripts, usage);
    },
    usage: async (signal) => {
      if (running > 0 && last !== null && now() - last.at < AGAIN_MS) return last.usage;
      const all = await Promise.all(containers.map((one) => look(one, signal).catch((): JobUsage => ({}))));
      const usage = { ...byScripts, ...all.reduce(addUsage, {}) };
      last = { at: now(), usage };
      return usage;
    },
  };
}
