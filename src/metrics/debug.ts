import type { JobView } from "../board/contract.ts";
import type { HttpReply } from "../serving/http.ts";
import { peerWords } from "./peer-words.ts";

/** What the runner tells of itself to whoever may look inside. */
export interface DebugSources {
  jobs(): readonly JobView[];
  /** `starting`, `running`, `graceful-shutdown` or `forceful-shutdown`. */
  state(): string;
  /** Whether others may look than root and the runner's own account on this machine. */
  open(): boolean;
}

export const DEBUG_PATHS: ReadonlySet<string> = new Set(["/debug/jobs/list", "/debug/process/state"]);

/** Answers as GitLab Runner's, which programs around it read. */
export function debugReply(
  path: string,
  { jobs, state }: Pick<DebugSources, "jobs" | "state">,
  now: number,
): HttpReply {
  if (path === "/debug/process/state") return { status: 200, body: `${state()}\n` };
  const lines = jobs().map((view) => `${jobLine(view, now)}\n`);
  return { status: 200, headers: { "X-List-Version": "2" }, body: lines.join("") };
}

/** AlloyCI's jobs have no page of their own that their repository would lead to, so each line ends with the job's number. */
function jobLine({ id, page, progress, receivedAt, since }: JobView, now: number): string {
  const over = progress.at === "finished" || progress.at === "delivering";
  const pairs = { url: page, ...peerWords(progress), duration: goDuration((over ? since : now) - receivedAt), id };
  return Object.entries(pairs)
    .map(([key, value]) => `${key}=${value.replace(/\s/g, "")}`)
    .join(" ");
}

/** `1h2m3.4s` as Go writes it; less than a second in milliseconds. */
export function goDuration(ms: number): string {
  const whole = Math.max(0, Math.round(ms));
  if (whole === 0) return "0s";
  if (whole < 1000) return `${whole}ms`;
  const hours = Math.floor(whole / 3_600_000);
  const minutes = Math.floor(whole / 60_000) % 60;
  const seconds = `${(whole % 60_000) / 1000}s`;
  if (hours > 0) return `${hours}h${minutes}m${seconds}`;
  return minutes > 0 ? `${minutes}m${seconds}` : seconds;
}
