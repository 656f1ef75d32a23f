import type { Plan, PlannedJob } from "../gitlab/plan/plan.ts";
import type { CiFile, CiJob } from "./ci-file.ts";
import { runsOn } from "./ci-refs.ts";

/**
 * The pipeline that AlloyCI makes of its file for a push of `ref`, a full one.
 * @param named jobs that somebody asked for: they run whatever their refs say, and after a failure if they wait for one
 */
export function planFile(file: CiFile, ref: string, named: ReadonlySet<string>): Plan {
  const chosen = file.jobs.filter((job) => named.has(job.name) || runsOn(job, ref));
  const stages = file.stages.filter((stage) => chosen.some((job) => job.stage === stage));
  return {
    stages,
    jobs: stages.flatMap((stage) =>
      chosen.flatMap((job) => (job.stage === stage ? [planned(job, file, ref, named.has(job.name))] : [])),
    ),
    absent: file.jobs
      .filter((job) => !chosen.includes(job))
      .map(({ name, stage }) => ({ name, stage, why: `not for ${ref}` })),
    refusal: chosen.length === 0 ? `No job of ${file.file} runs on ${ref}` : null,
    name: null,
    cancelOnFailure: false,
  };
}

function planned(job: CiJob, { file }: CiFile, ref: string, isNamed: boolean): PlannedJob {
  const variables = Object.entries(job.variables).map(([key, value]) => ({ key, value: textOf(value), raw: false }));
  return {
    name: job.name,
    group: job.name,
    stage: job.stage,
    when: isNamed && job.when === "on_failure" ? "always" : job.when,
    allowFailure: job.allowFailure,
    blocks: false,
    // Such a job starts with the pipeline, whatever its stage is.
    needs: job.when === "always" && !isNamed ? [] : null,
    upstream: [],
    dependencies: job.dependencies,
    image: typeof job.image === "string" ? { name: job.image } : (job.image ?? null),
    services: job.services.map((service) => (typeof service === "string" ? { name: service } : service)),
    script: job.script,
    afterScript: typeof job.afterScript === "string" ? [job.afterScript] : (job.afterScript ?? []),
    beforeSources: [],
    ownVariables: variables,
    variables,
    parallel: null,
    retry: null,
    timeoutSeconds: null,
    startInSeconds: null,
    caches:
      job.cache === undefined
        ? []
        : [{ key: textOf(job.cache.key ?? "default"), paths: textsOf(job.cache.paths), wire: job.cache }],
    artifacts:
      job.artifacts === undefined ? null : { paths: textsOf(job.artifacts.paths), dotenv: [], wires: [job.artifacts] },
    environment: null,
    tags: job.tags ?? [],
    resourceGroup: null,
    interruptible: false,
    coverage: null,
    trigger: null,
    rule: ruleOf(job, ref),
    leftOut: [],
    place: { file, line: job.line, column: 1 },
  };
}

/** What the file says of the refs that a job is for; `null`: nothing. */
function ruleOf(job: CiJob, ref: string): string | null {
  const { only, except } = job;
  if (!runsOn(job, ref)) return `not for ${ref}; it runs as it was named`;
  const parts = [
    only === null ? "" : `only: ${only.join(", ")}`,
    except.length === 0 ? "" : `except: ${except.join(", ")}`,
  ].filter((part) => part !== "");
  return parts.length === 0 ? null : parts.join("; ");
}

function textOf(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function textsOf(value: unknown): string[] {
  if (typeof value === "string") return [value];
  return Array.isArray(value) ? value.map(textOf) : [];
}
