import type { JobProgress, JobResult, JobUsage, Outcome } from "../job.ts";
import type { Stage } from "../plan/stage.ts";
import type { EndedStage, StageVerdict } from "./stages/verdicts.ts";

/**
 * The one place where a job's steps are said to begin and to end. What has ended, and how, is data: what comes next is a
 * function of it (`mayRun`), and nothing else is remembered.
 */
export interface Life {
  readonly ended: readonly EndedStage[];
  /** `attempt` counts from 1. */
  preparing(attempt: number): void;
  begin(stage: Stage): void;
  end(stage: Stage, verdict: StageVerdict): void;
  /** Everything that could decide it is over. */
  finish(outcome: Outcome, usage: JobUsage): void;
}

const MOVES: Readonly<Record<JobProgress["at"], readonly JobProgress["at"][]>> = {
  received: ["preparing", "finished"],
  preparing: ["preparing", "running", "finished"],
  running: ["running", "finished"],
  finished: [],
  delivering: [],
};

/** @param tell hears each move; a move that cannot be is a bug, and throws */
export function createLife(tell: (progress: JobProgress) => void): Life {
  let at: JobProgress["at"] = "received";
  const ended: EndedStage[] = [];
  const move = (to: JobProgress): void => {
    if (!MOVES[at].includes(to.at)) throw new Error(`A job cannot go from ${at} to ${to.at}`);
    at = to.at;
    tell(to);
  };
  return {
    ended,
    preparing: (attempt) => move({ at: "preparing", attempt }),
    begin: (stage) => move({ at: "running", stage: stage.name }),
    end: (stage, verdict) => {
      ended.push({ name: stage.name, authored: isAuthored(stage), verdict });
    },
    finish: (outcome, usage) => move({ at: "finished", outcome: withoutWords(outcome), usage }),
  };
}

/** A script of the author's that counts: its after_script may run from then on. */
function isAuthored(stage: Stage): boolean {
  return stage.kind === "script" && stage.authored && stage.policy.clock === "job";
}

export function withoutWords(outcome: Outcome): JobResult {
  if (outcome.result !== "failed") return { result: outcome.result };
  const { result, reason, exitCode } = outcome;
  return { result, reason, ...(exitCode === undefined ? {} : { exitCode }) };
}
