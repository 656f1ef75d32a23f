import {
  canceledSchema,
  drainedSchema,
  type RunnerLine,
  reloadedSchema,
  runnersSchema,
} from "../../control/protocol.ts";
import { printable, printableLines } from "../../local/report/text-width.ts";
import type { LocalContext } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";
import { reachRunner } from "./reach.ts";

/** The commands `cancel`, `pause`, `resume`, `drain` and `reload`: each sends one request and prints its result. */

export async function cancelCommand(id: string, values: FlagValues, context: LocalContext): Promise<void> {
  const runner = await reachRunner(values, context);
  const of = textOf(values, "runner");
  const query = of === undefined ? "" : `?${new URLSearchParams({ runner: of })}`;
  const answer = await runner.post(`jobs/${encodeURIComponent(id)}/cancel${query}`, canceledSchema);
  const { job } = answer;
  tell(values, context, answer, [`job ${job.id} (${job.title}) is being stopped; its after_script still runs`]);
}

export async function pauseCommand(
  wish: "pause" | "resume",
  name: string | undefined,
  values: FlagValues,
  context: LocalContext,
): Promise<void> {
  const runner = await reachRunner(values, context);
  const query = name === undefined ? "" : `?${new URLSearchParams({ runner: name })}`;
  const answer = await runner.post(`${wish}${query}`, runnersSchema);
  const { runners } = answer;
  tell(values, context, answer, runners.length === 0 ? ["there is no entry yet"] : runners.map(describeRunner));
}

export async function drainCommand(values: FlagValues, context: LocalContext): Promise<void> {
  const runner = await reachRunner(values, context);
  const answer = await runner.post("drain", drainedSchema);
  const left = answer.jobs === 0 ? "" : ` after ${answer.jobs === 1 ? "its last job" : `its last ${answer.jobs} jobs`}`;
  tell(values, context, answer, [`the runner asks for no more jobs and ends${left}`]);
}

export async function reloadCommand(values: FlagValues, context: LocalContext): Promise<void> {
  const runner = await reachRunner(values, context);
  const answer = await runner.post("reload", reloadedSchema);
  tell(values, context, answer, [`the configuration is in force: ${answer.status}`]);
}

function describeRunner({ name, jobs, reason }: RunnerLine): string {
  const left = jobs === 0 ? "" : `; ${jobs === 1 ? "1 job goes" : `${jobs} jobs go`} on`;
  return `${printable(name)}: ${printable(reason)}${left}`;
}

function tell(values: FlagValues, context: LocalContext, answer: object, lines: readonly string[]): void {
  if (values.json === true) context.print(JSON.stringify(answer));
  else for (const line of lines) context.print(printableLines(line));
}
