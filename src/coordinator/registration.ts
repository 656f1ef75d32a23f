/** Calls about a runner itself: `register`, `verify`, `unregister`. None needs a job or an open `Coordinator`. */
import { type ApiCall, type CoordinatorDeps, type CoordinatorTarget, createCaller, type Reply } from "./calls.ts";
import { type AnswerKind, answerKind, type RunnerInfo } from "./contract.ts";
import type { Answer } from "./exchange.ts";
import { isFields } from "./payload/coerce.ts";
import { retryAfter } from "./retry-after.ts";
import { describeAnswer } from "./trouble.ts";
import { runnerInfo, runnerTokenHeader } from "./wire.ts";

/** Nothing is known after this: out of reach, an error of the coordinator, nonsense. */
interface Trouble {
  readonly kind: "trouble";
  /** The whole sentence, for a person. */
  readonly message: string;
  /** HTTP status, or 0 when no answer came. */
  readonly status: number;
  readonly retryAfterMs: number | undefined;
}

/** What a new runner is to be. GitLab obeys all of it, AlloyCI description and tags. */
export interface Registration {
  /** The registration token of a project, a group or the whole coordinator. */
  readonly token: string;
  /** AlloyCI refuses a runner without one. */
  readonly description: string;
  readonly tags: readonly string[];
  readonly runUntagged: boolean;
  readonly locked: boolean;
  readonly paused?: boolean;
  readonly maintenanceNote?: string;
  readonly accessLevel?: "not_protected" | "ref_protected";
  readonly maximumTimeoutSeconds?: number;
}

interface RegisteredRunner {
  readonly kind: "registered";
  /** Digit for digit; empty if the coordinator does not say. */
  readonly id: string;
  /** The runner's own token. */
  readonly token: string;
  /** `null`: never. */
  readonly expiresAtMs: number | null;
}

export type RegisterAnswer =
  | RegisteredRunner
  /** 400, 401, 403, 404, 410, 422: the token or something else about the request is not accepted. */
  | { readonly kind: "refused"; readonly why: AnswerKind; readonly message: string }
  | Trouble;

const refusals: ReadonlySet<AnswerKind> = new Set([
  "invalid",
  "unauthorized",
  "refused",
  "missing",
  "gone",
  "unprocessable",
]);

/**
 * POST runners. Sent once: a repeated one could make a second runner.
 * Rejects with `signal.reason` only, and with ConfigError for a url that is neither http nor https.
 * @param info as for `verifyToken`
 */
export async function register(
  target: CoordinatorTarget,
  registration: Registration,
  info: RunnerInfo,
  deps: CoordinatorDeps,
  signal: AbortSignal,
): Promise<RegisterAnswer> {
  const body = {
    token: registration.token,
    description: registration.description || undefined,
    tag_list: registration.tags.length === 0 ? undefined : registration.tags.map((tag) => tag.trim()).join(","),
    run_untagged: registration.runUntagged,
    locked: registration.locked,
    paused: registration.paused,
    maintenance_note: registration.maintenanceNote || undefined,
    access_level: registration.accessLevel || undefined,
    maximum_timeout: registration.maximumTimeoutSeconds || undefined,
    info: runnerInfo(deps.identity, info),
  };
  const caller = createCaller(target, deps);
  const reply = await caller.call(jsonCall("POST", "runners", body, false), signal);
  const trouble = (): Trouble => troubleOf("register a runner", reply, caller.api, [registration.token]);
  if (reply.kind === "silent") return trouble();
  const { answer } = reply;
  if (answer.status === 201 || answer.status === 200) {
    const granted = grantedIn(answer, "register a runner", caller.api);
    return "kind" in granted ? granted : { kind: "registered", ...granted };
  }
  const why = answerKind(answer.status);
  if (refusals.has(why)) return { kind: "refused", why, message: trouble().message };
  return trouble();
}

