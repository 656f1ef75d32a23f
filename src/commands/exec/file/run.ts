import { createHash } from "node:crypto";
import { copyFile, mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { LocalJob } from "../../../local/coordinator/jobs/job.ts";
import { slug } from "../../../local/gitlab/around/predefined.ts";
import type { RunPlanOptions } from "../../../local/gitlab/run/run-plan.ts";
import { fetchVariables, type Snapshot } from "../../../local/sources/snapshot.ts";
import type { Work } from "../engine.ts";
import { predefined } from "./alloy.ts";

/** Puts what a job uploaded where it was asked for: a directory per job, whatever the job is called. */
export function keepArtifacts(dir: string, cwd: string): (name: string, local: LocalJob) => Promise<void> {
  return async (job, local) => {
    if (local.artifacts.length === 0) return;
    const digest = createHash("sha256").update(job).digest("hex").slice(0, 6);
    const own = slug(job) === job ? job : `${slug(job) || "job"}-${digest}`;
    const folder = join(resolve(cwd, dir), own);
    await mkdir(folder, { recursive: true });
    for (const artifact of local.artifacts) {
      const name = artifact.filename.replace(/^.*[/\\]/, "");
      await copyFile(artifact.path, join(folder, name === "" || name === ".." || name === "." ? "artifacts" : name));
    }
  };
}

/** What the jobs have in common, those of child pipelines among them. */
export function runSpec(
  { dialect, loaded, chosen, isPlayed }: Work,
  snapshot: Snapshot,
  handed: Omit<RunSpec["handed"], "dialect" | "runnerVariables">,
): RunSpec {
  const { sha } = snapshot;
  return {
    loaded,
    chosen,
    isPlayed,
    // Jobs work on the files of the working tree, which are committed for them as a commit of its own.
    overrides: new Map([
      ["CI_COMMIT_SHA", sha],
      ["CI_COMMIT_SHORT_SHA", sha.slice(0, 8)],
    ]),
    handed: {
      ...handed,
      dialect,
      runnerVariables: dialect === "alloy" ? predefined(snapshot) : fetchVariables(snapshot),
    },
  };
}

export type RunSpec = Pick<RunPlanOptions, "loaded" | "chosen" | "isPlayed" | "overrides" | "handed">;
