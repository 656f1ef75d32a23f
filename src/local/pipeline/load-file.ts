import type { LoadedPlan } from "../gitlab/load.ts";
import type { Plan } from "../gitlab/plan/plan.ts";
import { nodeOf, type Table } from "../gitlab/read/node.ts";
import type { CiFile, CiJob } from "./ci-file.ts";
import type { PipelineProject } from "./pipeline-project.ts";

/** AlloyCI's file with its plan, in the form in which pipelines are shown and run. */
export function loadedFile(
  file: CiFile,
  plan: Plan,
  project: Pick<PipelineProject, "ref" | "refType" | "name">,
): LoadedPlan {
  const { ref, refType = "branch", name = "project" } = project;
  return {
    table: tableOf(file),
    plan,
    around: {
      source: "push",
      ref: ref.replace(/^refs\/(?:heads|tags)\//, ""),
      refType: ref.startsWith("refs/tags/") ? "tag" : refType,
      predefined: new Map(),
      given: new Map(),
      changed: null,
      comparisons: new Map(),
      files: [],
      project: `local/${name}`,
    },
    warnings: file.warnings,
    hints: [],
    child: async () => {
      throw new Error("No job of AlloyCI's file starts a pipeline");
    },
  };
}

/** The file with what its jobs take over from its top. */
function tableOf(file: CiFile): Table {
  const place = { file: file.file, line: 1, column: 1 };
  const entries = [
    ["stages", { place, textual: true, value: nodeOf([...file.stages], place) }] as const,
    ...file.jobs.map((job) => {
      const own = { file: file.file, line: job.line, column: 1 };
      return [job.name, { place: own, textual: true, value: nodeOf(written(job), own) }] as const;
    }),
  ];
  return { kind: "table", entries: new Map(entries), place };
}

function written(job: CiJob): Record<string, unknown> {
  const { stage, script, image, services, variables, cache, artifacts, tags, only, except, when, dependencies } = job;
  return {
    stage,
    ...(image === undefined ? {} : { image }),
    ...(services.length === 0 ? {} : { services }),
    ...(Object.keys(variables).length === 0 ? {} : { variables }),
    script,
    ...(job.afterScript === undefined ? {} : { after_script: job.afterScript }),
    ...(cache === undefined ? {} : { cache }),
    ...(artifacts === undefined ? {} : { artifacts }),
    ...(dependencies === null ? {} : { dependencies }),
    ...(tags === null ? {} : { tags }),
    ...(only === null ? {} : { only }),
    ...(except.length === 0 ? {} : { except }),
    ...(when === "on_success" ? {} : { when }),
    ...(job.allowFailure ? { allow_failure: true } : {}),
  };
}
