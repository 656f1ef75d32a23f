import type { VariableSpec } from "../../coordinator/jobs/job.ts";
import type { LoadedPlan } from "../load.ts";
import type { PlannedJob } from "../plan/plan.ts";
import { handedDown, loadChild, MOST_DEPTH, madeBy } from "./child.ts";

/** A child pipeline before anything runs, or a sentence about it. */
export type ForeseenChild =
  | { readonly plan: LoadedPlan; readonly children: ForeseenChildren }
  | { readonly remark: string }
  /** GitLab would make none: a line for each finding. */
  | { readonly problem: string };

/** By the name of the job that starts it. */
export type ForeseenChildren = ReadonlyMap<string, ForeseenChild>;

/** The child pipelines whose files are there before a job has run. */
export async function foreseeChildren(loaded: LoadedPlan): Promise<ForeseenChildren> {
  return await foresee(loaded, 0, []);
}

async function foresee(
  loaded: LoadedPlan,
  depth: number,
  handed: readonly VariableSpec[],
): Promise<ReadonlyMap<string, ForeseenChild>> {
  const children = new Map<string, ForeseenChild>();
  for (const job of loaded.plan.jobs) {
    const child = await foreseeChild(loaded, job, depth, handed);
    if (child !== undefined) children.set(job.name, child);
  }
  return children;
}

async function foreseeChild(
  loaded: LoadedPlan,
  job: PlannedJob,
  depth: number,
  handed: readonly VariableSpec[],
): Promise<ForeseenChild | undefined> {
  const { trigger } = job;
  if (trigger === null || trigger.project !== null) return undefined;
  if (depth >= MOST_DEPTH) return { problem: TOO_DEEP };
  const maker = madeBy(trigger);
  if (maker !== undefined) return { remark: `its pipeline is made by the job ${maker}` };
  const parentId = String(depth + 1);
  const { around } = loaded;
  const given = handedDown({ job, trigger, around, parentId, given: handed, reported: new Map() });
  const found = await loadChild(loaded, trigger, parentId, given, async () => ({ problem: "is not there yet" }));
  if ("problem" in found) return found;
  return { plan: found.found, children: await foresee(found.found, depth + 1, given) };
}

/** What a list says of a child whose jobs it does not show. */
export function remarkOn(child: ForeseenChild | undefined): string {
  if (child === undefined || "plan" in child) return "";
  return "remark" in child ? child.remark : `GitLab would not make its pipeline: ${child.problem}`;
}

export const TOO_DEEP = `child pipelines are at most ${MOST_DEPTH} below one another`;
