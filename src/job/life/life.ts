import type { LifeEntry } from "../../journal/live/life.ts";
import type { JobProgress, JobResult, JobUsage, Outcome } from "../job.ts";
import type { Stage } from "../plan/stage.ts";
import { decided, type EndedStage, type StageVerdict } from "./stages/verdicts.ts";

/**
 * The one place where a job's steps are said to begin and to end. What has ended, and how, is data: what comes next is a
 * function of it (`mayRun`), and nothing else is remembered.
 */
export interface Life {
  readonly ended: readonly EndedStage[];
  /** Its secrets are asked for. */
  resolving(): void;
  /** `attempt` counts from 1. */
  preparing(attempt: number): void;
  /** `number`: which of the plan it is, from 0. */
  begin(stage: Stage, number: number): void;
  end(stage: Stage, verdict: StageVerdict, number: number): void;
  /** Its scripts are over; what is left is to let go of its place. */
  leaving(): void;
  /** Everything that could decide it is over. */
  finish(outcome: Outcome, usage: JobUsage): void;
}

const MOVES: Readonly<Record<JobProgress["at"], readonly JobProgress["at"][]>> = {
  received: ["resolving", "preparing", "finished"],
  resolving: ["preparing", "finished"],
  preparing: ["preparing", "running", "finished"],
  running: ["running", "finished"],
  finished: [],
  delivering: [],
};

/**
 * @param tell hears each move; a move that cannot be is a bug, and throws
 * @param note keeps it, before it is told
 * @param mask of the trace: a verdict may quote what has been said
 */
export function createLife(
  tell: (progress: JobProgress) => void,
  note: (entry: LifeEntry) => void = () => {},
  mask = (text: string): string => text,
): Life {
  let at: JobProgress["at"] = "received";
  const ended: EndedStage[] = [];
  const move = (to: JobProgress): void => {
    if (!MOVES[at].includes(to.at)) throw new Error(`A job cannot go from ${at} to ${to.at}`);
    at = to.at;
    tell(to);
  };
  return {
    ended,
    resolving: () => move({ at: "resolving" }),
    preparing(attempt) {
      note({ kind: "preparing", attempt });
      move({ at: "preparing", attempt });
    },
    begin(stage, number) {
      note({ kind: "begun", stage: number });
      move({ at: "running", stage: stage.name, ...(decided(ended) === null ? {} : { failed: true }) });
    },
    end(stage, verdict, number) {
      note({ kind: "ended", stage: number, verdict: masked(verdict, mask) });
      ended.push({ name: stage.name, authored: isAuthored(stage), verdict });
    },
    leaving() {
      if (at === "running") move({ at: "running", stage: "cleanup" });
    },
    finish(outcome, usage) {
      note({ kind: "finished" });
      move({ at: "finished", outcome: withoutWords(outcome), usage });
    },
  };
}

function masked(verdict: StageVerdict, mask: (text: string) => string): StageVerdict {
  if (verdict.is === "passed") return verdict;
  return { ...verdict, outcome: { ...verdict.outcome, message: mask(verdict.outcome.message) } };
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
