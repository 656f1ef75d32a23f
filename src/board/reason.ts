import type { RunnerActivity } from "./contract.ts";

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
      return `${activity.held} of ${activity.most} reached`;
    case "full":
      return "its executor has no room for one more job";
    case "disk":
      return diskReason(activity.freeBytes, activity.minFreeBytes);
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
  return reasonOf(activity, now);
}

/** Whether a job may come any moment, or will once one that runs has ended. */
export function takesJobs({ at }: RunnerActivity): boolean {
  return at === "starting" || at === "asking" || at === "idle" || at === "slot" || at === "full";
}

function diskReason(freeBytes: number | undefined, minFreeBytes: number): string {
  if (freeBytes === undefined) return "disk: state_dir cannot be written";
  if (freeBytes >= minFreeBytes) return "disk: no inode is free";
  return `disk: ${gigabytes(freeBytes)} free, min_free_disk ${gigabytes(minFreeBytes)}`;
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
