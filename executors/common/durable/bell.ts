import { type FSWatcher, watch } from "node:fs";

/** Tells that something in a directory may have changed. */
export interface Bell {
  /** How often it has rung. */
  readonly rings: number;
  /** Resolves once it has rung more often than `rings`. */
  after(rings: number): Promise<void>;
  ring(): void;
  close(): void;
}

/** Where nobody tells of changes it is looked, sooner where there were some a moment ago. */
const FIRST_LOOK_MS = 20;
const LAST_LOOK_MS = 250;
/** The kernel forgets changes where too many come at once. */
const DOUBT_MS = 2000;

/**
 * @param onRing called with the name of what has changed; `null`: it may be anything
 * @param watching how changes are heard of; another where there is nothing that tells of them
 */
export function hangBell(directory: string, onRing: (name: string | null) => void, watching = watch): Bell {
  let rings = 0;
  let lookMs = DOUBT_MS;
  let closed = false;
  let watcher: FSWatcher | null = null;
  const waiting = new Set<() => void>();

  const hear = (name: string | null): void => {
    if (closed) return;
    rings++;
    onRing(name);
    for (const wake of waiting) wake();
    waiting.clear();
  };
  let timer: NodeJS.Timeout;
  const lookLater = (): void => {
    timer = setTimeout(() => {
      hear(null);
      if (lookMs < LAST_LOOK_MS) lookMs = Math.min(lookMs * 2, LAST_LOOK_MS);
      if (!closed) lookLater();
    }, lookMs);
    timer.unref();
  };
  const lookOften = (): void => {
    watcher?.close();
    watcher = null;
    clearTimeout(timer);
    lookMs = FIRST_LOOK_MS;
    if (!closed) lookLater();
  };
  lookLater();
  try {
    watcher = watching(directory, (_, name) => hear(name));
    watcher.on("error", lookOften);
  } catch {
    lookOften();
  }

  return {
    get rings() {
      return rings;
    },
    after: (before) =>
      rings > before ? Promise.resolve() : new Promise((resolve) => void waiting.add(() => resolve())),
    ring: () => hear(null),
    close() {
      hear(null);
      closed = true;
      clearTimeout(timer);
      watcher?.close();
    },
  };
}
