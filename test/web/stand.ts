import { createBoard } from "../../src/board/board.ts";
import type { Board, BoardEntry, JobCard, RunnerActivity, ShownTrace } from "../../src/board/contract.ts";
import type { WebConfig } from "../../src/config/config.ts";
import type { Figure } from "../../src/control/steering.ts";
import { createLog } from "../../src/log.ts";
import { openWeb } from "../../src/web/server.ts";

/** A page of a runner whose jobs do what the test says. */
export interface Stand {
  readonly board: Board;
  readonly url: string;
  /** What executors count, by the id of their entry. */
  readonly figures: Map<string, readonly Figure[]>;
  /** Orders that were given. */
  readonly told: unknown[];
  /** Lines of the runner's log. */
  readonly logged: string[];
  addRunner(name: string, activity: RunnerActivity, more?: { id?: string; limit?: number; executor?: string }): void;
  addJob(card?: Partial<JobCard>): StandJob;
  close(): Promise<void>;
}

export interface StandJob extends BoardEntry {
  readonly canceled: () => boolean;
  print(text: string): void;
  /** No byte will follow. */
  endTrace(): void;
}

export async function openStand(web: Partial<WebConfig> = {}): Promise<Stand> {
  const board = createBoard();
  const told: unknown[] = [];
  const figures = new Map<string, readonly Figure[]>();
  const logged: string[] = [];
  const output = { write: (line: string) => void logged.push(line), flush: async () => {} };
  const server = await openWeb(
    { host: "127.0.0.1", port: 0, password: null, ...web },
    {
      steering: {
        board,
        version: "2.0.0 (test)",
        about: () => ({ config: "/etc/alloy-runner/config.toml", state: "running", concurrent: 10 }),
        figures: (runner) => figures.get(runner) ?? [],
        pause: (ids) => told.push(["pause", ids]),
        resume: (ids) => told.push(["resume", ids]),
        drain: () => told.push("drain"),
        tidy: async () => [],
        reload: async () => ({ problem: "The new configuration cannot be used" }),
      },
      freeBytes: () => 48_200_000_000,
      log: createLog({ level: "info", format: "text", output }),
    },
  );
  let count = 0;
  return {
    board,
    url: server.url,
    told,
    figures,
    logged,
    addRunner(name, activity, { id = name, limit = 4, executor = "docker" } = {}) {
      board.addRunner({ id, name, executor, origin: "https://ci.example.com", limit }, () => activity);
    },
    addJob(card = {}) {
      count++;
      let bytes = Buffer.alloc(0);
      let ended = false;
      let canceled = false;
      const trace: ShownTrace = {
        get size() {
          return bytes.length;
        },
        get ended() {
          return ended;
        },
        read: async (from, most) => bytes.subarray(from, from + most),
      };
      const entry = board.add(
        {
          id: String(count),
          title: `acme/widget: job ${count}`,
          page: "",
          runner: "one",
          runnerName: "one",
          receivedAt: Date.now(),
          ...card,
        },
        {
          trace,
          cancel: () => {
            canceled = true;
          },
          usage: async () => ({}),
        },
      );
      return {
        ...entry,
        canceled: () => canceled,
        print(text) {
          const more = Buffer.from(text);
          bytes = Buffer.concat([bytes, more]);
          entry.traced(more.length);
        },
        endTrace() {
          ended = true;
          entry.traced(0);
        },
      };
    },
    close: () => server.close(),
  };
}
