import type { JobLine } from "../../control/protocol.ts";
import type { Told } from "../shown.ts";

/** What is known of the runner, as it changes. */
export interface Known extends Omit<Told["whole"], "now"> {
  /** Whether changes arrive at the moment. */
  readonly live: boolean;
  /** The runner's clock less this machine's, in milliseconds. */
  readonly clockMs: number;
}

const MOST_FINISHED = 200;
const MOST_SAMPLES = 360;

export function keyOf({ runnerId, id }: JobLine): string {
  return `${runnerId}/${id}`;
}

/** Jobs in progress and history once these ones have changed. */
export function withJobs(known: Known, changed: readonly JobLine[]): Known {
  const jobs = new Map(known.jobs.map((job) => [keyOf(job), job]));
  const ended: JobLine[] = [];
  for (const job of changed) {
    if (job.state !== "ended") jobs.set(keyOf(job), { ...job, usage: job.usage ?? jobs.get(keyOf(job))?.usage });
    else {
      jobs.delete(keyOf(job));
      ended.unshift(job);
    }
  }
  return { ...known, jobs: [...jobs.values()], finished: [...ended, ...known.finished].slice(0, MOST_FINISHED) };
}

export function withUsed(known: Known, used: Told["used"]): Known {
  const news = new Map(used.map(({ runnerId, id, usage }) => [`${runnerId}/${id}`, usage]));
  const jobs = known.jobs.map((job) => (news.has(keyOf(job)) ? { ...job, usage: news.get(keyOf(job)) } : job));
  return { ...known, jobs };
}

export function withRest(known: Known, { state, concurrent, runners, sample }: Told["rest"]): Known {
  const last = known.samples.at(-1);
  const samples = sample === null || sample.at === last?.at ? known.samples : [...known.samples, sample];
  return { ...known, state, concurrent, runners: [...runners], samples: samples.slice(-MOST_SAMPLES) };
}

export interface Feed {
  close(): void;
}

/** Follows the runner while the page is looked at. A lost connection is made again by the browser. */
export function followRunner(on: (change: (known: Known | null) => Known | null) => void, denied: () => void): Feed {
  let source: EventSource | null = null;
  const hear = <K extends keyof Told>(from: EventSource, name: K, take: (told: Told[K]) => void): void => {
    from.addEventListener(name, ({ data }: MessageEvent<string>) => take(JSON.parse(data)));
  };
  const open = (): void => {
    source?.close();
    const mine = new EventSource("/api/events");
    source = mine;
    hear(mine, "whole", ({ now, ...whole }) =>
      on(() => ({ ...whole, live: true, clockMs: Date.parse(now) - Date.now() })),
    );
    hear(mine, "jobs", (jobs) => on((known) => known && withJobs(known, jobs)));
    hear(mine, "used", (used) => on((known) => known && withUsed(known, used)));
    hear(mine, "rest", (rest) => on((known) => known && withRest(known, rest)));
    mine.addEventListener("error", () => {
      on((known) => known && { ...known, live: false });
      // A browser gives up for good where it is answered, and that is: sign in.
      if (mine.readyState === EventSource.CLOSED && source === mine) denied();
    });
  };
  const look = (): void => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (source === null) open();
  };
  document.addEventListener("visibilitychange", look);
  look();
  return {
    close() {
      document.removeEventListener("visibilitychange", look);
      source?.close();
    },
  };
}
