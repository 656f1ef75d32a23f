import { access, readFile } from "node:fs/promises";
import type { Config } from "../../config/config.ts";
import { type Finding, type Note, ok } from "./finding.ts";

const LEAST_DESCRIPTORS = 1024;
const LEAST_PROCESSES = 1024;
/** Where the kernel shows how long work waits for want of something (PSI). */
const PRESSURE = "/proc/pressure";

/** What the kernel lets the runner and its jobs have. Only Linux tells. */
export async function checkLimits(config: Config): Promise<Note[]> {
  if (process.platform !== "linux") return [];
  const limits = await readFile("/proc/self/limits", "latin1").catch(() => "");
  const most = (name: string): number =>
    Number(new RegExp(`^${name}\\s+(\\d+)`, "m").exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  const little = (of: string, value: number, remedy: string): Finding => ({
    severity: "warning",
    check: "limits",
    of,
    cause: `${value} is little for many jobs at once`,
    remedy,
  });
  const notes: Note[] = [];
  const [files, processes] = [most("Max open files"), most("Max processes")];
  if (files < LEAST_DESCRIPTORS) {
    notes.push(little("open files", files, "Raise LimitNOFILE of the service, or ulimit -n"));
  }
  if (processes < LEAST_PROCESSES) {
    notes.push(little("processes", processes, "Raise LimitNPROC of the service, or ulimit -u"));
  }
  return [...notes, ...(await pressure(config)), ...(await controlGroups(config))];
}

async function pressure({ admission: { maxMemoryPressure, maxCpuPressure } }: Config): Promise<Note[]> {
  const wanted = Object.entries({ memory: maxMemoryPressure, cpu: maxCpuPressure });
  const notes = wanted.map(async ([of, percent]): Promise<Note[]> => {
    if (percent === null || (await isThere(`${PRESSURE}/${of}`))) return [];
    const cause = `max_${of}_pressure has no effect: this kernel does not tell how long work waits (${PRESSURE}/${of})`;
    return [{ severity: "warning", check: "limits", of, cause, remedy: "Start it with psi=1, or remove the key" }];
  });
  return (await Promise.all(notes)).flat();
}

/** What is known of jobs on this machine itself goes by them. */
async function controlGroups({ runners }: Config): Promise<Note[]> {
  if (!runners.some(({ executor }) => executor === "shell")) return [];
  const controllers = await readFile("/sys/fs/cgroup/cgroup.controllers", "latin1").catch(() => null);
  const cause =
    controllers === null
      ? "not those of version 2: what jobs use is counted from the processes that run at the moment"
      : `version 2 with ${controllers.trim() || "no controller"}`;
  return [ok("control groups", "", cause)];
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false,
  );
}
