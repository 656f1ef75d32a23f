import { describeError, Stop, SystemFailure } from "../../../errors.ts";
import type { DeliveryResult, JobRecord, Outbox, SentTrace, StoredJob } from "../../../journal/contract.ts";
import type { Log } from "../../../log.ts";
import { never } from "../../../time.ts";
import { runnerLine } from "../../../trace/lines.ts";
import { stampLines } from "../../../trace/stamp/stamper.ts";
import type { Outcome } from "../../job.ts";
import { withoutWords } from "../life.ts";
import type { HandledJob, ReceivedJob } from "../received.ts";
import { logUnexpected } from "../trace/log-unexpected.ts";
import { isUnexpected, outcomeOf, verdictLine } from "./outcome.ts";
import { reportOf } from "./report.ts";
import { keepVerdict } from "./verdict.ts";

export interface ConcludeDeps {
  readonly outbox: Pick<Outbox, "deliver" | "answer">;
  readonly log: Log;
}

/** A job that ran: its result is kept on disk, and then on its way. A disk that does not take it leaves it in memory. */
export async function conclude(
  record: JobRecord,
  outcome: Outcome,
  sent: SentTrace,
  { outbox, log }: ConcludeDeps,
): Promise<HandledJob> {
  await record.finish(reportOf(outcome)).catch((error: unknown) => {
    log.error("a job's result cannot be kept on disk; it is delivered all the same", { problem: describeError(error) });
  });
  return { outcome, delivered: settled(outbox.deliver(record, sent), log) };
}

/** A job that was kept and must not run, or cannot: no script of it has started. */
export async function concludeUnrun(
  { board }: ReceivedJob,
  record: JobRecord,
  cause: Error,
  deps: ConcludeDeps,
): Promise<HandledJob> {
  const outcome = outcomeOf(cause, never);
  if (isUnexpected(cause)) logUnexpected(deps.log, cause);
  const gone = cause instanceof Stop && cause.why === "canceled";
  await keepVerdict(record, outcome);
  board.moved({ at: "finished", outcome: withoutWords(outcome) });
  return await conclude(record, outcome, { sent: 0, offered: 0, gone }, deps);
}

/** A job that cannot be kept is not run: its processes and its result would be lost with this process. */
export function refuse(
  { board }: ReceivedJob,
  stored: StoredJob,
  cause: unknown,
  { outbox, log }: ConcludeDeps,
): HandledJob {
  const outcome = outcomeOf(new SystemFailure("the runner cannot store the job", { cause }), never);
  log.error("a job is refused", { problem: describeError(cause) });
  board.moved({ at: "finished", outcome: withoutWords(outcome) });
  const { text, tone } = verdictLine(outcome);
  const line = runnerLine(text, tone);
  const delivered = outbox.answer(stored, reportOf(outcome), stored.stamped === true ? stampLines(line) : line);
  return { outcome, delivered: settled(delivered, log) };
}

function settled(delivery: Promise<DeliveryResult>, log: Log): Promise<DeliveryResult> {
  return delivery.catch((error: unknown): DeliveryResult => {
    logUnexpected(log, error);
    return "kept";
  });
}
