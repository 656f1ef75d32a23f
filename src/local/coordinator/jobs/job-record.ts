import type { Dialect } from "../../../job/job.ts";
import { createChannel, nowMs, until } from "../channel.ts";
import type { RecordedRequest } from "../http/recorder.ts";
import { hasFeature, type LocalRunner } from "../runners.ts";
import type { LocalArtifact } from "./artifacts.ts";
import type { JobSpec } from "./job.ts";
import { isOver, type JobStatus, type LocalJob, type LocalPatch, type LocalUpdate } from "./job.ts";
import { withoutTimes } from "./shown-trace.ts";
import { createMarkerSearch, createTraceStore, type TraceMarker } from "./trace-store.ts";

/** A job with what the coordinator does to it. */
export interface JobRecord extends LocalJob {
  /** @param status `pending`: until the runner acknowledges it */
  assign(runner: LocalRunner, status: "running" | "pending", request: RecordedRequest): void;
  /** The coordinator itself fails the job, and has made another of it. */
  drop(reason: string, retriedAs: JobRecord): void;
  setStatus(status: JobStatus): void;
  append(bytes: Buffer, offset: number | undefined): void;
  /** AlloyCI: what PUT brought is the trace from now on. */
  replaceTrace(): { begin(): void; write(text: string): void; commit(): void };
  /** AlloyCI: the live text is thrown away. */
  dropLive(): void;
  addUpdate(update: LocalUpdate): void;
  addArtifact(artifact: LocalArtifact): void;
}

/** What a job tells its coordinator's listeners. */
export interface JobNews {
  status(job: LocalJob): void;
  trace(job: LocalJob, bytes: Buffer): void;
  reported(job: LocalJob): void;
}

export interface JobOptions {
  readonly dialect: Dialect;
  readonly id: string;
  readonly token: string;
  readonly storeTrace: "memory" | "count";
  readonly traceMarker: string | undefined;
  readonly news: JobNews;
}

