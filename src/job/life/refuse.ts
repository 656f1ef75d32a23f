import { appendFile } from "node:fs/promises";
import { describeError, Stop, SystemFailure } from "../../errors.ts";
import type { DeliveryResult, JobRecord, Outbox, StoredJob } from "../../journal/contract.ts";
import type { Log } from "../../log.ts";
import { never, retry } from "../../time.ts";
import { runnerLine } from "../../trace/lines.ts";
import type { Outcome } from "../job.ts";
import { isUnexpected, outcomeOf, verdictLine } from "./outcome.ts";
import type { HandledJob, ReceivedJob } from "./received.ts";
import { reportOf } from "./report.ts";

/** The only line of a job whose trace could not be opened. What there was too little of (descriptors, say) comes back. */
export async function keepVerdict(path: string, outcome: Outcome): Promise<void> {
  const line = `${verdictLine(outcome).text}\n`;
  const waits = { attempts: 12, firstMs: 50, maxMs: 2000, retryable: () => true };
  await retry(waits, () => appendFile(path, line), never).catch(() => undefined);
}

/** The job was kept, and must not run: no script of it has started. */
export async function keepRefused(
  { meter }: ReceivedJob,
  refusal: Error,
  record: JobRecord,
  outbox: Pick<Outbox, "deliver">,
  log: Log,
): Promise<HandledJob> {
  const outcome = outcomeOf(refusal, never);
  if (isUnexpected(refusal)) logUnexpected(refusal, log);
  const gone = refusal instanceof Stop && refusal.why === "canceled";
  await keepVerdict(record.tracePath, outcome);
  await keepReport(record, outcome, log);
  meter.moved({ at: "finished", outcome });
  return { outcome, delivered: settled(outbox.deliver(record, { sent: 0, gone }), log) };
}

/** A result that the disk does not take is delivered from memory: only a crash can lose it then. */
export async function keepReport(record: JobRecord, outcome: Outcome, log: Log): Promise<void> {
  await record.finish(reportOf(outcome)).catch((error: unknown) => {
    log.error(`${describeError(error)}; it is delivered all the same`);
  });
}

export function settled(delivery: Promise<DeliveryResult>, log: Log): Promise<DeliveryResult> {
  return delivery.catch((error: unknown): DeliveryResult => {
    logUnexpected(error, log);
    return "kept";
  });
}

/** A job that cannot be kept is not run: its processes and its result would be lost with this process. */
export function refuse(
  { meter }: ReceivedJob,
  stored: StoredJob,
  cause: unknown,
  outbox: Pick<Outbox, "answer">,
  log: Log,
): HandledJob {
  const outcome = outcomeOf(new SystemFailure("the runner cannot store the job", { cause }), never);
  log.error(`a job is refused: ${describeError(cause)}`);
  meter.moved({ at: "finished", outcome });
  const { text, tone } = verdictLine(outcome);
  const delivered = outbox.answer(stored, reportOf(outcome), runnerLine(text, tone));
  return { outcome, delivered: settled(delivered, log) };
}

export function logUnexpected(error: unknown, log: Log): void {
  log.error("an unexpected error in the runner ended a job", {
    problem: describeError(error),
    stack: error instanceof Error ? error.stack : undefined,
  });
}
