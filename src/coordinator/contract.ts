import type { Readable } from "node:stream";
import { type FailureReason, SystemFailure } from "../errors.ts";
import type { Job, JobCredentials } from "../job/job.ts";

/**
 * What a coordinator thinks of a job, in one spelling.
 * `canceling`: stop the script, after_script may run. `gone`: the job is over there (canceled, failed, success, 403, 404).
 */
export type RemoteStatus = "running" | "canceling" | "gone";

/** `info` of register, verify and job requests, without what is the same for all (name, version, platform, …). */
export interface RunnerInfo {
  readonly executor: string;
  readonly shell: string;
  /** What an operator says of this machine; GitLab shows it. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly features: {
    readonly variables: boolean;
    readonly image: boolean;
    readonly services: boolean;
    readonly shared: boolean;
  };
}

/** Where a terminal of the job that this request may bring can be reached, and by what. */
export interface SessionWords {
  /** `https://host:port/session/<32 hex>` */
  readonly url: string;
  /** PEM of the only certificate to trust there. */
  readonly certificate: string;
  /** The secret that opens it. */
  readonly authorization: string;
}

/** The answer to a job request. */
export type JobAnswer =
  | { readonly kind: "job"; readonly job: Job }
  /**
   * `heldMs`: how long the coordinator took. A held 204 means: ask again at once.
   * `changed`: it was asked to hold the request and answered without a new `X-GitLab-Last-Update`, however soon: the
   * work changed while it waited, and only another question tells how.
   */
  | { readonly kind: "none"; readonly heldMs: number; readonly changed?: boolean }
  /** 401 or 403: the token is not known (any more). */
  | { readonly kind: "unauthorized"; readonly status: number }
  /** 409: there was a job, somebody else has it now. */
  | { readonly kind: "conflict" }
  /** Anything else: out of reach, 5xx, 429, nonsense. `retryAfterMs` is what the coordinator asked for, capped at 5 min. */
  | { readonly kind: "trouble"; readonly message: string; readonly retryAfterMs: number | undefined };

export interface TracePiece {
  /** Offset of the first byte in the whole trace. */
  readonly from: number;
  readonly bytes: Uint8Array;
}

/** The answer to a piece of trace. */
export interface TraceAnswer {
  readonly status: RemoteStatus;
  /** Byte to send next: the end of the piece or, after 416, what the coordinator says it has, which may be anything. */
  readonly next: number;
  /** `X-GitLab-Trace-Update-Interval`, if it was sent. */
  readonly intervalMs: number | undefined;
}

/** A trace on disk, re-readable as often as needed. */
export interface StoredTrace {
  /** Bytes of valid UTF-8 without NUL. */
  readonly size: number;
  /** Each piece is valid until the next one is asked for. */
  open(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface JobUpdate {
  /** `pending`: it waits for room here. `running`: it was taken, or still runs. Both are GitLab's; AlloyCI is not asked. */
  readonly state: "pending" | "running" | "success" | "failed";
  readonly reason?: FailureReason;
  readonly exitCode?: number;
  /** Names that the coordinator listed as `features.failure_reasons`; others are mapped down. */
  readonly knownReasons?: readonly string[];
  /** `crc32:…` over the whole trace, and its size. */
  readonly checksum?: string;
  readonly bytes?: number;
  /** AlloyCI only: replaces all that was appended. Streamed, never held as one string. */
  readonly trace?: StoredTrace;
}

/** `done`: accepted. `again`: accepted, but the trace is not stored yet; repeat after `afterMs`. */
export type UpdateAnswer =
  | { readonly kind: "done"; readonly status: RemoteStatus }
  | { readonly kind: "again"; readonly afterMs: number }
  /** GitLab 412: send the trace again from byte 0, then the state. */
  | { readonly kind: "resend" }
  /** 413, or 400 for the trace itself: send a shorter trace. */
  | { readonly kind: "too_large" };

/** One artifact, packed. */
export interface ArtifactFile {
  /** Re-readable as often as needed. */
  open(): Readable;
  readonly size: number;
  /** Name that it has for those who download it: `dist.zip`. */
  readonly fileName: string;
  readonly expireIn: string;
  /** GitLab only; empty or the usual (`archive`, `zip`) is not sent. */
  readonly type: string;
  readonly format: string;
}

export interface DownloadedArtifact {
  /** Bytes handed to the sink. */
  readonly bytes: number;
  /** What the answer said, if it did. */
  readonly expectedBytes: number | undefined;
}

/** Takes the pieces of an answer. Called one at a time; the next piece is read when it has settled. */
export type Sink = (piece: Uint8Array) => void | Promise<void>;

/** One runner's line to its coordinator. Each call is bounded in time by itself. */
export interface Coordinator {
  /** Scheme, host, port and path, without user info: for messages and as a key. */
  readonly origin: string;
  /**
   * POST /api/v4/jobs/request, once: never repeated by itself. Never rejects but with `signal.reason`.
   * @param hold echo the last `X-GitLab-Last-Update`, so that GitLab may hold the request until there is work
   * @param session told unless a job has shown that this is AlloyCI, which has no use for it
   */
  requestJob(
    info: RunnerInfo,
    options: { hold: boolean; keepPayload?: boolean; session?: SessionWords },
    signal: AbortSignal,
  ): Promise<JobAnswer>;
  /**
   * PATCH /api/v4/jobs/:id/trace. Empty `bytes` ask for the status only (AlloyCI; on GitLab use `updateJob` running).
   * @throws {SystemFailure} `retry`: the call failed and may work later; see `retryAfterMs` of `TroubleCause`
   */
  appendTrace(job: JobCredentials, piece: TracePiece, signal: AbortSignal): Promise<TraceAnswer>;
  /**
   * PUT /api/v4/jobs/:id. 403 and 404 are `{ kind: "done", status: "gone" }`.
   * @throws {SystemFailure} as above
   */
  updateJob(job: JobCredentials, update: JobUpdate, signal: AbortSignal): Promise<UpdateAnswer>;
  /**
   * POST /api/v4/jobs/:id/artifacts, once.
   * @throws {SystemFailure} as above; 413, 403, 401, 404 and 405 are final, see `kind` of `TroubleCause`
   */
  uploadArtifacts(job: JobCredentials, file: ArtifactFile, signal: AbortSignal): Promise<void>;
  /**
   * GET /api/v4/jobs/:id/artifacts, once, into `sink`. A redirect to another host is followed without the job's token.
   * @param of the job that made them
   * @throws {SystemFailure} as above; 401, 403 and 404 are final. What `sink` throws comes through.
   */
  downloadArtifacts(
    of: JobCredentials,
    sink: Sink,
    options: { direct: boolean },
    signal: AbortSignal,
  ): Promise<DownloadedArtifact>;
  /** Ends idle connections; calls under way go on. */
  close(): Promise<void>;
}

/** What an answer means to whoever asked, whatever its number is. */
export type AnswerKind =
  | "fine"
  /** There was no answer. */
  | "silent"
  /** A proxy answered for a server that is not there: 502, 504. */
  | "away"
  /** 503 */
  | "busy"
  /** Asked too early or too often: 408, 425, 429. */
  | "early"
  /** Another 5xx: it failed at its own work. */
  | "broken"
  /** 400 */
  | "invalid"
  /** 401: the token is not known, or a proxy wants one. */
  | "unauthorized"
  /** 403 */
  | "refused"
  /** 404 */
  | "missing"
  /** 409 */
  | "conflict"
  /** 410: it was there, and is for ever gone. */
  | "gone"
  /** What it has is not what the call builds on: 412, 416. */
  | "mismatch"
  /** 413 */
  | "too_large"
  /** 422 */
  | "unprocessable"
  /** A redirect that is not followed. */
  | "elsewhere"
  | "other";

const kinds: ReadonlyMap<number, AnswerKind> = new Map([
  [0, "silent"],
  [400, "invalid"],
  [401, "unauthorized"],
  [403, "refused"],
  [404, "missing"],
  [408, "early"],
  [409, "conflict"],
  [410, "gone"],
  [412, "mismatch"],
  [413, "too_large"],
  [416, "mismatch"],
  [422, "unprocessable"],
  [425, "early"],
  [429, "early"],
  [502, "away"],
  [503, "busy"],
  [504, "away"],
]);

/** @param status of HTTP, or 0 where no answer came */
export function answerKind(status: number): AnswerKind {
  const kind = kinds.get(status);
  if (kind !== undefined) return kind;
  if (status >= 500) return "broken";
  if (status >= 400) return "other";
  return status >= 200 && status < 300 ? "fine" : "elsewhere";
}

const passing: ReadonlySet<AnswerKind> = new Set(["silent", "away", "busy", "early", "broken"]);

/** Whether the same call may do better after a while. */
export function mayPass(kind: AnswerKind): boolean {
  return passing.has(kind);
}

/** A request that came to its end. */
export interface MadeRequest {
  /** A pattern, such as `jobs/:id/trace`. */
  readonly endpoint: string;
  readonly method: string;
  /** 0 where no answer came. */
  readonly status: number;
  readonly durationMs: number;
  /** The one before to the same address got no answer, or one of trouble. */
  readonly again: boolean;
}

/** The `cause` of a SystemFailure from a call: what the coordinator answered, if it did. */
export class TroubleCause extends Error {
  override readonly name = "TroubleCause";
  readonly kind: AnswerKind;
  /** HTTP status, or 0 when no answer came: for sentences; `kind` is what to decide by. */
  readonly status: number;
  readonly retryAfterMs: number | undefined;
  constructor(message: string, status: number, retryAfterMs: number | undefined, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.kind = answerKind(status);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

/** What the coordinator answered to a call that failed; `undefined`: the failure has nothing to do with an answer. */
export function troubleOf(error: unknown): TroubleCause | undefined {
  const cause = error instanceof SystemFailure ? error.cause : undefined;
  return cause instanceof TroubleCause ? cause : undefined;
}

/** Where and how to reach one coordinator for one runner. */
export interface CoordinatorSettings {
  readonly url: URL;
  readonly token: string;
  readonly tlsCaFile: string | undefined;
  readonly tlsCertFile: string | undefined;
  readonly tlsKeyFile: string | undefined;
  /** Directory that is searched for `<host>.crt`, `<host>.auth.crt`, `<host>.auth.key`. */
  readonly certsDir: string;
  /** `[runners.feature_flags]` of the entry. */
  readonly featureFlags?: Readonly<Record<string, boolean>>;
  /** `environment` of the entry. */
  readonly environment?: readonly { readonly key: string; readonly value: string }[];
}