export type VerifyAnswer =
  /** `id`, `expiresAtMs` where the coordinator says them (GitLab); AlloyCI's answer is empty. */
  | { readonly kind: "valid"; readonly id: string; readonly expiresAtMs: number | null }
  /** 403: the coordinator does not know the token (any more). */
  | { readonly kind: "unknown"; readonly message: string }
  | Trouble;

/**
 * POST runners/verify. Only `unknown` says that a token is worth nothing. Rejects as `register`.
 * @param info what job requests will say, too: GitLab believes the first call of a machine for most of an hour
 */
export async function verifyToken(
  target: CoordinatorTarget,
  token: string,
  info: RunnerInfo,
  deps: CoordinatorDeps,
  signal: AbortSignal,
): Promise<VerifyAnswer> {
  const caller = createCaller(target, deps);
  const body = { token, system_id: deps.systemId, info: runnerInfo(deps.identity, info) };
  const reply = await caller.call(jsonCall("POST", "runners/verify", body, true), signal);
  const trouble = troubleOf("verify a runner", reply, caller.api, [token]);
  if (reply.kind === "silent") return trouble;
  const { answer } = reply;
  const answered = answerKind(answer.status);
  if (answered === "fine") {
    if (/^\s*<(?:!doctype|html)/i.test(answer.body.subarray(0, 1024).toString("latin1"))) {
      const message = `Cannot verify a runner at ${caller.api.shown}: it answered ${answer.status} with a web page, as no coordinator does. Check the url`;
      return { kind: "trouble", message, status: answer.status, retryAfterMs: undefined };
    }
    const runner = runnerOf(answer);
    return { kind: "valid", id: runner?.id ?? "", expiresAtMs: runner?.expiresAtMs ?? null };
  }
  return answered === "refused" ? { kind: "unknown", message: trouble.message } : trouble;
}

export type UnregisterAnswer =
  | { readonly kind: "removed" }
  /** 403, or 404 for a machine of a GitLab runner: nothing to remove there. */
  | { readonly kind: "unknown"; readonly message: string }
  | Trouble;

/**
 * DELETE runners. A GitLab runner that was made in its web pages (`glrt-`) stays, and only this machine is taken off it
 * (DELETE runners/managers), which needs `deps.systemId`. Rejects as `register`.
 */
export async function unregister(
  target: CoordinatorTarget,
  token: string,
  deps: CoordinatorDeps,
  signal: AbortSignal,
): Promise<UnregisterAnswer> {
  const caller = createCaller(target, deps);
  const machineOnly = token.startsWith("glrt-") && deps.systemId !== undefined;
  const body = { token, system_id: machineOnly ? deps.systemId : undefined };
  const reply = await caller.call(
    jsonCall("DELETE", machineOnly ? "runners/managers" : "runners", body, false),
    signal,
  );
  const trouble = troubleOf("unregister a runner", reply, caller.api, [token]);
  if (reply.kind === "silent") return trouble;
  const answered = answerKind(reply.answer.status);
  if (answered === "fine") return { kind: "removed" };
  if (answered === "refused" || (answered === "missing" && machineOnly))
    return { kind: "unknown", message: trouble.message };
  return trouble;
}

export type ResetAnswer =
  /** The token of before is worth nothing from now on. */
  | { readonly kind: "exchanged"; readonly token: string; readonly expiresAtMs: number | null }
  /** 401, 403, 404: the coordinator knows no such token, exchanges none, or not for this person. */
  | { readonly kind: "refused"; readonly message: string }
  | Trouble;

/** Whose token is to be exchanged, and by what right: its own, or a person's. */
export type ResetRight = { readonly token: string } | { readonly runnerId: string; readonly personalToken: string };

