import type { Board } from "../board/contract.ts";
import type { Sample } from "./shown.ts";

/** Where they come from. */
export interface Sampled {
  readonly board: Board;
  concurrent(): number;
  freeBytes(): number | undefined;
}

export interface Samples extends Disposable {
  readonly all: readonly Sample[];
}

const EVERY_MS = 10_000;
/** An hour. */
const MOST = 360;

/** Takes a sample now and then, until disposed of. */
export function createSamples({ board, concurrent, freeBytes }: Sampled): Samples {
  const all: Sample[] = [];
  let newest = 0;
  const take = (): void => {
    const jobs = board.jobs();
    const arrived = [...jobs, ...board.finished()].filter(({ number }) => number > newest);
    newest = Math.max(newest, ...arrived.map(({ number }) => number));
    const undelivered = jobs.filter(({ progress }) => progress.at === "delivering").length;
    all.push({
      at: new Date().toISOString(),
      jobs: jobs.length - undelivered,
      concurrent: concurrent(),
      waited: Math.max(0, ...arrived.map(({ queuedSeconds = 0 }) => queuedSeconds)),
      undelivered,
      freeBytes: freeBytes() ?? null,
    });
    if (all.length > MOST) all.shift();
  };
  take();
  const timer = setInterval(take, EVERY_MS);
  timer.unref();
  return { all, [Symbol.dispose]: () => clearInterval(timer) };
}
