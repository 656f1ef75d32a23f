import type { Config } from "../../../config/config.ts";
import type { LocalCoordinator } from "../../../local/coordinator/coordinator.ts";
import { jobPayload } from "../../../local/coordinator/jobs/payload.ts";
import type { LoadedPlan } from "../../../local/gitlab/load.ts";
import type { PlannedJob } from "../../../local/gitlab/plan/plan.ts";
import { listCsv, listJson, listLines } from "../../../local/gitlab/report/list.ts";
import { printTable } from "../../../local/gitlab/report/print.ts";
import { type ForeseenChildren, foreseeChildren, remarkOn } from "../../../local/gitlab/run/foreseen.ts";
import { specOfPlanned } from "../../../local/gitlab/run/spec.ts";
import { printable } from "../../../local/report/text-width.ts";
import type { CommandContext } from "../../context.ts";
import { sayNotes } from "../notes.ts";
import type { ExecOptions } from "../options.ts";
import { type PreviewJob, previewText } from "../report.ts";
import type { GitlabWork } from "./gitlab.ts";
import type { GitlabSpec } from "./gitlab-run.ts";

/** `--list` and `--print`: nothing runs. @returns the exit status */
export async function showGitlab(
  { loaded, notes }: GitlabWork,
  options: ExecOptions,
  context: CommandContext,
): Promise<number> {
  const { plan, table } = loaded;
  sayNotes(notes, context);
  if (options.mode === "print") {
    context.print(printTable(table).trimEnd());
    return 0;
  }
  if (plan.refusal !== null) context.say(`no pipeline: ${plan.refusal}`);
  const children = await foreseeChildren(loaded);
  if (options.csv) for (const line of listCsv(plan, options.all)) context.print(line);
  else if (options.json) context.print(listJson(plan, children));
  else if (plan.refusal === null || options.all)
    for (const line of listLines(plan, children, options.all)) context.print(line);
  return 0;
}

/** What a job's runner could not do, each said once. */
export function notesOnGitlab(
  { loaded: { plan }, chosen }: GitlabWork,
  executor: { readonly image: boolean; readonly services: boolean },
): string[] {
  const jobs = plan.jobs.filter(({ name }) => chosen.has(name));
  const namesOf = (list: readonly PlannedJob[]): string => list.map(({ name }) => name).join(", ");
  const tags = [...new Set(jobs.flatMap((job) => job.tags))];
  const images = executor.image ? [] : jobs.filter((job) => job.image !== null);
  const services = executor.services ? [] : jobs.filter((job) => job.services.length > 0);
  return [
    ...(tags.length === 0 ? [] : [`Tags choose no runner here: ${tags.join(", ")}`]),
    ...(images.length === 0 ? [] : [`This executor uses no images: ${namesOf(images)} run on this machine itself`]),
    ...(services.length === 0 ? [] : [`This executor starts no services: ${namesOf(services)} go without`]),
  ];
}

/** The jobs that would run, in order, each with its stages and their scripts. Values of secret variables are not shown. */
export async function printGitlabPreview({
  spec: { loaded, chosen, overrides, handed },
  coordinator,
  config,
  preview,
  print,
}: {
  readonly spec: GitlabSpec;
  readonly coordinator: LocalCoordinator;
  readonly config: Config;
  readonly preview: PreviewJob;
  print(text: string): void;
}): Promise<void> {
  const [runner] = coordinator.runners;
  const variables = handed.variables.map((one) => (one.masked === true ? { ...one, value: "[MASKED]" } : one));
  const show = async (
    { plan, around }: LoadedPlan,
    jobs: readonly PlannedJob[],
    children: ForeseenChildren,
    label: string,
  ): Promise<void> => {
    for (const stage of plan.stages) {
      const names = jobs
        .filter((job) => job.stage === stage)
        .map(({ name, when }) => `${label}${name}${when === "on_success" ? "" : ` (${when})`}`);
      if (names.length > 0) print(printable(`# stage ${stage}: ${names.join(", ")}`));
    }
    if (runner === undefined) return;
    const predefined = new Map([...around.predefined, ...overrides]);
    const given = { ...handed, variables, around: { ...around, predefined }, pipelineId: "1", pipelineName: plan.name };
    for (const job of jobs) {
      const name = `${label}${job.name}`;
      if (job.trigger === null) {
        const local = coordinator.enqueue(specOfPlanned(job, given, [], new Map()));
        print(
          await previewText(name, jobPayload(local, runner, coordinator.dialect, coordinator.url), config, preview),
        );
        continue;
      }
      const child = children.get(job.name);
      const what =
        job.trigger.project === null ? "starts a child pipeline" : `starts no pipeline of ${job.trigger.project} here`;
      print("");
      print(printable(`# job ${name} ${what}${remarkOn(child) === "" ? "" : `: ${remarkOn(child)}`}`));
      if (child !== undefined && "plan" in child)
        await show(child.plan, child.plan.plan.jobs, child.children, `${name} / `);
    }
  };
  const jobs = loaded.plan.jobs.filter(({ name }) => chosen.has(name));
  await show(loaded, jobs, await foreseeChildren(loaded), "");
}
