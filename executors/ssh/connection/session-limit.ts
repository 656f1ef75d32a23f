/** Room for one program on a connection. */
export interface Session {
  /** May be called more than once. */
  free(): void;
  /**
   * To be called where the host refused this session: from now on no more than the other sessions run at once.
   * @returns false when there are no others: the host refuses any
   */
  lower(): boolean;
}

interface SessionLimit {
  /** First come, first served. @throws the signal's reason */
  take(signal: AbortSignal): Promise<Session>;
  /** `null` where `take` would wait. */
  tryTake(): Session | null;
}

/** At most `most` at once; fewer after the host has refused one. */
export function createSessionLimit(most: number): SessionLimit {
  let limit = most;
  let used = 0;
  const waiting: (() => void)[] = [];
  const wake = (): void => {
    while (used < limit && waiting.length > 0) {
      used++;
      waiting.shift()?.();
    }
  };
  const session = (): Session => {
    let freed = false;
    return {
      free: () => {
        if (freed) return;
        freed = true;
        used--;
        wake();
      },
      lower: () => {
        const others = freed ? used : used - 1;
        if (others === 0) return false;
        limit = Math.min(limit, others);
        return true;
      },
    };
  };
  const tryTake = (): Session | null => {
    if (used >= limit || waiting.length > 0) return null;
    used++;
    return session();
  };
  return {
    tryTake,
    take: async (signal) => {
      signal.throwIfAborted();
      const now = tryTake();
      if (now !== null) return now;
      return await new Promise<Session>((resolve, reject) => {
        const turn = (): void => {
          signal.removeEventListener("abort", onAbort);
          resolve(session());
        };
        const onAbort = (): void => {
          waiting.splice(waiting.indexOf(turn), 1);
          reject(signal.reason);
        };
        waiting.push(turn);
        signal.addEventListener("abort", onAbort, { once: true });
      });
    },
  };
}