/** POST runners/reset_authentication_token, or with a person's right runners/:id/…. Sent once. Rejects as `register`. */
export async function resetToken(
  target: CoordinatorTarget,
  right: ResetRight,
  deps: CoordinatorDeps,
  signal: AbortSignal,
): Promise<ResetAnswer> {
  const caller = createCaller(target, deps);
  const path = "reset_authentication_token";
  const call: ApiCall =
    "token" in right
      ? { ...jsonCall("POST", `runners/${path}`, { token: right.token }, false), endpoint: "reset_token" }
      : {
          method: "POST",
          path: `runners/${encodeURIComponent(right.runnerId)}/${path}`,
          endpoint: "reset_token",
          headers: ["private-token", right.personalToken],
          repeatable: false,
        };
  const reply = await caller.call(call, signal);
  const secret = "token" in right ? right.token : right.personalToken;
  const trouble = troubleOf("exchange a runner's token", reply, caller.api, [secret]);
  if (reply.kind === "silent") return trouble;
  const { answer } = reply;
  const answered = answerKind(answer.status);
  if (answered === "unauthorized" || answered === "refused" || answered === "missing")
    return { kind: "refused", message: trouble.message };
  if (answered !== "fine") return trouble;
  const granted = grantedIn(answer, "exchange a runner's token", caller.api);
  if ("kind" in granted) return granted;
  return { kind: "exchanged", token: granted.token, expiresAtMs: granted.expiresAtMs };
}

/** A call by the right of `body.token`. */
function jsonCall(
  method: "POST" | "DELETE",
  path: string,
  body: { readonly token: string; readonly [key: string]: unknown },
  repeatable: boolean,
) {
  const headers = runnerTokenHeader(body.token);
  return { method, path, endpoint: path, headers, body: { bytes: Buffer.from(JSON.stringify(body)) }, repeatable };
}

function troubleOf(
  what: string,
  reply: Reply,
  api: { readonly shown: string; readonly origin: string },
  secrets: readonly string[],
): Trouble {
  const sentence = (reason: string): string => `Cannot ${what} at ${api.shown}: ${reason}`;
  if (reply.kind === "silent") {
    return { kind: "trouble", message: sentence(reply.reason), status: 0, retryAfterMs: undefined };
  }
  const { answer } = reply;
  const message = sentence(describeAnswer(answer, api.origin, secrets));
  return { kind: "trouble", message, status: answer.status, retryAfterMs: retryAfter(answer.headers) };
}

/** What a token of a runner may be: it goes into the file, where `$NAME` in it would be a variable of the runner's environment. */
const TOKEN = /^[A-Za-z0-9_.=-]{1,512}$/;

function grantedIn(
  answer: Answer,
  what: string,
  api: { readonly shown: string },
): Omit<RegisteredRunner, "kind"> | Trouble {
  const { id = "", token, expiresAtMs = null } = runnerOf(answer) ?? {};
  if (token !== undefined && TOKEN.test(token)) return { id, token, expiresAtMs };
  const but =
    token === undefined
      ? "but not with the runner's token"
      : "with a token that is not used: it has other characters than A-Z, a-z, 0-9, _ . = - or more than 512 of them";
  const message = `Cannot ${what} at ${api.shown}: it answered ${answer.status}, ${but}. Check the url`;
  return { kind: "trouble", message, status: answer.status, retryAfterMs: undefined };
}

/** `{"id": 12, "token": "…", "token_expires_at": "…"}`, as far as it is there. */
function runnerOf(answer: Answer): { id: string; token: string | undefined; expiresAtMs: number | null } | undefined {
  const text = answer.body.toString("utf8");
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isFields(parsed)) return undefined;
  const { token, token_expires_at: expiresAt } = parsed;
  return {
    id: exactId(parsed.id, text),
    token: typeof token === "string" && token !== "" ? token : undefined,
    expiresAtMs: typeof expiresAt === "string" ? momentOf(expiresAt) : null,
  };
}

/** Numbers beyond 2^53 keep their digits. */
function exactId(id: unknown, text: string): string {
  if (typeof id === "string") return id;
  if (typeof id !== "number") return "";
  return Number.isSafeInteger(id) ? String(id) : (/"id"\s*:\s*(\d+)/.exec(text)?.[1] ?? String(id));
}

/** `null`: never, which some write as the first moment of the first year. */
function momentOf(text: string): number | null {
  const ms = Date.parse(text);
  return Number.isNaN(ms) || new Date(ms).getUTCFullYear() <= 1 ? null : ms;
}
