import type { AdoptRequest } from "../../../src/executor/prepare.ts";
import { never } from "../../../src/time.ts";
import { podsPath } from "../api/pods.ts";
import type { PodView } from "../api/watch.ts";
import { cleanUpJob, within } from "../clean-up/clean-up.ts";
import type { Sweeper } from "../clean-up/sweep.ts";
import type { KubernetesSettings } from "../settings/settings.ts";
import type { Cluster } from "./cluster.ts";

/** Numbers of the jobs of one project that run now, each the lowest that was free. */
export interface Slots {
  take(request: Pick<AdoptRequest, "runnerId" | "job">): Slot;
  /** One that a job has had before: whoever has it beside it has its own pod. */
  retake(request: Pick<AdoptRequest, "runnerId" | "job">, number: number): Slot;
}

export interface Slot {
  readonly number: number;
  free(): void;
}

export function createSlots(): Slots {
  const slots = new Map<string, Set<number>>();
  const hold = (key: string, number: number): Slot => {
    const taken = slots.get(key) ?? new Set();
    slots.set(key, taken);
    taken.add(number);
    let held = true;
    return {
      number,
      free: () => {
        if (!held) return;
        held = false;
        taken.delete(number);
        if (taken.size === 0 && slots.get(key) === taken) slots.delete(key);
      },
    };
  };
  const keyOf = ({ runnerId, job }: Pick<AdoptRequest, "runnerId" | "job">): string => `${runnerId}/${job.projectId}`;
  return {
    take: (request) => {
      const key = keyOf(request);
      let number = 0;
      while (slots.get(key)?.has(number) === true) number++;
      return hold(key, number);
    },
    retake: (request, number) => hold(keyOf(request), number),
  };
}

export interface StayOptions {
  readonly cluster: Pick<Cluster, "api">;
  readonly namespace: string;
  readonly jobKey: string;
  readonly settings: KubernetesSettings;
  readonly sweeper: Sweeper;
  /** Nothing of the job is there any more. */
  leave(): void;
}

/** What a job has in the cluster, from its first object to its last. */
export interface Stay {
  /** Another pod of the job; its view is closed with the stay. */
  pod(name: string, view: PodView): void;
  /** Ends the pod, whatever runs in it. */
  kill(): Promise<void>;
  destroy(until: AbortSignal): Promise<void>;
  /** Somebody else goes on with it: all of it stays as it is. */
  letGo(): void;
}

const UNDO_MS = 60_000;

export function createStay({ cluster, namespace, jobKey, settings, sweeper, leave }: StayOptions): Stay {
  const { api } = cluster;
  const views: PodView[] = [];
  let pod = "";
  let work: Promise<void> | null = null;
  const closeViews = (): void => {
    for (const view of views) view.close();
  };
  const remove = async (until: AbortSignal): Promise<void> => {
    const graceSeconds = settings.cleanupGraceSeconds;
    // Where other jobs get the same directory, nothing of this one may write to it any more.
    const waitMs = settings.volumes.length > 0 ? Infinity : 0;
    try {
      await within(settings.cleanupLimitMs, until, (limit) =>
        cleanUpJob({ api, namespace, jobKey, graceSeconds, waitMs, ...(pod === "" ? {} : { pod }) }, limit),
      );
    } catch (error) {
      work = null;
      // Something of it may still run in the builds directory: nobody else gets that meanwhile.
      sweeper.suspect({ api, namespace }, jobKey, leave);
      throw error;
    } finally {
      closeViews();
    }
    leave();
  };
  return {
    pod: (name, view) => {
      pod = name;
      views.push(view);
    },
    kill: async () => {
      const call = { what: `end the pod ${pod}`, method: "DELETE", path: podsPath(namespace, pod) } as const;
      const body = { apiVersion: "v1", kind: "DeleteOptions", gracePeriodSeconds: 1 };
      await within(UNDO_MS, never, (limit) => api.call({ ...call, body }, limit));
    },
    destroy: (until) => {
      work ??= remove(until);
      return work;
    },
    letGo: () => {
      closeViews();
      leave();
    },
  };
}
