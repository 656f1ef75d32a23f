import { readFileSync } from "node:fs";

/**
 * When processes started that were looked at before, for as long as no number can have gone to another one: to read that of each
 * process of the machine at the end of each job takes longer than many a job.
 */
export interface StartTimes {
  /** To be called before the numbers are listed. What could have gone to another process since is forgotten. */
  refresh(): void;
  get(pid: number): number | undefined;
  set(pid: number, startedAt: number): void;
}

/**
 * Linux gives numbers in a circle: one is given anew only after all the others that are free. So long as there were fewer starts
 * than that, a number is whose it was.
 */
export function createStartTimes(proc: string): StartTimes {
  const known = new Map<number, number>();
  let startsBefore = Number.NaN;
  const read = (name: string): string => {
    try {
      return readFileSync(`${proc}/${name}`, "latin1");
    } catch {
      return "";
    }
  };
  return {
    refresh: () => {
      const highest = Number(/^(\d+)$/m.exec(read("sys/kernel/pid_max"))?.[1] ?? Number.NaN);
      const threads = Number(/^\S+ \S+ \S+ \d+\/(\d+) /.exec(read("loadavg"))?.[1] ?? Number.NaN);
      // Of processes and threads, in this place and in all others of the machine.
      const starts = Number(/^processes (\d+)$/m.exec(read("stat"))?.[1] ?? Number.NaN);
      if (starts - startsBefore < highest / 4 && threads < highest / 2) return;
      known.clear();
      startsBefore = starts;
    },
    get: (pid) => known.get(pid),
    set: (pid, startedAt) => void known.set(pid, startedAt),
  };
}
