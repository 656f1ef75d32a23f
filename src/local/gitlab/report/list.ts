import { padToWidth, printable, textWidth } from "../../report/text-width.ts";
import type { Plan, PlannedJob } from "../plan/plan.ts";
import { type ForeseenChildren, remarkOn } from "../run/foreseen.ts";

/**
 * The jobs of a pipeline in columns: job, stage, when, and remarks; those of a child come after the job that starts it.
 * @param remarks what stands above them
 * @param all also those that are not in it
 */
export function listLines(plan: Plan, children: ForeseenChildren, remarks: string, all: boolean): string[] {
  const rows = [["job", "stage", "when", remarks], ...rowsOf(plan, children, all, "")].map((row) => row.map(printable));
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => textWidth(row[column] ?? ""))));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 3 ? cell : padToWidth(cell, Math.max(1, widths[column] ?? 1))))
      .join("  ")
      .trimEnd(),
  );
}

function rowsOf(plan: Plan, children: ForeseenChildren, all: boolean, label: string): string[][] {
  return [
    ...plan.jobs.flatMap((job) => {
      const child = children.get(job.name);
      const said = [...remarksOn(job), remarkOn(child)].filter((part) => part !== "");
      const own = [`${label}${job.name}`, job.stage, whenOf(job), said.join("; ")];
      if (child === undefined || !("plan" in child)) return [own];
      return [own, ...rowsOf(child.plan.plan, child.children, all, `${label}${job.name} / `)];
    }),
    ...(all ? plan.absent.map(({ name, stage, why }) => [`${label}${name}`, stage, "-", why]) : []),
  ];
}

function whenOf({ when, startInSeconds }: PlannedJob): string {
  return startInSeconds === null ? when : `${when} ${startInSeconds}s`;
}

function remarksOn({
  rule,
  allowFailure,
  needs,
  dependencies,
  environment,
  leftOut,
  trigger,
  upstream,
}: PlannedJob): string[] {
  const forgiven =
    typeof allowFailure === "boolean" ? (allowFailure ? "may fail" : "") : `may fail with ${allowFailure.join(", ")}`;
  return [
    rule ?? "",
    forgiven,
    needs === null ? "" : `needs ${needs.map(({ job }) => job).join(", ") || "nothing"}`,
    dependencies === null ? "" : `artifacts of ${dependencies.join(", ") || "nothing"}`,
    environment === null ? "" : `environment ${environment.name}`,
    trigger === null
      ? ""
      : `starts ${trigger.project === null ? "a child pipeline" : `a pipeline of ${trigger.project}`}`,
    ...upstream.map(({ job, pipeline }) => `artifacts of ${job} of the pipeline ${pipeline}`),
    ...leftOut,
  ].filter((part) => part !== "");
}

/** The jobs of a pipeline as gitlab-ci-local prints them for programs: cells between semicolons. */
export function listCsv(plan: Plan, all: boolean): string[] {
  const cells = (list: readonly string[]): string => `[${list.join(",")}]`;
  return [
    "name;description;stage;when;allowFailure;needs",
    ...plan.jobs.map((job) =>
      [
        job.name,
        '""',
        job.stage,
        job.when,
        Array.isArray(job.allowFailure) ? cells(job.allowFailure.map(String)) : String(job.allowFailure),
        job.needs === null ? "" : cells(job.needs.map((need) => need.job)),
      ].join(";"),
    ),
    ...(all ? plan.absent.map(({ name, stage }) => `${name};"";${stage};never;false;`) : []),
  ].map(printable);
}

/** The jobs of a pipeline for programs. */
export function listJson(plan: Plan, children: ForeseenChildren): string {
  const json = JSON.stringify(jobsOf(plan, children), null, 2);
  // JSON leaves these as they are; a terminal does not.
  return json.replace(/[\x7f-\x9f]/g, (sign) => `\\u00${sign.charCodeAt(0).toString(16)}`);
}

function jobsOf(plan: Plan, children: ForeseenChildren): unknown[] {
  return plan.jobs.map((job) => {
    if (job.trigger === null) return jsonOf(job);
    const child = children.get(job.name);
    return {
      ...jsonOf(job),
      child: child === undefined || !("plan" in child) ? null : jobsOf(child.plan.plan, child.children),
    };
  });
}

function jsonOf(job: PlannedJob): object {
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
