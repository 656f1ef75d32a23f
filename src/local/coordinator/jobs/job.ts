import type { Dialect } from "../../../job/job.ts";
import type { Wait } from "../channel.ts";
import type { RecordedRequest } from "../http/recorder.ts";
import type { Wire } from "../http/wire.ts";
import type { LocalRunner } from "../runners.ts";
import type { LocalArtifact } from "./artifacts.ts";
import type { TraceMarker } from "./trace-store.ts";

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
  /** Who got it, and the first request that was answered with it. */
  readonly runner: LocalRunner | undefined;
  readonly handedOutTo: RecordedRequest | undefined;
  /**
   * What the job's page would show: on AlloyCI the live text with its extra newlines until a PUT replaces it, on GitLab lines
   * without their times.
   */
  readonly trace: string;
  /** The same with the times. */
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
  /** GitLab: the job that took its place, as its runner did not acknowledge it in time. */
  readonly retriedAs: LocalJob | undefined;
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

/** Is that a status that a job keeps? */
export function isOver(status: JobStatus): boolean {
  return status !== "pending" && status !== "running" && status !== "canceling";
}

/** A variable of a job. On AlloyCI the value travels with its type, on GitLab as text. */
export interface VariableSpec {
  readonly key: string;
  readonly value: unknown;
  /** Default: true, unless it is masked. */
  readonly public?: boolean;
  /** AlloyCI has no such thing: there a masked variable is one that is not public. */
  readonly masked?: boolean;
  readonly file?: boolean;
  readonly raw?: boolean;
}

/** Where the sources are. Without one, the job gets `GIT_STRATEGY=none`. */
export interface GitSpec {
  /** Anything git takes: a path, `file://…`, `https://…`. HTTP ones get the coordinator's kind of credentials. */
  readonly repoUrl: string;
  readonly sha: string;
  /** Short: `main`. AlloyCI sends it as `refs/heads/main`, unless it is `refs/…` or `owner:branch` already. */
  readonly ref?: string;
  readonly beforeSha?: string;
  readonly refType?: "branch" | "tag";
  /** GitLab only. Default: what GitLab sends for a branch or tag. */
  readonly refspecs?: readonly string[];
  /** GitLab only. Default: 0, the whole history. */
  readonly depth?: number;
}

/** A job to hand out; every field has a default. What is typed `Wire` or `unknown` travels as it is, like YAML on AlloyCI. */
export interface JobSpec {
  readonly name?: string;
  readonly stage?: string;
  /** Default: `["true"]`. */
  readonly script?: readonly string[];
  /** A single text stays one on AlloyCI, where YAML travels as it was written; GitLab makes a list of it. */
  readonly afterScript?: string | readonly string[];
  readonly variables?: readonly VariableSpec[] | Readonly<Record<string, unknown>>;
  readonly git?: GitSpec;
  /** Default: 3600, the only value that AlloyCI knows. */
  readonly timeoutSeconds?: number;
  readonly image?: string | Wire;
  readonly services?: readonly (string | Wire)[];
  /** AlloyCI sends the first only. */
  readonly artifacts?: Wire | readonly Wire[];
  readonly cache?: Wire | readonly Wire[];
  /** Jobs whose artifacts are fetched first. */
  readonly dependencies?: readonly LocalJob[];
  /** GitLab only. */
  readonly credentials?: readonly Wire[];
  readonly when?: string;
  readonly allowFailure?: boolean;
  readonly projectId?: number;
  readonly projectName?: string;
  /** Runner selection. Default: none. */
  readonly tags?: readonly string[] | null;
  /** Hand it to the runner with this token and to nobody else. */
  readonly runnerToken?: string;
  /** Digits; default: the next number. */
  readonly id?: string;
  readonly token?: string;
  /**
   * The last word on the 201 body: keys to replace (`undefined` removes one), or a function of the finished payload.
   * A text is sent as it is, JSON or not.
   */
  readonly payload?: Wire | ((payload: Wire) => Wire | string);
}

export function variablesOf(spec: JobSpec): readonly VariableSpec[] {
  const given = spec.variables ?? [];
  return isList(given) ? given : Object.entries(given).map(([key, value]) => ({ key, value }));
}

/** One or several → several. */
export function listOf<T>(value: T | readonly T[] | undefined): readonly T[] {
  if (value === undefined) return [];
  return isList(value) ? value : [value];
}

function isList<T, U>(value: readonly T[] | U): value is readonly T[] {
  return Array.isArray(value);
}
