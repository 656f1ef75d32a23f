import { Stop, SystemFailure } from "../../errors.ts";
import type { Environment, TerminalRequest } from "../../executor/environment.ts";
import type { Outcome } from "../job.ts";
import { formatDuration } from "../plan/duration.ts";
import { preparedVariables } from "../plan/set-up.ts";
import { outcomeOf } from "./outcome/outcome.ts";
import type { RunJobRequest } from "./request.ts";
import { joinSignals } from "./signals.ts";

/** The terminal of one job, from its beginning to its end. Nothing of it is in the trace but that it was there. */
export interface JobTerminal {
  /** It can be opened from now on. */
  ready(environment: Environment): void;
  /** Where one is open, the job stays for it, within its own time. @returns the outcome, unless the job was canceled meanwhile */
  hold(outcome: Outcome, signals: readonly AbortSignal[]): Promise<Outcome>;
  /** Never rejects. */
  close(): Promise<void>;
}

const none: JobTerminal = { ready: () => {}, hold: async (outcome) => outcome, close: async () => {} };

/** Of a job that nobody can open a terminal in, nothing. */
export function offerTerminal(request: RunJobRequest): JobTerminal {
  const { terminal, job, trace, log } = request;
  if (terminal === undefined) return none;
  const { session, timeoutMs } = terminal;
  const startedAt = performance.now();
  return {
    ready(environment) {
      session.ready({
        open: async (signal) => {
          const { openTerminal } = environment;
          if (openTerminal === undefined) throw new SystemFailure("this executor has no terminals for this job");
          return await openTerminal.call(environment, { variables: shownVariables(request, environment) }, signal);
        },
        tell(event) {
          if (event.is === "opened") {
            log.info("somebody has opened a terminal in the job");
            trace.print("A terminal was opened in this job");
          } else {
            log.info("the terminal in the job was closed", { duration_seconds: event.seconds });
            trace.print(`The terminal was closed after ${formatDuration(event.seconds * 1000)}`);
          }
        },
      });
    },
    async hold(outcome, signals) {
      const leftMs = job.timeoutMs - (performance.now() - startedAt);
      using stop = joinSignals(signals.map((signal) => ({ signal })));
      await session.hold(
        Math.min(timeoutMs, leftMs),
        (limitMs) =>
          trace.print(`A terminal is open: the job stays until it is closed, or for ${formatDuration(limitMs)}`),
        stop.signal,
      );
      const { aborted, reason } = stop.signal;
      const isCanceled = aborted && reason instanceof Stop && (reason.why === "canceling" || reason.why === "canceled");
      return isCanceled && outcome.result === "success" ? outcomeOf(undefined, stop.signal) : outcome;
    },
    close: () => session.close(),
  };
}

/** What is public of a job's variables, as its scripts have them. */
function shownVariables(request: RunJobRequest, environment: Environment): TerminalRequest["variables"] {
  const { root, tmpDir } = environment.workspace;
  const { buildsDir, projectSlot, variables: added = [] } = environment;
  const { open } = preparedVariables(request, { root, tmpDir, buildsDir, projectSlot });
  const shown = open.filter(({ complete, ofOperator, secretName }) => complete && !(ofOperator && secretName));
  const all = [...shown, ...added.filter((variable) => variable.public && !variable.file && !variable.masked)];
  return [...new Map(all.map(({ key, value }) => [key, value]))].map(([key, value]) => ({ key, value }));
}
