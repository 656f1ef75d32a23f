import type { Config } from "../../../config/config.ts";
import type { LocalCoordinator } from "../../../local/coordinator/coordinator.ts";
import type { JobSpec } from "../../../local/coordinator/jobs/job.ts";
import { jobPayload } from "../../../local/coordinator/jobs/payload.ts";
import type { LoadedPlan } from "../../../local/gitlab/load.ts";
import type { PlannedJob } from "../../../local/gitlab/plan/plan.ts";
import { listCsv, listJson, listLines } from "../../../local/gitlab/report/list.ts";
import { printTable } from "../../../local/gitlab/report/print.ts";
import { type ForeseenChildren, foreseeChildren, remarkOn } from "../../../local/gitlab/run/foreseen.ts";
import { notBegun } from "../../../local/gitlab/run/job-run.ts";
import { jobsBefore } from "../../../local/gitlab/run/sources.ts";
import { specOfPlanned } from "../../../local/gitlab/run/spec.ts";
import { fullRef } from "../../../local/pipeline/pipeline-project.ts";
import { printable } from "../../../local/report/text-width.ts";
import type { CommandContext } from "../../context.ts";
import type { Work } from "../engine.ts";
import { sayNotes } from "../notes.ts";
import type { ExecOptions } from "../options.ts";
import { type PreviewJob, previewText } from "../report.ts";
import type { RunSpec } from "./run.ts";

/** `--list` and `--print`: nothing runs. @returns the exit status */
export async function showPlan(
  { dialect, loaded, notes }: Work,
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
    for (const line of listLines(plan, children, dialect === "alloy" ? "" : "why", options.all)) context.print(line);
  return 0;
}

/** What is different from a pipeline at the coordinator, each said once. */
export function notesOnRun(
  { dialect, loaded: { plan }, chosen }: Work,
  executor: { readonly image: boolean; readonly services: boolean },
  commit: { readonly message: string },
): string[] {
  const jobs = plan.jobs.filter(({ name }) => chosen.has(name));
  const namesOf = (list: readonly PlannedJob[]): string => list.map(({ name }) => name).join(", ");
  const tags = [...new Set(jobs.flatMap((job) => job.tags))];
  const images = executor.image ? [] : jobs.filter((job) => job.image !== null);
  const services = executor.services ? [] : jobs.filter((job) => job.services.length > 0);
  const isSkipped =
    dialect === "alloy" && jobs.length === plan.jobs.length && /\[(?:skip ci|ci skip)\]/.test(commit.message);
  return [
    ...(isSkipped ? ["The last commit asks for no pipeline ([skip ci]): AlloyCI makes none for it"] : []),
    ...(tags.length === 0 ? [] : [`Tags choose no runner here: ${tags.join(", ")}`]),
    ...(images.length === 0 ? [] : [`This executor uses no images: ${namesOf(images)} run on this machine itself`]),
    ...(services.length === 0 ? [] : [`This executor starts no services: ${namesOf(services)} go without`]),
  ];
}

/** The jobs that would run, in order, each with its stages and their scripts. Values of secret variables are not shown. */
export async function printPreview({
  file,
  spec: { loaded, chosen, overrides, handed },
  coordinator,
  config,
  preview,
  print,
}: {
  /** The CI file as messages name it. */
  readonly file: string;
  readonly spec: RunSpec;
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
    const pipeline = { loaded: { plan }, runs: jobs.map(notBegun) };
    const predefined = new Map([...around.predefined, ...overrides]);
    const given = { ...handed, variables, around: { ...around, predefined }, pipelineId: "1", pipelineName: plan.name };
    for (const job of jobs) {
      const name = `${label}${job.name}`;
      if (job.trigger === null) {
        const local = coordinator.enqueue(withDependencies(specOfPlanned(job, given, [], new Map()), job, pipeline));
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
  print(printable(`# ${file}, ${fullRef(handed.project)}, commit ${handed.project.sha}`));
  await show(loaded, jobs, await foreseeChildren(loaded), "");
}

/** As if the jobs before it had uploaded what they are to upload. */
function withDependencies(spec: JobSpec, job: PlannedJob, pipeline: Parameters<typeof jobsBefore>[1]): JobSpec {
  const before = jobsBefore(notBegun(job), pipeline).filter((run) => run.job.artifacts !== null);
  return {
    ...spec,
    payload: (payload) => {
      const given = typeof spec.payload === "function" ? spec.payload(payload) : payload;
      if (typeof given === "string") return given;
      const dependencies = before.map((run, index) => ({
        id: index + 1,
        name: run.job.name,
        token: "none",
        artifacts_file: { filename: "artifacts.zip", size: 1 },
      }));
      return { ...given, dependencies };
    },
  };
}
