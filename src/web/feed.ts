import type { Socket } from "node:net";
import type { JobView } from "../board/contract.ts";
import { liveUsage, statusOf } from "../control/answers.ts";
import { lastLine } from "../control/last-line.ts";
import { jobLine, runnerLines } from "../control/lines.ts";
import type { JobLine } from "../control/protocol.ts";
import type { Steering } from "../control/steering.ts";
import type { Rest, Sample, Told, Used } from "./shown.ts";

/** Changes of jobs are gathered for so long. */
const GATHER_MS = 150;
const LOOK_MS = 1000;
/** What jobs use is measured at each such look. */
const MEASURED_LOOKS = 2;
/** A connection where nothing is said for so many looks is told that it is alive. */
const SILENT_LOOKS = 15;
/** Whoever has so much left to read is cut off, and begins anew with all of it. */
const MOST_UNREAD_BYTES = 4 * 2 ** 20;

export interface Feed {
  /** Writes events to `socket`, whose head is written, until it closes. */
  join(socket: Socket): Promise<void>;
}

/** What has changed, for everybody who looks; where nobody does, nothing is done. */
export function createFeed(steering: Steering, samples: { readonly all: readonly Sample[] }): Feed {
  const { board } = steering;
  const present = new Set<Socket>();
  /** Those of them that have been told the whole. */
  const told = new Set<Socket>();
  const changed = new Map<number, JobView>();
  let gathering: NodeJS.Timeout | undefined;
  let stop: (() => void) | undefined;
  let said = "";
  let silent = 0;
  let looks = 0;
  /** What was said last of what each job uses. */
  let usedBefore: ReadonlyMap<string, string> = new Map();

  const tell = (text: string): void => {
    for (const viewer of told) {
      if (viewer.writableLength > MOST_UNREAD_BYTES) viewer.destroy();
      else viewer.write(text);
    }
  };
  const tellJobs = async (): Promise<void> => {
    gathering = undefined;
    const views = [...changed.values()];
    changed.clear();
    const inProgress = new Set(board.jobs().map(({ number }) => number));
    const now = Date.now();
    const lines = views.map(async (view): Promise<JobLine> => {
      const trace = board.trace(view.number);
      const line = jobLine(view, now, !inProgress.has(view.number));
      return trace === null ? line : { ...line, lastLine: await lastLine(trace) };
    });
    tell(event("jobs", await Promise.all(lines)));
  };
  const rest = (): Rest => {
    const { state, concurrent } = steering.about();
    return { state, concurrent, runners: runnerLines(steering, Date.now()), sample: samples.all.at(-1) ?? null };
  };
  const tellUsed = async (): Promise<void> => {
    const all = await Promise.all(
      board.jobs().map(async (view): Promise<Used[]> => {
        const usage = await liveUsage(board, view);
        return usage === undefined ? [] : [{ id: view.id, runnerId: view.runner, usage }];
      }),
    );
    const news = all.flat().filter((one) => usedBefore.get(one.runnerId + one.id) !== JSON.stringify(one));
    usedBefore = new Map(all.flat().map((one) => [one.runnerId + one.id, JSON.stringify(one)]));
    if (news.length > 0) tell(event("used", news));
  };
  const start = (): void => {
    const unwatch = board.watch((view) => {
      changed.set(view.number, view);
      gathering ??= setTimeout(() => void tellJobs(), GATHER_MS);
    });
    const looking = setInterval(() => {
      const text = event("rest", rest());
      silent++;
      if (looks++ % MEASURED_LOOKS === 0) void tellUsed();
      if (text !== said) tell(text);
      else if (silent >= SILENT_LOOKS) tell(": still here\n\n");
      else return;
      said = text;
      silent = 0;
    }, LOOK_MS);
    stop = () => {
      unwatch();
      clearInterval(looking);
      clearTimeout(gathering);
      gathering = undefined;
      changed.clear();
      said = "";
    };
  };

  const leave = (socket: Socket): void => {
    told.delete(socket);
    present.delete(socket);
    if (present.size > 0) return;
    stop?.();
    stop = undefined;
  };

  return {
    async join(socket) {
      // From here on changes are gathered: none is lost between the whole and the first of them.
      present.add(socket);
      if (stop === undefined) start();
      socket.once("close", () => leave(socket));
      const status = await statusOf(steering, { lines: true, usage: false });
      if (socket.destroyed) return;
      socket.write(event("whole", { ...status, now: new Date().toISOString(), samples: samples.all }));
      told.add(socket);
      // Who has just come knows nothing of it.
      usedBefore = new Map();
      void tellUsed();
    },
  };
}

function event<K extends keyof Told>(name: K, data: Told[K]): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
