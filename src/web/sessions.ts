import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

/** Somebody who has said the password. */
export interface Session {
  /** What each of its orders has to carry: a page of another site cannot read it. */
  readonly csrf: string;
  /** Fires when it is over, and with it what it looks at. */
  readonly over: AbortSignal;
}

export interface Sessions {
  /** Whether it is the password. Takes as long for a wrong one. */
  accepts(password: string): boolean;
  /** @returns the value of its cookie */
  open(): string;
  find(cookie: string): Session | null;
  close(cookie: string): void;
  /** Ends all. */
  clear(): void;
}

export const SESSION_SECONDS = 12 * 3600;
/** One more ends the oldest. */
const MOST = 64;

/** The sessions of one password, in memory: who signed in has to do so again after a restart. */
export function createSessions(password: string): Sessions {
  const wanted = digest(password);
  const sessions = new Map<string, Session & { end(): void }>();
  return {
    accepts: (said) => timingSafeEqual(digest(said), wanted),
    open() {
      const cookie = randomBytes(32).toString("base64url");
      const key = digest(cookie).toString("hex");
      const controller = new AbortController();
      const timer = setTimeout(() => sessions.get(key)?.end(), SESSION_SECONDS * 1000);
      timer.unref();
      const end = (): void => {
        clearTimeout(timer);
        sessions.delete(key);
        controller.abort();
      };
      sessions.set(key, { csrf: randomBytes(32).toString("base64url"), over: controller.signal, end });
      const [oldest] = sessions.values();
      if (sessions.size > MOST) oldest?.end();
      return cookie;
    },
    find: (cookie) => sessions.get(digest(cookie).toString("hex")) ?? null,
    close: (cookie) => sessions.get(digest(cookie).toString("hex"))?.end(),
    clear() {
      for (const session of sessions.values()) session.end();
    },
  };
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
