import type { Trust } from "../../../src/job/job.ts";

/** Directories of a slot, one for each trust: `0`, `0-protected`, `0-fork`. Which slot is taken is the same for all of them. */
export function slotName(slot: number | string, { level }: Pick<Trust, "level">): string {
  return `${slot}${slotSuffix(level)}`;
}

function slotSuffix(level: Trust["level"]): string {
  return level === "project" ? "" : `-${level}`;
}

/** All names of a slot. */
export function slotNames(slot: number | string): string[] {
  return (["project", "protected", "fork"] as const).map((level) => slotName(slot, { level }));
}
