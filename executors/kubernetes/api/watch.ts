import { createInterface } from "node:readline";
import { z } from "zod";
import { describeError } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import { backoff, pause } from "../../../src/time.ts";
import type { Api } from "./client.ts";
import { getPod, listLabelled, type Pod, podSchema, podsPath, selectorOf } from "./pods.ts";
import { ApiFailure } from "./status.ts";

/** What is known of one pod. `undefined`: it has not been seen yet; `null`: it existed and is gone. */
export interface PodView {
  readonly pod: Pod | null | undefined;
  /** Resolves once something about the pod has changed since the last look, or after `ms`. */
  changed(ms: number, signal: AbortSignal): Promise<void>;
  /** Asks the API itself. */
  look(signal: AbortSignal): Promise<Pod | null>;
  close(): void;
}

/** All pods of this process in one namespace, by one watch. */
export interface PodWatch {
  /** Must be called before the pod is made, so that no change to it is missed. */
  view(name: string): PodView;
  close(): void;
}

export interface PodWatchOptions {
  readonly api: Api;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  /** How often pods are asked for where the login may not watch them. */
  readonly pollMs: number;
  readonly log: Log;
}

const eventSchema = z.object({
  type: z.enum(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]),
  object: z.record(z.string(), z.unknown()),
});
const metadataSchema = z.object({ metadata: z.object({ resourceVersion: z.string() }) });
const errorSchema = z.object({ code: z.number().optional() });

const WATCH_S = 290;
/** Whoever waits for a pod also asks for it this often: a watch may be dead without an error. */
const OWN_LOOK_MS = 30_000;

interface Entry {
  pod: Pod | null | undefined;
  changes: number;
  readonly waiting: Set<() => void>;
}

/** Where a run goes on from, however a watch of its ends; empty: it lists anew. */
interface Place {
  version: string;
}

export function createPodWatch({ api, namespace, labels, pollMs, log }: PodWatchOptions): PodWatch {
  const entries = new Map<string, Entry>();
  let running: AbortController | null = null;
  let forbidden = false;

  const tell = (entry: Entry, pod: Pod | null): void => {
    // Answers may overtake each other: a pod that is gone stays gone.
    if (entry.pod === null) return;
    entry.pod = pod;
    entry.changes++;
    for (const wake of entry.waiting) wake();
  };
  const tellOf = (pod: Pod, gone: boolean): void => {
    const entry = entries.get(pod.metadata.name);
    if (entry !== undefined) tell(entry, gone ? null : pod);
  };

  const list = async (signal: AbortSignal): Promise<string> => {
    const path = podsPath(namespace);
    const before = new Set(
      [...entries].filter(([, { pod }]) => pod !== undefined && pod !== null).map(([name]) => name),
    );
    const { items, version } = await listLabelled(api, "list the job's pods", path, labels, signal);
    for (const pod of items) {
      before.delete(pod.metadata.name);
      tellOf(pod, false);
    }
    for (const name of before) {
      const entry = entries.get(name);
      if (entry !== undefined) tell(entry, null);
    }
    return version;
  };

  const watch = async (place: Place, signal: AbortSignal): Promise<void> => {
    const query = {
      watch: "1",
      labelSelector: selectorOf(labels),
      resourceVersion: place.version,
      allowWatchBookmarks: "true",
      timeoutSeconds: String(WATCH_S + Math.round(Math.random() * 20 - 10)),
    };
    const call = { what: "watch the job's pods", method: "GET", path: podsPath(namespace), query } as const;
    const stream = await api.stream(call, signal);
    stream.socket.setKeepAlive(true, 30_000);
    const onAbort = (): void => void stream.destroy();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) {
        if (line === "") continue;
        const { type, object } = eventSchema.parse(JSON.parse(line));
        if (type === "ERROR") {
          if (errorSchema.parse(object).code === 410) place.version = "";
          return;
        }
        place.version = metadataSchema.parse(object).metadata.resourceVersion;
        if (type !== "BOOKMARK") tellOf(podSchema.parse(object), type === "DELETED");
      }
    } finally {
      signal.removeEventListener("abort", onAbort);
      stream.destroy();
    }
  };

  const run = async (signal: AbortSignal): Promise<void> => {
    const waits = backoff({ firstMs: 800, maxMs: 30_000 });
    const place: Place = { version: "" };
    while (!signal.aborted) {
      try {
        if (place.version === "") place.version = await list(signal);
        const began = performance.now();
        await watch(place, signal);
        if (performance.now() - began > 120_000) waits.reset();
        // An API server that ends each watch at once is not asked in a tight loop.
        else if (performance.now() - began < 1000) await pause(waits.next(), signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof ApiFailure && error.status === 403) {
          forbidden = true;
          log.warn("The runner may not list and watch pods: each pod is asked for by itself", { namespace });
          for (const entry of entries.values()) for (const wake of entry.waiting) wake();
          return;
        }
        if (error instanceof ApiFailure && error.status === 410) place.version = "";
        log.debug("a watch of pods has ended", { problem: describeError(error) });
        await pause(waits.next(), signal).catch(() => {});
      }
    }
  };

  const view = (name: string): PodView => {
    const entry: Entry = { pod: undefined, changes: 0, waiting: new Set() };
    entries.set(name, entry);
    if (running === null) {
      running = new AbortController();
      void run(running.signal);
    }
    let seen = 0;
    let lookedAt = performance.now();
    const look = async (signal: AbortSignal): Promise<Pod | null> => {
      const pod = await getPod(api, namespace, name, signal);
      lookedAt = performance.now();
      if (pod !== null || entry.pod !== undefined) tell(entry, pod);
      return pod;
    };
    return {
      get pod() {
        return entry.pod;
      },
      look,
      changed: async (ms, signal) => {
        signal.throwIfAborted();
        const everyMs = forbidden ? pollMs : OWN_LOOK_MS;
        if (entry.changes === seen) {
          await new Promise<void>((resolve, reject) => {
            const end = (): void => {
              clearTimeout(timer);
              entry.waiting.delete(end);
              signal.removeEventListener("abort", onAbort);
              resolve();
            };
            const onAbort = (): void => {
              end();
              reject(signal.reason);
            };
            const timer = setTimeout(end, Math.min(ms, Math.max(0, lookedAt + everyMs - performance.now())));
            entry.waiting.add(end);
            signal.addEventListener("abort", onAbort, { once: true });
            if (signal.aborted) onAbort();
          });
          signal.throwIfAborted();
        }
        if (performance.now() - lookedAt >= everyMs) await look(signal);
        seen = entry.changes;
      },
      close: () => {
        entries.delete(name);
        if (entries.size > 0) return;
        running?.abort(new Error("no pod is left"));
        running = null;
      },
    };
  };

  return {
    view,
    close: () => {
      running?.abort(new Error("closing"));
      running = null;
    },
  };
}
