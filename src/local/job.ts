import type { Dialect } from "../job/job.ts";
import type { LocalArtifact } from "./artifacts.ts";
import { createChannel, nowMs, until, type Wait } from "./channel.ts";
import type { JobSpec } from "./job-spec.ts";
import { hasFeature, type LocalRunner } from "./runners.ts";
import { createMarkerSearch, createTraceStore, type TraceMarker } from "./trace-store.ts";
import type { Wire } from "./wire.ts";

/** In the coordinator's own spelling: `cancelled` is AlloyCI's, `canceling` and `canceled` are GitLab's. */
export type JobStatus = "pending" | "running" | "success" | "failed" | "canceling" | "canceled" | "cancelled";

/** One PATCH of the trace that was stored. Times are milliseconds since 1970. */
export interface LocalPatch {
  readonly at: number;
  /** Start of `Content-Range`, if there was one. */
  readonly offset: number | undefined;
  readonly size: number;
  /** Empty where traces are only counted. */
  readonly bytes: Buffer;
}

/** One PUT of the job's state. */
export interface LocalUpdate {
  readonly at: number;
  readonly state: unknown;
  readonly failureReason: string | undefined;
  readonly exitCode: number | undefined;
  /** `output.checksum` and `output.bytesize`, or their older spellings. */
  readonly checksum: string | undefined;
  readonly bytes: number | undefined;
  /** Bytes of `trace`, if there was one. */
  readonly traceBytes: number | undefined;
  /** The HTTP status of the answer. */
  readonly status: number;
  /** All fields but the trace. */
  readonly body: Wire;
}

/** A job at the coordinator, seen from outside. Times are milliseconds since 1970, `undefined` until they come. */
export interface LocalJob {
  readonly dialect: Dialect;
  /** Digits. */
  readonly id: string;
  readonly token: string;
  readonly name: string;
  readonly stage: string;
  readonly spec: JobSpec;
  readonly status: JobStatus;
  /** Who got it. */
  readonly runner: LocalRunner | undefined;
  /** What the job's page would show: on AlloyCI the live text with its extra newlines until a PUT replaces it. */
  readonly trace: string;
  readonly traceBytes: Buffer;
  /** Size and CRC-32 of what the runner sent: the patches or, on AlloyCI after the last PUT, its trace. */
  readonly traceSize: number;
  readonly traceCrc32: number;
  /** All patches in a row: what a browser that was open from the start has shown. */
  readonly liveText: string;
  readonly liveBytes: Buffer;
  readonly liveSize: number;
  readonly markers: readonly TraceMarker[];
  readonly patches: readonly LocalPatch[];
  readonly updates: readonly LocalUpdate[];
  readonly artifacts: readonly LocalArtifact[];
  /** Every status it had, with its time. */
  readonly events: readonly { readonly at: number; readonly status: JobStatus }[];
  readonly enqueuedAt: number;
  readonly pickedUpAt: number | undefined;
  readonly canceledAt: number | undefined;
  readonly finishedAt: number | undefined;
  /** Of the last update that told them. */
  readonly exitCode: number | undefined;
  readonly failureReason: string | undefined;
  running(wait?: Wait): Promise<LocalJob>;
  /** The coordinator counts it as over. On AlloyCI that is the very moment of a cancel: see `reported`. */
  finished(wait?: Wait): Promise<LocalJob>;
  /** A PUT of `success` or `failed` has been dealt with, whatever the answer was. */
  reported(wait?: Wait): Promise<LocalUpdate>;
  /** Resolves as soon as the live text or the stored trace has `text`; rejects once the job is over without it. */
  traceContains(text: string, wait?: Wait): Promise<LocalJob>;
  /**
   * Cancel as a user does. A running GitLab job becomes `canceling` if its runner can do that gracefully, or if `as` says
   * so, else `canceled`. A finished job stays as it is.
   */
  cancel(as?: "canceling" | "canceled"): void;
}

/** A job with what the coordinator does to it. */
export interface JobRecord extends LocalJob {
  /** Whether the runner has confirmed the job, where it said it would. */
  readonly acknowledged: boolean;
  acknowledge(): void;
  assign(runner: LocalRunner, acknowledged: boolean): void;
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

export function isOver(status: JobStatus): boolean {
  return status !== "pending" && status !== "running" && status !== "canceling";
}

export function createJob(spec: JobSpec, { dialect, id, token, storeTrace, traceMarker, news }: JobOptions): JobRecord {
  const keep = storeTrace === "memory";
  const live = createTraceStore(keep);
  let put: ReturnType<typeof createTraceStore> | undefined;
  /** AlloyCI: patches before this one are not part of the live text any more. */
  let liveFrom = 0;
  let status: JobStatus = "pending";
  let acknowledged = true;
  let runner: LocalRunner | undefined;
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
    get acknowledged() {
      return acknowledged;
    },
    get runner() {
      return runner;
    },
    get trace() {
      return shown().toString("utf8");
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
      return updates.findLast((update) => update.failureReason !== undefined)?.failureReason;
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
    acknowledge() {
      acknowledged = true;
    },
    assign(to, isAcknowledged) {
      runner = to;
      acknowledged = isAcknowledged;
      pickedUpAt ??= nowMs();
      if (isAcknowledged) job.setStatus("running");
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
