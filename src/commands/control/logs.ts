import { once } from "node:events";
import type { Writable } from "node:stream";
import { type JobLine, traceLineSchema } from "../../control/protocol.ts";
import { elapsed, outcomeOf } from "../../control/words.ts";
import { CommandError } from "../../errors.ts";
import { createLineCleaner } from "../../local/report/live-output.ts";
import { printable } from "../../local/report/text-width.ts";
import type { LocalContext } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";
import { reachRunner } from "./reach.ts";

/**
 * Where a trace is printed. On a terminal only text and colours are printed; a script may have printed other escape
 * sequences.
 */
export interface LogsOutput {
  readonly stream: Writable;
  readonly terminal: boolean;
  readonly colors: boolean;
}

/** Prints a job's trace, and with `--follow` what is still to come. */
export async function logsCommand(
  job: string,
  values: FlagValues,
  context: LocalContext,
  output: LogsOutput,
): Promise<void> {
  const runner = await reachRunner(values, context);
  const query = new URLSearchParams(values.follow === true ? { follow: "1" } : {});
  const of = textOf(values, "runner");
  if (of !== undefined) query.set("runner", of);
  const lines = runner.lines(`jobs/${encodeURIComponent(job)}/trace?${query}`, traceLineSchema, context.signal);
  const printer = output.terminal ? terminalText(output.colors) : plainText;
  let end: JobLine | undefined;
  for await (const line of lines) {
    if ("end" in line) end = line.job;
    const text = values.json === true ? `${JSON.stringify(line)}\n` : printer("end" in line ? null : line.text);
    if (text !== "" && !(await written(output.stream, text))) return;
  }
  if (context.signal.aborted) return;
  if (end === undefined) throw new CommandError(`The trace of job ${job} broke off: the runner has ended`);
  if (values.follow === true && end.outcome !== undefined && values.json !== true) {
    context.say(`job ${printable(end.id)}: ${printable(outcomeOf(end))}, after ${elapsed(end.elapsedSeconds)}`);
  }
}

/** @returns what to print of a piece; `null` is the end */
type Printer = (text: string | null) => string;

const plainText: Printer = (text) => text ?? "";

function terminalText(colors: boolean): Printer {
  const clean = createLineCleaner(colors);
  let pending = "";
  return (text) => {
    const lines = `${pending}${text ?? ""}`.split("\n");
    pending = text === null ? "" : (lines.pop() ?? "");
    if (text === null && lines.at(-1) === "") lines.pop();
    return lines
      .flatMap((line) => clean(line) ?? [])
      .map((line) => `${line}\n`)
      .join("");
  };
}

/** @returns `false`: nobody reads any more (`| head`) */
export async function written(stream: Writable, text: string): Promise<boolean> {
  if (stream.destroyed || stream.errored) return false;
  if (stream.write(text)) return true;
  return await once(stream, "drain").then(
    () => true,
    () => false,
  );
}
