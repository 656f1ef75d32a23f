import type { Connections } from "../coordinator/connection/connections.ts";
import { sendBeyondHost } from "../coordinator/connection/link-local.ts";
import { answerKind, mayPass } from "../coordinator/contract.ts";
import type { Call } from "../coordinator/exchange.ts";
import { first } from "../coordinator/retry-after.ts";
import { describeBroken } from "../coordinator/trouble.ts";
import { ConfigError, describeError, type FailureReason, SystemFailure } from "../errors.ts";

/** One small request to a service that is no coordinator. */
export interface Question {
  /** Purpose of the call, as the end of "Cannot …". */
  readonly what: string;
  readonly method: Call["method"];
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** 30 s where nothing is said. Nobody may be there. */
  readonly timeoutMs?: number;
}

export interface Reply {
  readonly status: number;
  readonly text: string;
  header(name: string): string | undefined;
}

/**
 * Asks once: who asks knows whether to ask again, and what else has to be done again then. Any status is an answer; redirects to
 * elsewhere are not followed.
 * @throws {SystemFailure} there is no answer
 */
export type Ask = (question: Question, signal: AbortSignal) => Promise<Reply>;

/** The way out: the runner's proxy, and the certificates it trusts. */
export interface Outside {
  readonly connections: Pick<Connections, "route" | "addressesOf">;
  /** The addresses are a job's own words: none that is link-local is asked, where clouds tell of the machine. */
  readonly chosenByJobs?: true;
  readonly userAgent: string;
  /** `tls-ca-file` of the entry. */
  readonly tlsCaFile: string | undefined;
  /** Where `<host>.crt` is looked for. */
  readonly certsDir: string;
}

const CALL_MS = 30_000;
const ANSWER_BYTES = 4 * 1024 * 1024;

export function createAsk({ connections, userAgent, tlsCaFile, certsDir, chosenByJobs }: Outside): Ask {
  const tls = { tlsCaFile, certsDir, tlsCertFile: undefined, tlsKeyFile: undefined };
  return async ({ what, method, url, headers = {}, body, timeoutMs = CALL_MS }, signal) => {
    const silent = (reason: string, cause: unknown): SystemFailure =>
      new SystemFailure(`Cannot ${what} at ${url.host}: ${reason}`, { cause, retry: true, reason: EXTERNAL });
    const call: Call = {
      method,
      path: `${url.pathname}${url.search}`,
      headers: ["user-agent", userAgent, ...Object.entries(headers).flat()],
      body: body === undefined ? undefined : { bytes: Buffer.from(body) },
      idleMs: timeoutMs,
      totalMs: timeoutMs,
      answerBytes: ANSWER_BYTES,
    };
    const sent = chosenByJobs
      ? sendBeyondHost(connections, { url, tls }, call, true, signal)
      : connections.route(url, tls).send(call, true, signal);
    const result = await sent.catch((error: unknown) => {
      if (error instanceof ConfigError) throw silent(describeError(error), error);
      throw error;
    });
    if (result === null) throw misconfigured(`Cannot ${what} at ${url.host}: it is a link-local address`);
    if (result.kind === "broken") throw silent(describeBroken(result.error, url.host), result.error);
    const { status, headers: answered, body: bytes, cut } = result.answer;
    if (cut !== undefined) throw silent(`the answer was cut: ${cut}`, undefined);
    return { status, text: bytes.toString("utf8"), header: (name) => first(answered[name]) };
  };
}

const EXTERNAL: FailureReason = "runner_external_dependency_failure";
/** Statuses that say that the job, or who wrote it, has asked for what it cannot have. */
const DENIED: ReadonlySet<number> = new Set([400, 401, 403, 404]);
const LONGEST_SAID = 500;

/**
 * @param said what the other side says about it, in words that quote no secret
 * @param isBusy whether it says that it has too much to do; otherwise its status tells
 */
export function refused(
  question: Pick<Question, "what" | "url">,
  status: number,
  said: string,
  isBusy = mayPass(answerKind(status)),
): SystemFailure {
  const reason = isBusy ? EXTERNAL : DENIED.has(status) ? "runner_configuration_error" : "runner_system_failure";
  const words = said
    .replace(/[\s\x00-\x1f\x7f-\x9f]+/g, " ")
    .trim()
    .slice(0, LONGEST_SAID);
  return new SystemFailure(
    `Cannot ${question.what} at ${question.url.host}: status ${status}${words === "" ? "" : `, ${words}`}`,
    { retry: isBusy, reason },
  );
}

/** What has to be set differently, where nothing was asked yet. */
export function misconfigured(message: string): SystemFailure {
  return new SystemFailure(message, { reason: "runner_configuration_error" });
}

/** The answer as JSON; `undefined`: it is none. Numbers that JavaScript would write differently come back as their text. */
export function jsonOf({ text }: Pick<Reply, "text">): unknown {
  const exact = (_key: string, value: unknown, context?: { readonly source?: unknown }): unknown =>
    typeof value === "number" && typeof context?.source === "string" && context.source !== String(value)
      ? context.source
      : value;
  try {
    return JSON.parse(text, exact);
  } catch {
    return undefined;
  }
}

export function form(fields: Readonly<Record<string, string>>): Pick<Question, "body" | "headers" | "method"> {
  return {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams(fields).toString(),
  };
}
