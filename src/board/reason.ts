import type { DiskState, RunnerActivity } from "./contract.ts";

/** Why an entry takes no job at the moment, in the words of `jobs`, `top` and whatever else shows it. */
export function reasonOf(activity: RunnerActivity, now: number): string {
  switch (activity.at) {
    case "starting":
      return "about to ask";
    case "asking":
      return `asking the coordinator${longer(now - activity.since)}`;
    case "idle":
      return `the coordinator had nothing ${ago(now - activity.answeredAt)}`;
    case "slot":
      if (activity.held === "requests") return "another request is under way";
      if (activity.held === "weight") return `its weight is too much for now: max_weight is ${activity.most}`;
      return `${activity.held} of ${activity.most} reached`;
    case "full":
      return "its executor has no room for one more job";
    case "disk":
      return diskReason(activity);
    case "place":
      return `no job could run: ${activity.problem}`;
    case "pressure":
      return `${activity.of}: work waits for it ${Math.round(activity.percent)} % of the time, at most ${activity.most} % (max_${activity.of}_pressure)`;
    case "breaker":
      return `the last ${activity.failures} jobs could not be prepared; trying one at ${clock(activity.until)}`;
    case "trial":
      return "the last jobs could not be prepared; one is tried at a time";
    case "backing off":
      return `backing off until ${clock(activity.until)}: ${activity.problem}`;
    case "refused":
      return `its token is not accepted (${activity.status}); asking again at ${clock(activity.until)}`;
    case "paused":
      return "paused";
    case "leaving":
      return "asks no more; its last jobs run";
    case "unusable":
      return `cannot be used: ${activity.problem}`;
  }
}

/** The same for places that anybody may read: without addresses and lines of the configuration. */
export function briefReasonOf(activity: RunnerActivity, now: number): string {
  if (activity.at === "backing off") return `backing off until ${clock(activity.until)}`;
  if (activity.at === "unusable") return "cannot be used";
  if (activity.at === "place") return "no job could run: what its jobs run on does not answer";
  if (activity.at === "disk") return diskReason({ ...activity, directory: undefined });
  return reasonOf(activity, now);
}

/** Whether a job may come any moment, or will once one that runs has ended. */
export function takesJobs({ at }: RunnerActivity): boolean {
  return at === "starting" || at === "asking" || at === "idle" || at === "slot" || at === "full" || at === "trial";
}

function diskReason(disk: Omit<DiskState, "directory"> & { readonly directory?: string | undefined }): string {
  const { directory, freeBytes, minFreeBytes, freeInodes = 0, minFreeInodes = 0 } = disk;
  if (freeBytes === undefined) return "disk: state_dir cannot be written";
  const where = directory === undefined ? "disk" : `disk of ${directory}`;
  if (freeBytes < minFreeBytes)
    return `${where}: ${gigabytes(freeBytes)} free, min_free_disk ${gigabytes(minFreeBytes)}`;
  if (freeInodes < minFreeInodes) return `${where}: ${freeInodes} inodes free, min_free_inodes ${minFreeInodes}`;
  return `${where}: barely more free than min_free_disk and min_free_inodes`;
}

function gigabytes(bytes: number): string {
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

function ago(ms: number): string {
  return ms < 1000 ? "just now" : `${seconds(ms)} ago`;
}

function longer(ms: number): string {
  return ms < 1000 ? "" : ` for ${seconds(ms)}`;
}

function seconds(ms: number): string {
  const whole = Math.floor(ms / 1000);
  return whole < 120 ? `${whole} s` : `${Math.floor(whole / 60)} min`;
}

/** `12:03:07`, in local time. */
function clock(time: number): string {
  const date = new Date(time);
  return [date.getHours(), date.getMinutes(), date.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
}
