import type { Config } from "../../config/config.ts";
import { jobPayload } from "../../local/coordinator/jobs/payload.ts";
import type { CiFile, CiJob } from "../../local/pipeline/ci-file.ts";
import { runsOn } from "../../local/pipeline/ci-refs.ts";
import { needsOf } from "../../local/pipeline/needs.ts";
import { fullRef, type PipelineOptions, specOf } from "../../local/pipeline/pipeline.ts";
import { padToWidth, printable, printableLines, textWidth } from "../../local/report/text-width.ts";

/** A stage of a job's plan, as a person reads it. */
interface PreviewedStage {
  readonly name: string;
  readonly title: string;
  readonly when: string;
  /** Its whole text; `null` for files that the runner moves itself. */
  readonly script: { readonly shell: string; readonly text: string } | null;
  readonly transfer: string | null;
}

/**
 * The plan of the job that a coordinator hands out as `payload`.
 * @throws {CommandError} the job cannot run
 */
export type PreviewJob = (
  payload: string,
  config: Config,
) => Promise<{ readonly shell: string; readonly root: string; readonly stages: readonly PreviewedStage[] }>;

/** The file's jobs, and which of them run for `ref`. */
export function listJobs(file: CiFile, ref: string): string[] {
  const ordered = file.stages.flatMap((stage) => file.jobs.filter((job) => job.stage === stage));
  const rows = [["job", "stage", "when", ""], ...ordered.map((job) => rowOf(job, ref))];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => textWidth(row[column] ?? ""))));
  return rows.map((row) =>
    row
      .map((cell, column) => padToWidth(cell, Math.max(widths[column] ?? 0, 1, column === 3 ? textWidth(cell) : 0)))
      .join("  ")
      .trimEnd(),
  );
}

function rowOf(job: CiJob, ref: string): string[] {
  const remarks = [
    runsOn(job, ref) ? "" : `not for ${ref}`,
    job.allowFailure ? "may fail" : "",
    job.dependencies === null ? "" : `artifacts of ${job.dependencies.join(", ")}`,
  ];
  return [job.name, job.stage, job.when, remarks.filter((remark) => remark !== "").join("; ")].map(printable);
}

export interface PrintPreviewOptions {
  readonly pipeline: PipelineOptions;
  readonly config: Config;
  readonly preview: PreviewJob;
  print(text: string): void;
}

/** The jobs that would run, in order, each with its stages and their scripts. Values of secret variables are not shown. */
export async function printPreview({ pipeline, config, preview, print }: PrintPreviewOptions): Promise<void> {
  const { file, project, coordinator, only, variables = [] } = pipeline;
  const ref = fullRef(project);
  const shown = variables.map((variable) => (variable.masked === true ? { ...variable, value: "[MASKED]" } : variable));
  const chosen = file.stages.flatMap((stage) =>
    file.jobs.filter((job) => job.stage === stage && (only?.includes(job.name) ?? runsOn(job, ref))),
  );
  print(`# ${file.file}, ${ref}, commit ${project.sha}`);
  if (chosen.length === 0) print("# no job of it runs for this ref");
  for (const stage of file.stages) {
    const jobs = chosen.filter((job) => job.stage === stage);
    if (jobs.length > 0) print(`# stage ${stage}: ${jobs.map(describe).join(", ")}`);
  }
  const [runner] = coordinator.runners;
  if (runner === undefined) return;
  for (const job of chosen) {
    const needed = needsOf(job, file, ref).filter((other) => chosen.includes(other));
    const local = coordinator.enqueue({
      ...specOf(job, { ...pipeline, variables: shown }, []),
      payload: (payload) => ({
        ...payload,
        dependencies: needed.map(({ name }, index) => ({
          id: index + 1,
          name,
          token: "none",
          artifacts_file: { filename: "artifacts.zip", size: 1 },
        })),
      }),
    });
    print(
      await previewText(job.name, jobPayload(local, runner, coordinator.dialect, coordinator.url), config, preview),
    );
  }
}

/** The stages of one job, each with its script. */
export async function previewText(job: string, payload: string, config: Config, preview: PreviewJob): Promise<string> {
  const { shell, root, stages } = await preview(payload, config);
  const lines = [`\n# job ${job} (${shell}; ${root} stands for its directory)`];
  for (const { name, title, when, script, transfer } of stages) {
    const condition = when === "on_success" ? "" : ` (${when})`;
    const language = script === null || script.shell === shell ? "" : ` (${script.shell})`;
    lines.push(`\n# ${job}: ${name}${condition}${language}${transfer === null ? "" : ` ${title} ${transfer}`}`);
    if (script !== null) lines.push(script.text.trimEnd());
  }
  // Somebody who reads scripts before they run has to see all characters of them.
  return printableLines(lines.join("\n"));
}

function describe(job: CiJob): string {
  return job.when === "on_success" ? job.name : `${job.name} (${job.when})`;
}
