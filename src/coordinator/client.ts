import { describeError, SystemFailure } from "../errors.ts";
import type { Dialect, JobCredentials } from "../job/job.ts";
import { type ApiCall, type CoordinatorDeps, createCaller, failure, type Reply } from "./calls.ts";
import {
  answerKind,
  type Coordinator,
  type CoordinatorSettings,
  type JobAnswer,
  type JobUpdate,
  type RunnerInfo,
  type SessionWords,
  type StoredTrace,
  type TraceAnswer,
  type TracePiece,
  type UpdateAnswer,
} from "./contract.ts";
import type { Answer, Body } from "./exchange.ts";
import { decoded } from "./payload/decoded.ts";
import { INPUTS_SWITCH } from "./payload/inputs/interpolate.ts";
import { parseJob } from "./payload/job-payload.ts";
import { excessOf } from "./payload/json-extent.ts";
import { escapedLength, escapedStream } from "./payload/trace-json.ts";
import { requestIdOf } from "./request-id.ts";
import { first, retryAfter } from "./retry-after.ts";
import { openTransfers } from "./transfers.ts";
import { describeAnswer } from "./trouble.ts";
import { contentRange, interval, nextByte, remoteStatus, runnerInfo, runnerTokenHeader, updateBody } from "./wire.ts";

/** The most bytes of a job's JSON, as it comes and decompressed. */
export const JOB_BYTES = 64 * 1024 * 1024;
/** Bounds of what a coordinator may ask for as the pause between pieces of trace, and between two final reports. */
const traceInterval = { leastMs: 100, mostMs: 15 * 60_000 };
const againInterval = { leastMs: 100, mostMs: 5 * 60_000 };

/**
 * One runner's line to its coordinator, over the connections of `deps`.
 * @throws {ConfigError} the url is neither http nor https
 */
export function openCoordinator(settings: CoordinatorSettings, deps: CoordinatorDeps): Coordinator {
  const { token } = settings;
  const tokenHeader = runnerTokenHeader(token);
  const caller = createCaller(settings, deps);
  const { api, bounds } = caller;
  let lastUpdate: string | undefined;
  // Shown by the coordinator's headers and jobs; needed only where a job cannot be read well enough to show it itself.
  let dialect: Dialect = token.startsWith("glrt-") ? "gitlab" : "alloy";
  /** Until a job has shown that it is AlloyCI, which passes over a session that it is told. */
  let takesSessions = true;
  let asked: { readonly info: RunnerInfo; readonly lastUpdate: string | undefined; readonly bytes: Buffer } | undefined;

  /** The same bytes from poll to poll, as long as nothing changes. */
  const jobRequestBody = (info: RunnerInfo, hold: boolean, session: SessionWords | undefined): Body => {
    const echo = hold ? lastUpdate : undefined;
    // A session is one request's alone: it opens the terminal of whatever job the answer brings.
    if (session !== undefined && takesSessions) {
      const said = runnerInfo(deps.identity, info);
      const features = { ...said.features, session: true, terminal: true };
      const body = { token, system_id: deps.systemId, last_update: echo, info: { ...said, features }, session };
      return { bytes: Buffer.from(JSON.stringify(body)) };
    }
    if (asked === undefined || asked.info !== info || asked.lastUpdate !== echo) {
      const body = { token, system_id: deps.systemId, last_update: echo, info: runnerInfo(deps.identity, info) };
      asked = { info, lastUpdate: echo, bytes: Buffer.from(JSON.stringify(body)) };
    }
    return asked;
  };

  const call = async (what: ApiCall, signal: AbortSignal): Promise<Reply> => {
    const reply = await caller.call(what, signal);
    if (reply.kind === "answer") {
      const update = first(reply.answer.headers["x-gitlab-last-update"]);
      if (update !== undefined && update !== "" && update.length <= 1024) {
        lastUpdate = update;
        dialect = "gitlab";
      }
    }
    return reply;
  };

  const jobOf = async (answer: Answer, keepPayload: boolean, requestId?: string): Promise<JobAnswer> => {
    const text = (await decoded(answer, JOB_BYTES)).toString("utf8").replace(/^\ufeff/, "");
    const cut = answer.cut === undefined ? undefined : `the answer was cut: ${answer.cut}`;
    const excess = (await excessOf(text)) ?? undefined;
    const jobInputs = {
      entry: settings.featureFlags?.[INPUTS_SWITCH],
      environment: settings.environment?.findLast(({ key }) => key === INPUTS_SWITCH)?.value,
    };
    const parsed = parseJob(text, { serverTls: caller.serverTls, likelyDialect: dialect, cut, excess, jobInputs });
    if ("job" in parsed) {
      if (parsed.job.problem === null) dialect = parsed.job.dialect;
      if (parsed.job.variables.length > 0) takesSessions = parsed.job.dialect === "gitlab";
      const correlationId = requestIdOf(answer.headers) ?? requestId;
      const job = { ...parsed.job, ...(correlationId === undefined ? {} : { correlationId }) };
      return { kind: "job", job: keepPayload ? { ...job, payload: text } : job };
    }
    const type = first(answer.headers["content-type"]) ?? "no content type";
    const message = `${api.shown} handed out a job that cannot be read: ${parsed.unreadable} (${answer.body.length} bytes, ${type.slice(0, 80)})`;
    return { kind: "trouble", message, retryAfterMs: undefined };
  };

  return {
    origin: api.shown,

    async requestJob(info, { hold, keepPayload = false, session }, signal) {
      const startedAt = performance.now();
      const echoed = hold && lastUpdate !== undefined;
      const reply = await call(
        {
          method: "POST",
          path: "jobs/request",
          endpoint: "jobs/request",
          headers: tokenHeader,
          body: jobRequestBody(info, hold, session),
          // A second request may be given a second job, and the first one is lost.
          repeatable: false,
          deadlineMs: bounds.jobRequestMs,
          answerBytes: JOB_BYTES,
        },
        signal,
      );
      const trouble = (reason: string, retryAfterMs: number | undefined): JobAnswer => ({
        kind: "trouble",
        message: `Cannot request a job from ${api.shown}: ${reason}`,
        retryAfterMs,
      });
      if (reply.kind === "silent") return trouble(reply.reason, undefined);
      const { answer } = reply;
      switch (answer.status) {
        case 201:
          return await jobOf(answer, keepPayload, reply.requestId);
        case 204:
          return {
            kind: "none",
            heldMs: performance.now() - startedAt,
            ...(echoed && answer.headers["x-gitlab-last-update"] === undefined ? { changed: true } : {}),
          };
        case 401:
        case 403:
          return { kind: "unauthorized", status: answer.status };
        case 409:
          return { kind: "conflict" };
        default:
          return trouble(describeAnswer(answer, api.origin, [token]), retryAfter(answer.headers));
      }
    },

    async appendTrace(job, piece, signal) {
      const reply = await call(traceCall(job, piece), signal);
      if (reply.kind === "answer") {
        const done = traceAnswer(job, piece, reply.answer);
        if (done !== undefined) return done;
      }
      throw failure(`append to the trace of job ${job.id}`, reply, api, [token, job.token]);
    },

    async updateJob(job, update, signal) {
      // AlloyCI would set the job's start to now, or crash, and nothing there needs it.
      const isSignOfLife = update.state === "running" || update.state === "pending";
      if (job.dialect === "alloy" && isSignOfLife) return { kind: "done", status: "running" };
      const trace = job.dialect === "alloy" ? update.trace : undefined;
      const body = await bodyOfUpdate(job, update, trace, signal);
      const reply = await call(
        {
          method: "PUT",
          path: `jobs/${encodeURIComponent(job.id)}`,
          endpoint: "jobs/:id",
          headers: ["job-token", job.token],
          body,
          repeatable: true,
        },
        signal,
      );
      if (reply.kind === "answer") {
        const done = updateAnswer(reply.answer, trace !== undefined);
        if (done !== undefined) return done;
      }
      throw failure(`report the state of job ${job.id}`, reply, api, [token, job.token]);
    },

    ...openTransfers(caller, settings, deps),

    async close() {}, // the connections are shared: whoever made them closes them
  };

  async function bodyOfUpdate(
    job: JobCredentials,
    update: JobUpdate,
    trace: StoredTrace | undefined,
    signal: AbortSignal,
  ): Promise<Body> {
    const json = updateBody(job.token, update, deps.identity);
    if (trace === undefined) return { bytes: Buffer.from(json) };
    const head = `${json.slice(0, -1)},"trace":"`;
    const tail = '"}';
    try {
      const length = Buffer.byteLength(head) + (await escapedLength(trace, signal)) + tail.length;
      return { length, open: () => escapedStream(head, trace, tail, signal) };
    } catch (cause) {
      signal.throwIfAborted();
      throw new SystemFailure(`Cannot read the stored trace of job ${job.id}: ${describeError(cause)}`, {
        retry: true,
        cause,
      });
    }
  }
}

