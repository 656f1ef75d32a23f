import { padToWidth, printable, textWidth } from "../../report/text-width.ts";
import type { Plan, PlannedJob } from "../plan/plan.ts";

/** The jobs of a pipeline in columns: stage, job, when, why. @param all also those that are not in it */
export function listLines(plan: Plan, all: boolean): string[] {
  const rows = [
    ["job", "stage", "when", "why"],
    ...plan.jobs.map((job) => [job.name, job.stage, whenOf(job), remarksOn(job)]),
    ...(all ? plan.absent.map(({ name, stage, why }) => [name, stage, "-", why]) : []),
  ].map((row) => row.map(printable));
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => textWidth(row[column] ?? ""))));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 3 ? cell : padToWidth(cell, Math.max(1, widths[column] ?? 1))))
      .join("  ")
      .trimEnd(),
  );
}

function whenOf({ when, startInSeconds }: PlannedJob): string {
  return startInSeconds === null ? when : `${when} ${startInSeconds}s`;
}

function remarksOn({ rule, allowFailure, needs, environment, leftOut }: PlannedJob): string {
  const forgiven =
    typeof allowFailure === "boolean" ? (allowFailure ? "may fail" : "") : `may fail with ${allowFailure.join(", ")}`;
  return [
    rule ?? "",
    forgiven,
    needs === null ? "" : `needs ${needs.map(({ job }) => job).join(", ") || "nothing"}`,
    environment === null ? "" : `environment ${environment.name}`,
    ...leftOut,
  ]
    .filter((part) => part !== "")
    .join("; ");
}

/** The jobs of a pipeline for programs. */
export function listJson(plan: Plan): string {
  return JSON.stringify(plan.jobs.map(jsonOf), null, 2);
}

function jsonOf(job: PlannedJob): unknown {
  return {
    name: job.name,
    stage: job.stage,
    when: job.when,
    allowFailure: job.allowFailure,
    needs: job.needs?.map((need) => need.job) ?? null,
    image: job.image?.name ?? null,
    services: job.services.map(({ name }) => name),
    script: job.script,
    afterScript: job.afterScript,
    variables: Object.fromEntries(job.ownVariables.map(({ key, value }) => [key, value])),
    parallel: job.parallel?.total ?? null,
    retry: job.retry?.max ?? 0,
    timeoutSeconds: job.timeoutSeconds,
    startIn: job.startInSeconds,
    cache: job.caches.map(({ key, paths }) => ({ key, paths })),
    artifacts: job.artifacts === null ? null : { paths: job.artifacts.paths, dotenv: job.artifacts.dotenv },
    dependencies: job.dependencies,
    environment: job.environment?.name ?? null,
    tags: job.tags,
    rule: job.rule,
  };
}