export function createJob(spec: JobSpec, { dialect, id, token, storeTrace, traceMarker, news }: JobOptions): JobRecord {
  const keep = storeTrace === "memory";
  const live = createTraceStore(keep);
  let put: ReturnType<typeof createTraceStore> | undefined;
  /** AlloyCI: patches before this one are not part of the live text any more. */
  let liveFrom = 0;
  let status: JobStatus = "pending";
  let dropReason: string | undefined;
  let retriedAs: LocalJob | undefined;
  let runner: LocalRunner | undefined;
  let handedOutTo: RecordedRequest | undefined;
  let pickedUpAt: number | undefined;
  let canceledAt: number | undefined;
  let finishedAt: number | undefined;
  const enqueuedAt = nowMs();
  const events: { at: number; status: JobStatus }[] = [{ at: enqueuedAt, status }];
  const patches: LocalPatch[] = [];
  const updates: LocalUpdate[] = [];
  const artifacts: LocalArtifact[] = [];
  const markers: TraceMarker[] = [];
  const changed = createChannel<void>();
  const search =
    traceMarker === undefined ? undefined : createMarkerSearch(traceMarker, (marker) => markers.push(marker));

  /** AlloyCI's page: a newline before each patch while the job runs, and nothing but the PUT's trace afterwards. */
  const shown = (): Buffer => {
    if (dialect === "gitlab") return live.bytes();
    const sinceThen = patches.slice(liveFrom).filter((patch) => patch.size > 0);
    if (isOver(status) || sinceThen.length === 0) return put?.bytes() ?? Buffer.alloc(0);
    return Buffer.concat(sinceThen.flatMap((patch) => [Buffer.from("\n"), patch.bytes]));
  };

  const job: JobRecord = {
    dialect,
    id,
    token,
    name: spec.name ?? "job",
    stage: spec.stage ?? "test",
    spec,
    enqueuedAt,
    events,
    patches,
    updates,
    artifacts,
    markers,
    get status() {
      return status;
    },
    get runner() {
      return runner;
    },
    get trace() {
      return withoutTimes(shown()).toString("utf8");
    },
    get traceBytes() {
      return shown();
    },
    get traceSize() {
      return (put ?? live).size;
    },
    get traceCrc32() {
      return (put ?? live).crc32;
    },
    get liveText() {
      return live.bytes().toString("utf8");
    },
    get liveBytes() {
      return live.bytes();
    },
    get liveSize() {
      return live.size;
    },
    get handedOutTo() {
      return handedOutTo;
    },
    get pickedUpAt() {
      return pickedUpAt;
    },
    get canceledAt() {
      return canceledAt;
    },
    get finishedAt() {
      return finishedAt;
    },
    get exitCode() {
      return updates.findLast((update) => update.exitCode !== undefined)?.exitCode;
    },
    get failureReason() {
      return dropReason ?? updates.findLast((update) => update.failureReason !== undefined)?.failureReason;
    },
    get retriedAs() {
      return retriedAs;
    },
    async running(wait) {
      return await until(
        changed,
        () => (events.some((event) => event.status === "running") ? job : endedBefore("ran")),
        describe("run"),
        wait,
      );
    },
    async finished(wait) {
      return await until(changed, () => (isOver(status) ? job : undefined), describe("finish"), wait);
    },
    async reported(wait) {
      return await until(
        changed,
        () => updates.find(({ state }) => state === "success" || state === "failed"),
        describe("be reported"),
        wait,
      );
    },
    async traceContains(text, wait) {
      const wanted = Buffer.from(text);
      let seen = 0;
      const probe = (): JobRecord | undefined => {
        if (live.from(Math.max(0, seen - wanted.length)).includes(wanted)) return job;
        seen = live.size;
        if (put?.bytes().includes(wanted) === true) return job;
        // AlloyCI calls a job cancelled at once; what it printed still comes with its report.
        const moreToCome = status === "cancelled" && pickedUpAt !== undefined && put === undefined;
        return moreToCome ? undefined : endedBefore(`printed ${JSON.stringify(text)}`);
      };
      return await until(changed, probe, describe(`print ${JSON.stringify(text)}`), wait);
    },
    cancel(as) {
      if (isOver(status)) return;
      const graceful = as === "canceling" || (as === undefined && hasFeature(runner, "cancel_gracefully"));
      canceledAt ??= nowMs();
      if (dialect === "alloy") job.setStatus("cancelled");
      else job.setStatus(status === "running" && graceful ? "canceling" : "canceled");
    },
    assign(to, next, request) {
      runner = to;
      handedOutTo ??= request;
      pickedUpAt ??= nowMs();
      job.setStatus(next);
    },
    drop(reason, other) {
      dropReason = reason;
      retriedAs = other;
      job.setStatus("failed");
    },
    setStatus(next) {
      if (next === status) return;
      const wasOver = isOver(status);
      status = next;
      events.push({ at: nowMs(), status });
      if (isOver(next) && !wasOver) finishedAt = nowMs();
      changed.emit();
      news.status(job);
    },
    append(bytes, offset) {
      const at = nowMs();
      const kept = keep ? bytes : Buffer.alloc(0);
      patches.push({ at, offset, size: bytes.length, bytes: kept });
      if (bytes.length === 0) return;
      live.append(bytes);
      search?.(bytes, at);
      changed.emit();
      news.trace(job, bytes);
    },
    replaceTrace() {
      const next = createTraceStore(keep);
      return {
        begin: () => next.clear(),
        write: (text) => next.append(Buffer.from(text)),
        commit() {
          put = next;
          liveFrom = patches.length;
          changed.emit();
        },
      };
    },
    dropLive() {
      liveFrom = patches.length;
    },
    addUpdate(update) {
      updates.push(update);
      changed.emit();
      if (update.state === "success" || update.state === "failed") news.reported(job);
    },
    addArtifact(artifact) {
      // One of a type: the next upload of the same type takes its place.
      const index = artifacts.findIndex(({ type }) => type === artifact.type);
      if (index < 0) artifacts.push(artifact);
      else artifacts.splice(index, 1, artifact);
    },
  };

  const title = `job ${id} (${job.name})`;
  const lastLines = (): string => (job.trace || job.liveText).trimEnd().split("\n").slice(-15).join("\n");
  const describe = (what: string) => (): string =>
    `${title} to ${what}; it is ${status}, its trace ends:\n${lastLines()}`;
  const endedBefore = (what: string): undefined => {
    if (isOver(status)) throw new Error(`${title} is ${status} and never ${what}; its trace ends:\n${lastLines()}`);
    return undefined;
  };
  return job;
}
