import type { JobProgress } from "../job/job.ts";
import type {
  Board,
  BoardEntry,
  JobCard,
  JobHandles,
  JobView,
  RunnerActivity,
  RunnerCard,
  RunnerView,
} from "./contract.ts";
import { createGauge, type Gauge } from "./gauge.ts";

/** How many jobs that have ended are still shown. */
const FINISHED = 200;

/** Most stages that are kept of a job: its author may make any number of them. */
const STAGES = 60;

interface Shown {
  view: JobView;
  /** `performance.now()` when it came to its stage. */
  enteredAt: number;
  handles: JobHandles;
  readonly gauge: Gauge;
  /** Somebody has canceled it, perhaps before there was anything to stop. */
  canceled: boolean;
}

/**
 * Knows everything about this process's jobs and entries that may be shown: signals, metrics, socket and pages read it
 * here.
 */
export function createBoard(): Board {
  const shown = new Map<number, Shown>();
  const ended: JobView[] = [];
  const watchers = new Set<(job: JobView) => void>();
  const entries = new Set<() => RunnerView>();
  let count = 0;

  const change = (
    mine: Shown,
    more: Partial<Pick<JobView, "progress" | "since" | "traceBytes" | "stages" | "usage" | "outlives" | "adopted">>,
  ): void => {
    mine.view = Object.freeze({ ...mine.view, ...more });
    for (const watcher of watchers) watcher(mine.view);
  };

  return {
    add(card, handles): BoardEntry {
      const number = ++count;
      const view = viewOf(card, number, { at: "received" });
      const gauge = createGauge(() => mine.handles.usage());
      const mine: Shown = { view, handles, gauge, enteredAt: performance.now(), canceled: false };
      shown.set(number, mine);
      change(mine, {});
      return {
        moved(progress) {
          const now = performance.now();
          const stages = withStage(mine.view, now - mine.enteredAt);
          // Another try to prepare counts as part of the first one.
          if (stageOf(progress) !== stageOf(mine.view.progress)) mine.enteredAt = now;
          const usage = progress.at === "finished" && progress.usage !== undefined ? { usage: progress.usage } : {};
          change(mine, { progress, ...usage, since: Date.now(), ...(mine.enteredAt === now ? { stages } : {}) });
        },
        traced: (bytes) => change(mine, { traceBytes: mine.view.traceBytes + bytes }),
        outlives: () => change(mine, { outlives: true }),
        adopted: (times) => change(mine, { adopted: times }),
        offer: (offered) => {
          mine.handles = { ...mine.handles, ...offered };
          if (mine.canceled) offered.cancel?.();
        },
        end() {
          if (!shown.delete(number)) return;
          ended.unshift(mine.view);
          ended.length = Math.min(ended.length, FINISHED);
          change(mine, {});
        },
      };
    },
    jobs: () => [...shown.values()].map(({ view }) => view),
    finished: () => [...ended],
    trace: (number) => shown.get(number)?.handles.trace ?? null,
    usage: async (number) => (await shown.get(number)?.gauge()) ?? {},
    cancel(number) {
      const found = shown.get(number);
      if (found === undefined) return false;
      found.canceled = true;
      found.handles.cancel();
      return true;
    },
    watch(onChange) {
      watchers.add(onChange);
      return () => watchers.delete(onChange);
    },
    addRunner(card, look) {
      const view = (): RunnerView => runnerViewOf(card, look());
      entries.add(view);
      return { [Symbol.dispose]: () => void entries.delete(view) };
    },
    runners: () => [...entries].map((view) => view()),
  };
}

/** Copies field by field, so that nothing else gets in that the object may carry. */
function viewOf(card: JobCard, number: number, progress: JobProgress): JobView {
  const { id, title, page, runner, runnerName, receivedAt, queuedSeconds } = card;
  return Object.freeze({
    id,
    number,
    title,
    page,
    runner,
    runnerName,
    receivedAt,
    ...(queuedSeconds === undefined ? {} : { queuedSeconds }),
    progress,
    since: receivedAt,
    traceBytes: 0,
    stages: [],
  });
}

function runnerViewOf({ id, name, executor, origin, limit }: RunnerCard, activity: RunnerActivity): RunnerView {
  return Object.freeze({ id, name, executor, origin, limit, activity });
}

function stageOf(progress: JobProgress): string | undefined {
  if (progress.at === "resolving") return "resolve_secrets";
  if (progress.at === "preparing") return "prepare_executor";
  return progress.at === "running" ? progress.stage : undefined;
}

/** The job's stages, with the present one as one that has ended. */
function withStage({ progress, stages }: JobView, ms: number): JobView["stages"] {
  const name = stageOf(progress);
  if (name === undefined) return stages;
  const known = stages.find((stage) => stage.name === name);
  if (known !== undefined) return stages.map((stage) => (stage === known ? { name, ms: stage.ms + ms } : stage));
  return stages.length < STAGES ? [...stages, { name, ms }] : stages;
}
