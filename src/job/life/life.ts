import { uptime } from "node:os";
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
  /** `number`: which of the plan it is, from 0. `again`: an earlier process has begun it. */
  begin(stage: Stage, number: number, options?: { readonly again: boolean }): void;
  end(stage: Stage, verdict: StageVerdict, number: number): void;
  /** Its scripts are over; what is left is to let go of its place. */
  leaving(): void;
  /** Stages that have ended in an earlier process, and how. */
  recall(stages: readonly Stage[], verdicts: ReadonlyMap<number, StageVerdict>): void;
  /** Nothing more runs: what is left are the last lines of its trace. */
  over(): void;
  /** Everything that could decide it is over. */
  finish(outcome: Outcome, usage: JobUsage): void;
}

const MOVES: Readonly<Record<JobProgress["at"], readonly JobProgress["at"][]>> = {
  // Where an earlier process has begun, stages go on at once.
  received: ["resolving", "preparing", "running", "finished"],
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
      note({ kind: "preparing", attempt, uptimeSeconds: uptime() });
      move({ at: "preparing", attempt });
    },
    begin(stage, number, { again } = { again: false }) {
      if (!again) note({ kind: "begun", stage: number, uptimeSeconds: uptime() });
      move({ at: "running", stage: stage.name, ...(decided(ended) === null ? {} : { failed: true }) });
    },
    end(stage, verdict, number) {
      note({ kind: "ended", stage: number, verdict: masked(verdict, mask) });
      ended.push({ name: stage.name, authored: isAuthored(stage), verdict });
    },
    leaving() {
      if (at === "running") move({ at: "running", stage: "cleanup_file_variables" });
    },
    recall(stages, verdicts) {
      for (const [number, verdict] of verdicts) {
        const stage = stages[number];
        if (stage !== undefined) ended.push({ name: stage.name, authored: isAuthored(stage), verdict });
      }
    },
    over: () => note({ kind: "over" }),
    finish(outcome, usage) {
      note({ kind: "finished", outcome: maskedOutcome(outcome, mask) });
      move({ at: "finished", outcome: withoutWords(outcome), usage });
    },
  };
}

function masked(verdict: StageVerdict, mask: (text: string) => string): StageVerdict {
  return verdict.is === "passed" ? verdict : { ...verdict, outcome: maskedOutcome(verdict.outcome, mask) };
}

function maskedOutcome<T extends Outcome>(outcome: T, mask: (text: string) => string): T {
  return outcome.result === "success" ? outcome : { ...outcome, message: mask(outcome.message) };
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
