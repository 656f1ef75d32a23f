import { appendFile } from "node:fs/promises";
import type { JobRecord } from "../../../journal/contract.ts";
import type { Log } from "../../../log.ts";
import { never, retry } from "../../../time.ts";
import type { Trace } from "../../../trace/contract.ts";
import { stampLines } from "../../../trace/stamp/stamper.ts";
import type { Outcome } from "../../job.ts";
import { logUnexpected } from "../trace/log-unexpected.ts";
import { outcomeOf, verdictLine } from "./outcome.ts";

/**
 * The last line of a job's trace.
 * @returns the outcome: a job whose trace cannot be stored has not succeeded
 */
export async function sayVerdict(trace: Trace, outcome: Outcome, log: Log): Promise<Outcome> {
  const { text, tone } = verdictLine(outcome);
  try {
    trace.print(text, tone);
    await trace.flush();
    return outcome;
  } catch (error) {
    logUnexpected(log, error);
    return outcome.result === "success" ? outcomeOf(error, never) : outcome;
  }
}

/**
 * The only line of a job whose trace could not be opened. What was lacking then, such as descriptors, may be there again.
 */
export async function keepVerdict(
  { tracePath, stored }: Pick<JobRecord, "tracePath" | "stored">,
  outcome: Outcome,
): Promise<void> {
  const text = Buffer.from(`${verdictLine(outcome).text}\n`);
  const line = stored.stamped === true ? stampLines(text) : text;
  const waits = { attempts: 12, firstMs: 50, maxMs: 2000, retryable: () => true };
  await retry(waits, () => appendFile(tracePath, line), never).catch(() => undefined);
}
