import type { JobLine } from "./protocol.ts";

/** Jobs in a word or two, the same for `jobs`, `top` and the page. */

export function doingOf(job: JobLine): string {
  if (job.state === "running") return job.stage ?? job.state;
  if (job.state === "finished") return `cleans up (${outcomeOf(job)})`;
  if (job.state === "delivering") return `reports (${outcomeOf(job)})`;
  return job.state;
}

export function outcomeOf({ outcome }: JobLine): string {
  if (outcome === undefined) return "unknown";
  if (outcome.result !== "failed") return outcome.result;
  if (outcome.reason === "script_failure" && outcome.exitCode !== undefined)
    return `failed, status ${outcome.exitCode}`;
  return `failed: ${outcome.reason ?? "unknown"}`;
}

/** Whether it goes on through a restart of the runner, and how often it has: `yes`, `adopted`, `adopted 3×`; empty where it does not. */
export function durableOf({ durable, adopted = 0 }: JobLine): string {
  if (adopted > 0) return adopted === 1 ? "adopted" : `adopted ${adopted}×`;
  return durable === true ? "yes" : "";
}

/** The same where no column's head says what it is about: `durable`, `durable, adopted 3×`. */
export function durableWords(job: JobLine): string {
  const word = durableOf(job);
  if (word === "") return "";
  return word === "yes" ? "durable" : `durable, ${word}`;
}

/** `7s`, `1m 3s`, `2h 5m`. */
export function elapsed(seconds: number): string {
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}m ${seconds % 60}s` : `${Math.floor(minutes / 60)}h ${minutes % 60}m`;
}

/** Of a job that runs, what it uses: `152%` of a processor; empty where that is not known. */
export function processorOf({ usage }: JobLine): string {
  return usage?.cpuPercent === undefined ? "" : `${usage.cpuPercent}%`;
}

/** Of a job that runs, what it holds: `312M`, `1.5G`; empty where that is not known. */
export function memoryOf({ usage }: JobLine): string {
  return usage?.memoryBytes === undefined ? "" : sizeOf(usage.memoryBytes);
}

export function sizeOf(bytes: number): string {
  return bytes < 1000 * 2 ** 20 ? `${Math.round(bytes / 2 ** 20)}M` : `${(bytes / 2 ** 30).toFixed(1)}G`;
}
