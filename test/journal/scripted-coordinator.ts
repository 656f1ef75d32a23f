import {
  type Coordinator,
  type JobUpdate,
  type StoredTrace,
  type TraceAnswer,
  TroubleCause,
  type UpdateAnswer,
} from "../../src/coordinator/contract.ts";
import { SystemFailure } from "../../src/errors.ts";
import type { JobCredentials } from "../../src/job/job.ts";

/** A call as a coordinator sees it. */
export type Call =
  | { readonly call: "trace"; readonly job: string; readonly from: number; readonly text: string }
  | {
      readonly call: "update";
      readonly job: string;
      readonly update: JobUpdate;
      /** `null`: there was none. */
      readonly trace: string | null;
    };

/** Answers a call; `undefined` leaves the answer to the usual behaviour. */
export type Script = (call: Call) => UpdateAnswer | TraceAnswer | SystemFailure | "hang" | undefined;

export interface Stored {
  text: string;
  state: string | null;
  checksum: string | undefined;
  reports: number;
  callsAfterEnd: number;
}

/** How a failed call looks; status 0 is no answer at all. */
export function failure(status: number, retryAfterMs?: number): SystemFailure {
  const cause = new TroubleCause(`answered ${status}`, status, retryAfterMs);
  return new SystemFailure("the call failed", { retry: true, cause });
}

/** Keeps jobs as AlloyCI or GitLab would, and asks a script first about each call. */
export function scriptedCoordinator(origin = "http://coordinator.test/") {
  const calls: Call[] = [];
  const jobs = new Map<string, Stored>();
  let script: Script = () => undefined;
  let closed = 0;
  const listeners = new Set<() => void>();

  function jobOf(id: string): Stored {
    const job = jobs.get(id) ?? { text: "", state: null, checksum: undefined, reports: 0, callsAfterEnd: 0 };
    jobs.set(id, job);
    if (job.state !== null) job.callsAfterEnd++;
    return job;
  }

  async function answer<T>(call: Call, signal: AbortSignal, usual: () => T): Promise<T | UpdateAnswer | TraceAnswer> {
    signal.throwIfAborted();
    calls.push(call);
    for (const listener of listeners) listener();
    const said = script(call);
    if (said === "hang") {
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
    }
    if (said instanceof SystemFailure) throw said;
    await new Promise((resolve) => setImmediate(resolve));
    return said === undefined || said === "hang" ? usual() : said;
  }

  const coordinator: Coordinator = {
    origin,
    requestJob: async () => ({ kind: "none", heldMs: 0 }),
    uploadArtifacts: () => Promise.reject(new Error("not asked for")),
    downloadArtifacts: () => Promise.reject(new Error("not asked for")),
    async appendTrace(job: JobCredentials, { from, bytes }, signal) {
      const text = Buffer.from(bytes).toString();
      const said = await answer({ call: "trace", job: job.id, from, text }, signal, (): TraceAnswer => {
        const stored = jobOf(job.id);
        const has = Buffer.byteLength(stored.text);
        if (job.dialect === "gitlab" && from !== has) return { status: "running", next: has, intervalMs: undefined };
        stored.text += text;
        return { status: "running", next: from + bytes.length, intervalMs: undefined };
      });
      if ("kind" in said) throw new Error("the script answers an update");
      return said;
    },
    async updateJob(job, update, signal) {
      const trace = update.trace === undefined ? null : await textOf(update.trace, signal);
      if (update.trace !== undefined && trace !== null && Buffer.byteLength(trace) !== update.trace.size) {
        throw new Error("the trace has not the size that it says");
      }
      const said = await answer({ call: "update", job: job.id, update, trace }, signal, (): UpdateAnswer => {
        if (update.state === "running") return { kind: "done", status: "running" };
        // GitLab refuses this for a job that was acknowledged.
        if (update.state === "pending") throw failure(400);
        const stored = jobOf(job.id);
        if (trace !== null) stored.text = trace;
        stored.state = update.state;
        stored.checksum = update.checksum;
        stored.reports++;
        return { kind: "done", status: "running" };
      });
      if (!("kind" in said)) throw new Error("the script answers a trace");
      return said;
    },
    async close() {
      closed++;
    },
  };

  return {
    coordinator,
    calls,
    jobs,
    get closed() {
      return closed;
    },
    answerWith(next: Script) {
      script = next;
    },
    /** Resolves with the first call, past or to come, that fits. */
    async called(fits: (call: Call) => boolean): Promise<void> {
      if (calls.some(fits)) return;
      await new Promise<void>((resolve) => {
        const listener = (): void => {
          if (!calls.some(fits)) return;
          listeners.delete(listener);
          resolve();
        };
        listeners.add(listener);
      });
    },
  };
}

async function textOf(trace: StoredTrace, signal: AbortSignal): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of trace.open(signal)) pieces.push(Buffer.from(piece));
  return Buffer.concat(pieces).toString();
}