function traceCall(job: JobCredentials, { from, bytes }: TracePiece): ApiCall {
  return {
    method: "PATCH",
    path: `jobs/${encodeURIComponent(job.id)}/trace${job.debugTrace === undefined ? "" : `?debug_trace=${job.debugTrace}`}`,
    endpoint: "jobs/:id/trace",
    // AlloyCI takes this header once, and loses a body that is said to be JSON or a form.
    headers: ["job-token", job.token, "content-range", contentRange(from, bytes.length)],
    contentType: "text/plain",
    body: { bytes },
    // GitLab compares offsets; AlloyCI appends what comes, so that a piece that came twice shows twice.
    repeatable: job.dialect === "gitlab" || bytes.length === 0,
  };
}

function traceAnswer(job: JobCredentials, { from, bytes }: TracePiece, answer: Answer): TraceAnswer | undefined {
  const { status, headers } = answer;
  const intervalMs = interval(first(headers["x-gitlab-trace-update-interval"]), traceInterval);
  const remote = remoteStatus(first(headers["job-status"]));
  const kind = answerKind(status);
  if (kind === "fine") return { status: remote, next: from + bytes.length, intervalMs };
  if (status === 416) {
    return { status: remote, next: nextByte(first(headers.range), job.dialect, from), intervalMs };
  }
  if (kind === "refused" || kind === "missing") return { status: "gone", next: from, intervalMs };
  return undefined;
}

function updateAnswer({ status, headers }: Answer, withTrace: boolean): UpdateAnswer | undefined {
  switch (status) {
    case 200:
    case 201:
    case 204:
      return { kind: "done", status: remoteStatus(first(headers["job-status"])) };
    case 202:
      return {
        kind: "again",
        afterMs: interval(first(headers["x-gitlab-trace-update-interval"]), againInterval) ?? 1000,
      };
    case 403:
    case 404:
    case 409:
      return { kind: "done", status: "gone" };
    case 412:
      return { kind: "resend" };
    case 413:
      return { kind: "too_large" };
    case 400:
      return withTrace ? { kind: "too_large" } : undefined;
    default:
      return undefined;
  }
}
