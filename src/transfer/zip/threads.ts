import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { SystemFailure } from "../../errors.ts";
import { type Batch, type Batched, isBatched, performBatch } from "./batch.ts";

/** The program of a thread, put in by the bundler: the whole program would take 16 MB and 50 ms in each thread. */
declare const __ALLOY_RUNNER_THREAD__: string | undefined;

/** More threads cost more memory than they save time: disks and the one thread that feeds them are the limit then. */
const MOST_THREADS = 4;
/** A thread has its own code and memory, so it ends after it had nothing to do for this long. */
const IDLE_MS = 2000;
/** A smaller batch is done at once if a thread would have to be started for it. */
const LITTLE_BYTES = 64 * 1024;

interface Thread {
  readonly worker: Worker;
  /** Those who wait for the thread's answers, in order. */
  readonly waiting: { readonly resolve: (done: Batched) => void; readonly reject: (error: Error) => void }[];
  idle: NodeJS.Timeout | undefined;
}

/** All jobs share these threads, as they share the cores. */
const threads: Thread[] = [];

/**
 * Do a batch on another core. Batches are done side by side; their bytes move there and back without being copied, so `batch.bytes`
 * must lie in a buffer of their own and are gone afterwards. Callers bound how much they have under way.
 * @throws {SystemFailure} the thread has died
 */
export async function inThread(batch: Batch): Promise<Batched> {
  if (threads.length === 0 && batch.bytes.length <= LITTLE_BYTES) return performBatch(batch);
  const thread = freest();
  const moved = [batch.bytes.buffer, batch.numbers.buffer].filter((buffer) => buffer instanceof ArrayBuffer);
  // Who waits for what was not handed over would get the next one's answer.
  thread.worker.postMessage(batch, moved);
  clearTimeout(thread.idle);
  return await new Promise<Batched>((resolve, reject) => {
    if (thread.waiting.push({ resolve, reject }) === 1) thread.worker.ref();
  });
}

/** A thread with nothing to do; else a new one; else the one with the least to do. */
function freest(): Thread {
  const least = [...threads].sort((a, b) => a.waiting.length - b.waiting.length)[0];
  const most = Math.min(availableParallelism(), MOST_THREADS);
  return least === undefined || (least.waiting.length > 0 && threads.length < most) ? start() : least;
}

function start(): Thread {
  const worker =
    typeof __ALLOY_RUNNER_THREAD__ === "string"
      ? new Worker(__ALLOY_RUNNER_THREAD__, { eval: true })
      : new Worker(new URL("./thread.ts", import.meta.url));
  const thread: Thread = { worker, waiting: [], idle: undefined };
  const leave = (): void => {
    const index = threads.indexOf(thread);
    if (index >= 0) threads.splice(index, 1);
  };
  const fail = (problem: unknown): void => {
    leave();
    clearTimeout(thread.idle);
    const error = new SystemFailure("A thread that compresses has died", { cause: problem, retry: true });
    for (const { reject } of thread.waiting.splice(0)) reject(error);
  };
  worker.on("message", (done: unknown) => {
    const next = thread.waiting.shift();
    if (!isBatched(done)) {
      next?.reject(new SystemFailure("A thread that compresses gave an answer that is none"));
      return;
    }
    next?.resolve(done);
    if (thread.waiting.length > 0) return;
    worker.unref();
    thread.idle = setTimeout(() => {
      leave();
      void worker.terminate();
    }, IDLE_MS).unref();
  });
  worker.on("error", fail);
  worker.on("exit", fail);
  threads.push(thread);
  return thread;
}
