import type { JobWhen } from "../plan/plan.ts";

/** Where a job of a pipeline stands. */
export type JobState = "created" | "running" | "success" | "failed" | "canceled" | "skipped" | "manual" | "scheduled";

/** What those after a job see of it. */
export interface Standing {
  readonly state: JobState;
  /** Its failure counts as success; a job that waits for a person need not be waited for. */
  readonly forgiven: boolean;
}

/** What several jobs are together. */
export type Composite = "success" | "skipped" | "created" | "canceled" | "running" | "manual" | "scheduled" | "failed";

/**
 * GitLab's word for several jobs, the first that fits.
 * @param asNeeds they are what a job needs: then one that is skipped decides at once
 */
export function composite(standings: readonly Standing[], asNeeds: boolean): Composite {
  if (standings.length === 0) return "success";
  const words = standings.map(({ state, forgiven }) => {
    if (forgiven && (state === "failed" || state === "canceled")) return "warning";
    return forgiven && state === "manual" ? "ignored" : state;
  });
  const some = (...wanted: readonly string[]): boolean => words.some((word) => wanted.includes(word));
  const only = (...wanted: readonly string[]): boolean => words.every((word) => wanted.includes(word));
  if (asNeeds && some("skipped", "ignored")) return "skipped";
  if (only("skipped", "ignored")) return "skipped";
  if (only("success", "warning", "skipped", "ignored")) return "success";
  if (only("created", "warning", "ignored")) return "created";
  if (only("canceled", "success", "skipped", "warning", "ignored")) return "canceled";
  if (some("running")) return "running";
  if (some("manual")) return "manual";
  if (some("scheduled")) return "scheduled";
  return some("created") ? "running" : "failed";
}

/** What a job that has not begun does, as those before it are. `wait`: nothing is decided yet. */
export type Move = "start" | "skip" | "wait";

export function moveOf(when: JobWhen, before: Composite, asNeeds: boolean): Move {
  if (before !== "success" && before !== "failed" && before !== "canceled" && before !== "skipped") return "wait";
  const fits: readonly Composite[] =
    when === "always"
      ? ["success", "failed", "skipped"]
      : when === "on_failure"
        ? ["failed"]
        : asNeeds
          ? ["success"]
          : ["success", "skipped"];
  return fits.includes(before) ? "start" : "skip";
}

/** What a job that waits for its pipeline becomes by it. */
export function stateBy(
  strategy: "depend" | "mirror",
  word: Composite,
): "success" | "failed" | "canceled" | "skipped" | "manual" {
  if (word === "success" || word === "failed" || word === "manual") return word;
  if (strategy === "depend") return "failed";
  return word === "canceled" ? "canceled" : "skipped";
}
