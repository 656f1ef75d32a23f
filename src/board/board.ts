import type { JobProgress } from "../job/job.ts";
import type { Board, BoardEntry, JobCard, JobHandles, JobView } from "./contract.ts";

/** Jobs that have ended and are still shown. */
const FINISHED = 200;

interface Shown {
  view: JobView;
  handles: JobHandles;
}

/** All that can be said of this process's jobs to whoever asks: the one place that signals, metrics and pages read. */
export function createBoard(): Board {
  const shown = new Set<Shown>();
  const ended: JobView[] = [];
  const watchers = new Set<(job: JobView) => void>();

  const change = (mine: Shown, more: Partial<Pick<JobView, "progress" | "since" | "traceBytes">>): void => {
    mine.view = Object.freeze({ ...mine.view, ...more });
    for (const watcher of watchers) watcher(mine.view);
  };
  const find = (id: string): Shown[] => [...shown].filter(({ view }) => view.id === id);

  return {
    add(card, handles): BoardEntry {
      const mine: Shown = { view: viewOf(card, { at: "received" }), handles };
      shown.add(mine);
      change(mine, {});
      return {
        moved: (progress) => change(mine, { progress, since: Date.now() }),
        traced: (bytes) => change(mine, { traceBytes: mine.view.traceBytes + bytes }),
        offer: (offered) => {
          mine.handles = offered;
        },
        end() {
          if (!shown.delete(mine)) return;
          ended.unshift(mine.view);
          ended.length = Math.min(ended.length, FINISHED);
          change(mine, {});
        },
      };
    },
    jobs: () => [...shown].map(({ view }) => view),
    finished: () => [...ended],
    async tail(id, bytes) {
      const [first] = find(id);
      return first === undefined ? null : await first.handles.tail(bytes);
    },
    cancel(id) {
      const found = find(id);
      for (const { handles } of found) handles.cancel();
      return found.length;
    },
    watch(onChange) {
      watchers.add(onChange);
      return () => watchers.delete(onChange);
    },
  };
}

/** Copies field by field, so that nothing else gets in that the object may carry. */
function viewOf({ id, title, runner, runnerName, receivedAt }: JobCard, progress: JobProgress): JobView {
  return Object.freeze({ id, title, runner, runnerName, receivedAt, progress, since: receivedAt, traceBytes: 0 });
}
