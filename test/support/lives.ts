import type { LocalCoordinator, LocalJob } from "../../src/local/coordinator/coordinator.ts";
import type { RecordedRequest } from "../../src/local/coordinator/http/recorder.ts";

/** How a process of the runner ended, and which jobs its state directory had then. */
export interface Death {
  readonly signal: "SIGKILL" | "SIGTERM";
  readonly at: number;
  /** The time when the process had ended: a job may still arrive while it stops. */
  readonly overAt: number;
  readonly kept: readonly string[];
}

/** One process of the runner: its requests carry its mark, and its log has all that it printed. */
interface Life {
  readonly mark: string;
  readonly log: () => string;
  death: Death | undefined;
}

/** The ends of the runner's processes, one after the other. */
export interface Lives {
  /** `start` resolves once the new process has sent a request. */
  begin(start: () => Promise<{ readonly stderr: () => string }>): Promise<void>;
  end(death: Death): void;
  readonly deaths: readonly Death[];
  readonly logs: readonly string[];
  /**
   * AlloyCI gives a job away with an answer that nobody confirms, so a job is lost if the process that asked is killed
   * before the job is written down. This is so only if that process had sent the request, was killed, and its state
   * directory has no whole record of the job; its log may at most have the job's arrival. If even that is missing, the
   * process must not have asked again, as it would first have dealt with the answer.
   */
  isLost(job: LocalJob): boolean;
}

export function watchLives(coordinator: LocalCoordinator): Lives {
  const lives: Life[] = [];
  const markOf = ({ headers }: RecordedRequest): string => headers["x-request-id"]?.slice(0, 16) ?? "";
  const isKnown = (mark: string): boolean => lives.some((life) => life.mark === mark);

  return {
    async begin(start) {
      const running = await start();
      const fresh = coordinator.requests.findLast((request) => !isKnown(markOf(request)));
      if (fresh === undefined) throw new Error("the new process has sent nothing");
      lives.push({ mark: markOf(fresh), log: running.stderr, death: undefined });
    },
    end(death) {
      const last = lives.at(-1);
      if (last !== undefined) last.death = death;
    },
    get deaths() {
      return lives.flatMap(({ death }) => (death === undefined ? [] : [death]));
    },
    get logs() {
      return lives.map(({ log }) => log());
    },
    isLost({ id, dialect, handedOutTo: request, updates }) {
      if (dialect !== "alloy" || request === undefined || updates.length > 0) return false;
      const life = lives.find(({ mark }) => mark === markOf(request));
      if (life?.death?.signal !== "SIGKILL" || life.death.kept.includes(id)) return false;
      const said = life
        .log()
        .split("\n")
        .filter((line) => new RegExp(`\\bjob=${id}\\b`).test(line));
      if (said.length > 0) return said.length === 1 && said[0]?.includes("job received") === true;
      const requests = coordinator.requests.filter((other) => other.endpoint === "job_request");
      return requests.findLast((other) => markOf(other) === life.mark) === request;
    },
  };
}
