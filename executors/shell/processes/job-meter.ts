import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import type { JobUsage } from "../../../src/job/job.ts";
import { addUsage, groupMemory, groupOf, groupUsage } from "../../common/processes/group-usage.ts";
import type { Cgroup } from "./cgroup.ts";
import type { Process, ProcessTable } from "./process-table.ts";

/** What one job uses, by what its scripts run in. */
export interface JobMeter {
  group(cgroup: Cgroup): void;
  /** Its script has ended; it is not removed yet. */
  groupEnded(cgroup: Cgroup): void;
  shell(pid: number): void;
  shellEnded(pid: number): void;
  usage(): Promise<JobUsage>;
}

/** @param grouped each script has a control group; else only what runs at the moment can be measured */
export function createJobMeter(table: ProcessTable, grouped: boolean): JobMeter {
  const groups = new Set<Cgroup>();
  const shells = new Set<number>();
  let used: JobUsage = {};
  return {
    group: (cgroup) => void groups.add(cgroup),
    groupEnded: (cgroup) => {
      groups.delete(cgroup);
      used = addUsage(used, groupUsage(groupOf(cgroup.dir)));
    },
    shell: (pid) => void shells.add(pid),
    shellEnded: (pid) => void shells.delete(pid),
    usage: async () => {
      if (!grouped) return await usageOfShells(table, shells);
      const now = await Promise.all([...groups].map(usageInGroup));
      return now.reduce(addUsage, used);
    },
  };
}

/** What the processes of a script use that runs in this control group. */
async function usageInGroup(cgroup: Cgroup): Promise<JobUsage> {
  // Where control groups count no memory the processes themselves do.
  const memoryBytes = groupMemory(groupOf(cgroup.dir)) ?? (await processesUsage(cgroup.pids())).memoryBytes;
  return { ...groupUsage(groupOf(cgroup.dir)), ...(memoryBytes === undefined ? {} : { memoryBytes }) };
}

/** What these shells use, and what they have started, as far as that can be followed from parent to child. */
async function usageOfShells(table: ProcessTable, shells: ReadonlySet<number>): Promise<JobUsage> {
  if (shells.size === 0) return {};
  const all = await table.list();
  const members = new Set<number>();
  const belongs = (one: Process): boolean =>
    shells.has(one.pid) || shells.has(one.session) || shells.has(one.group) || members.has(one.parent);
  for (let before = -1; before !== members.size; ) {
    before = members.size;
    for (const one of all) if (belongs(one)) members.add(one.pid);
  }
  return await processesUsage([...members]);
}

/** Of these processes together, with those of their children that have ended. */
async function processesUsage(pids: readonly number[]): Promise<JobUsage> {
  if (pids.length === 0) return {};
  return process.platform === "linux"
    ? pids.map((pid) => usageByStat(pid)).reduce(addUsage, {})
    : await usageByPs(pids).catch(() => ({}));
}

/** Linux counts in hundredths of a second for programs, whatever its own clock is. */
const TICKS = 100;

function usageByStat(pid: number): JobUsage {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // `pid (name) state parent …`; the name may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0);
    return { cpuSeconds: ticks / TICKS, memoryBytes: kib * 1024 };
  } catch {
    return {};
  }
}

const PS = { env: { LC_ALL: "C", PATH: "/bin:/usr/bin" }, timeout: 2000, maxBuffer: 16 * 2 ** 20 };

async function usageByPs(pids: readonly number[]): Promise<JobUsage> {
  const { stdout } = await promisify(execFile)("ps", ["-o", "time=,rss=", "-p", pids.join(",")], PS);
  return psUsage(stdout);
}

/** `0:01.23 5120`, `1-02:03:04 5120`: processor time and KiB of each process. */
export function psUsage(text: string): JobUsage {
  const lines = [...text.matchAll(/^\s*(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)\s+(\d+)\s*$/gm)];
  return lines
    .map(([, days = 0, hours = 0, minutes = 0, seconds = 0, kib = 0]) => ({
      cpuSeconds: ((Number(days) * 24 + Number(hours)) * 60 + Number(minutes)) * 60 + Number(seconds),
      memoryBytes: Number(kib) * 1024,
    }))
    .reduce<JobUsage>(addUsage, {});
}
