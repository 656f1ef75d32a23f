import { z } from "zod";
import { type FailureReason, SystemFailure } from "../../../src/errors.ts";

const statusSchema = z.object({
  kind: z.literal("Status"),
  message: z.string().default(""),
  reason: z.string().default(""),
  details: z
    .object({
      retryAfterSeconds: z.number().optional(),
      causes: z.array(z.object({ reason: z.string().optional(), message: z.string().optional() })).optional(),
    })
    .nullish(),
});

/** An answer of the API server that reports a failure, or a missing answer. */
export class ApiFailure extends SystemFailure {
  /** HTTP status; 0: there was no answer, or none of an API server. */
  readonly status: number;
  /** `NotFound`, `Forbidden`, `AlreadyExists`, …: a word of Kubernetes; empty where it is not the API server that answered. */
  readonly why: string;
  /** What the server said. */
  readonly said: string;
  readonly retryAfterMs: number | null;
  constructor(
    message: string,
    facts: { status: number; why?: string; said?: string; retryAfterMs?: number | null; cause?: unknown },
  ) {
    super(message, { retry: isPassing(facts.status), reason: reasonOf(facts.status), cause: facts.cause });
    this.status = facts.status;
    this.why = facts.why ?? "";
    this.said = facts.said ?? "";
    this.retryAfterMs = facts.retryAfterMs ?? null;
  }
}

/** Whether the same call may get another answer later. */
function isPassing(status: number): boolean {
  return status === 0 || status === 429 || (status >= 500 && status !== 501 && status !== 505);
}

function reasonOf(status: number): FailureReason {
  return status === 401 || status === 403 ? "runner_configuration_error" : "runner_system_failure";
}

/**
 * @param what completes "Cannot …": `create the pod`
 * @param body as it came
 */
export function failureOf(
  what: string,
  server: string,
  status: number,
  body: Buffer,
  retryAfter: string | undefined,
): ApiFailure {
  const seconds = /^\d{1,4}$/.test(retryAfter ?? "") ? Number(retryAfter) : null;
  const given = statusOf(body);
  if (given === null) {
    const said = excerptOf(body);
    const who = status === 401 ? "the API server does not accept the runner's login" : "something in between answered";
    return new ApiFailure(`Cannot ${what}: ${who} (HTTP ${status} of ${server})${said === "" ? "" : `: ${said}`}`, {
      status,
      said,
      retryAfterMs: seconds === null ? null : seconds * 1000,
    });
  }
  const { message, reason, details } = given;
  const wait = details?.retryAfterSeconds ?? seconds;
  const intro = status === 401 ? `the API server ${server} does not accept the runner's login: ` : "";
  return new ApiFailure(`Cannot ${what}: ${intro}${message || `HTTP ${status}`}`, {
    status,
    why: reason,
    said: message,
    retryAfterMs: wait === null ? null : wait * 1000,
  });
}

/** What came instead of an answer, in one line. */
export function excerptOf(body: Buffer): string {
  return body.toString("utf8").trim().replace(/\s+/g, " ").slice(0, 200);
}

function statusOf(body: Buffer): z.output<typeof statusSchema> | null {
  try {
    const parsed = statusSchema.safeParse(JSON.parse(body.toString("utf8")));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}
