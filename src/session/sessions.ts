import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { Stop } from "../errors.ts";
import { deadline, unlessAborted } from "../time.ts";
import type { JobSession, SessionHost, SessionOffer } from "./contract.ts";

/** What the server knows of a job that can be reached. */
export interface LiveSession {
  /** Whether this is the secret that opens it. */
  admits(authorization: string): boolean;
  /** Once the job's place is there. @throws the signal's reason */
  host(signal: AbortSignal): Promise<SessionHost>;
  /** Takes its only place for a terminal; `null`: somebody has it. */
  enter(): Visit | null;
  /** Fires when the job is over. */
  readonly over: AbortSignal;
}

/** A person's stay, from the request on. */
export interface Visit {
  /** The terminal is there: the job is held open for it. */
  opened(): void;
  leave(): void;
}

export interface Sessions {
  /** For one request for a job. */
  offer(): SessionOffer;
  find(id: string): LiveSession | undefined;
}

interface SessionsOptions {
  /** `https://host:port`, as coordinators are told it. */
  readonly origin: string;
  /** PEM */
  readonly certificate: string;
}

const SECRET_BYTES = 16;

export function createSessions({ origin, certificate }: SessionsOptions): Sessions {
  const live = new Map<string, LiveSession>();
  return {
    offer() {
      const id = randomBytes(SECRET_BYTES).toString("hex");
      const authorization = randomBytes(SECRET_BYTES).toString("hex");
      return {
        words: { url: `${origin}/session/${id}`, certificate, authorization },
        claim() {
          const { session, seen } = createSession(authorization, () => live.delete(id));
          live.set(id, seen);
          return session;
        },
      };
    },
    find: (id) => live.get(id),
  };
}

interface Stay {
  readonly left: PromiseWithResolvers<void>;
  openedAt: number | undefined;
}

function createSession(secret: string, onClose: () => void): { session: JobSession; seen: LiveSession } {
  const wanted = digest(secret);
  const hosting = Promise.withResolvers<SessionHost>();
  const over = new AbortController();
  let host: SessionHost | undefined;
  let stay: Stay | null = null;

  const seen: LiveSession = {
    admits: (authorization) => timingSafeEqual(digest(authorization), wanted),
    host: async (signal) => await unlessAborted(hosting.promise, signal),
    enter() {
      if (stay !== null) return null;
      const mine: Stay = { left: Promise.withResolvers(), openedAt: undefined };
      stay = mine;
      return {
        opened() {
          mine.openedAt = performance.now();
          host?.tell({ is: "opened" });
        },
        leave() {
          if (stay !== mine) return;
          stay = null;
          mine.left.resolve();
          if (mine.openedAt === undefined) return;
          host?.tell({ is: "closed", seconds: Math.round((performance.now() - mine.openedAt) / 1000) });
        },
      };
    },
    over: over.signal,
  };
  const session: JobSession = {
    ready(given) {
      host = given;
      hosting.resolve(given);
    },
    async hold(mostMs, told, signal) {
      if (stay?.openedAt === undefined || mostMs <= 0 || signal.aborted) return;
      told(mostMs);
      using limit = deadline(signal, mostMs, new Stop("timed_out", "session_timeout"));
      await unlessAborted(stay.left.promise, limit.signal).catch(() => {});
    },
    async close() {
      onClose();
      over.abort(new Stop("canceled", "the job is over"));
      await stay?.left.promise;
    },
  };
  return { session, seen };
}

/** Of any text, so many bytes that comparing takes the same time. */
function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
