import { uptime } from "node:os";
import type { FoundJob } from "../received.ts";

/** Milliseconds since a job of an earlier process came: by the machine's clock that no one can set, as far as that was noted. */
export function ageOf({ leftover, life }: FoundJob): number {
  const first = life.entries.find(({ kind }) => kind === "preparing");
  if (first?.kind === "preparing") return Math.max(0, uptime() - first.uptimeSeconds) * 1000;
  return Math.max(0, Date.now() - Date.parse(leftover.record.stored.acceptedAt));
}
