import { NobodyListens } from "../../control/client.ts";
import { tidiedAnswer } from "../../control/lines.ts";
import { type TidiedAnswer, tidiedSchema } from "../../control/protocol.ts";
import { elapsed } from "../../control/words.ts";
import type { Tidied } from "../../executor/keeping.ts";
import type { LocalContext } from "../context.ts";
import type { FlagValues } from "../register/runner-flags.ts";
import { reachRunner } from "./reach.ts";
import { tableLines } from "./table.ts";

/**
 * `gc`: by the runner that is at work, which knows what its jobs use, or without one.
 * @param here tidies where no runner is at work
 */
export async function gcCommand(
  values: FlagValues,
  context: LocalContext,
  here: (dry: boolean) => Promise<readonly Tidied[]>,
): Promise<void> {
  const dry = values.dryRun === true;
  const answer = await byRunner(dry, values, context).catch(async (error: unknown) => {
    if (!(error instanceof NobodyListens) || values.stateDir !== undefined) throw error;
    return tidiedAnswer(await here(dry), dry);
  });
  if (values.json === true) context.print(JSON.stringify(answer));
  else for (const line of describe(answer)) context.print(line);
}

async function byRunner(dry: boolean, values: FlagValues, context: LocalContext): Promise<TidiedAnswer> {
  const runner = await reachRunner(values, context);
  return await runner.post(dry ? "gc?dry=1" : "gc", tidiedSchema);
}

function describe({ things, dry }: TidiedAnswer): string[] {
  const gone = things.filter(({ problem }) => problem === undefined);
  const bytes = size(gone.reduce((sum, thing) => sum + thing.bytes, 0));
  if (things.length === 0) return ["nothing has to go: all is within the budgets of [housekeeping]"];
  const rows = things.map(({ kind, name, where, bytes: own, usedAt, why, problem }) => {
    const age = Math.max(0, Math.round((Date.now() - Date.parse(usedAt)) / 1000));
    return [kind, name, where, size(own), `${elapsed(age)} ago`, problem === undefined ? why : `stays: ${problem}`];
  });
  const counted = gone.length === 1 ? "1 thing" : `${gone.length} things`;
  const total = dry ? `${counted} of ${bytes} would go` : `removed ${counted} of ${bytes}`;
  return [
    ...tableLines([["KIND", "NAME", "WHERE", "SIZE", "LAST USED", dry ? "WHY IT WOULD GO" : "WHY"], ...rows]),
    total,
  ];
}

function size(bytes: number): string {
  return bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
