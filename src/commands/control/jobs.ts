import { type JobLine, type RunnerLine, type StatusAnswer, statusSchema } from "../../control/protocol.ts";
import { doingOf, durableOf, elapsed, outcomeOf } from "../../control/words.ts";
import { printableLines } from "../../local/report/text-width.ts";
import type { LocalContext } from "../context.ts";
import type { FlagValues } from "../register/runner-flags.ts";
import { reachRunner } from "./reach.ts";
import { tableLines } from "./table.ts";

/** How many ended jobs are shown, unless all are asked for. */
const SHOWN = 20;

export async function jobsCommand(values: FlagValues, context: LocalContext): Promise<void> {
  const runner = await reachRunner(values, context);
  const status = await runner.get(values.json === true ? "status?usage=1" : "status", statusSchema);
  if (values.json === true) context.print(JSON.stringify(status));
  else for (const line of describeStatus(status, values.all === true)) context.print(line);
}

function describeStatus(status: StatusAnswer, all: boolean): string[] {
  const { runners, jobs, finished, state, pid, version, concurrent } = status;
  const doing = state === "running" ? "" : `, ${state}`;
  const lines = [
    printableLines(
      `alloy-runner ${version}, process ${pid}${doing}; ${jobs.length} in progress, concurrent ${concurrent}`,
    ),
    "",
    ...tableLines([["RUNNER", "EXECUTOR", "JOBS", "WHY NO MORE"], ...runners.map(runnerRow)]),
  ];
  if (jobs.length > 0) {
    // A column that would be empty is left out.
    const some = jobs.some((job) => durableOf(job) !== "");
    const head = ["JOB", "RUNNER", "DOES", "FOR", ...(some ? ["DURABLE"] : []), "TITLE"];
    lines.push("", ...tableLines([head, ...jobs.map((job) => jobRow(job, some))]));
  }
  const shown = all ? finished : finished.slice(0, SHOWN);
  if (shown.length > 0) {
    lines.push("", ...tableLines([["ENDED", "RUNNER", "OUTCOME", "TOOK", "TITLE"], ...shown.map(endedRow)]));
    if (shown.length < finished.length) lines.push(`${finished.length - shown.length} more with --all`);
  }
  return lines;
}

function runnerRow({ name, executor, jobs, limit, reason }: RunnerLine): string[] {
  return [name, executor, limit === null ? String(jobs) : `${jobs}/${limit}`, reason];
}

function jobRow(job: JobLine, withDurable: boolean): string[] {
  const durable = withDurable ? [durableOf(job)] : [];
  return [job.id, job.runner, doingOf(job), elapsed(job.elapsedSeconds), ...durable, job.title];
}

function endedRow(job: JobLine): string[] {
  return [job.id, job.runner, outcomeOf(job), elapsed(job.elapsedSeconds), job.title];
}
