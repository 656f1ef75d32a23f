import type { Config } from "../../config/config.ts";
import { printableLines } from "../../local/report/text-width.ts";

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
