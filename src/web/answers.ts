import { setTimeout as wait } from "node:timers/promises";
import { answer, refusal } from "../control/answers.ts";
import { PROTOCOL } from "../control/protocol.ts";
import type { Steering } from "../control/steering.ts";
import type { Followed } from "../control/trace-lines.ts";
import type { Log } from "../log.ts";
import type { HttpReply, HttpRequest } from "../serving/http.ts";
import {
  cookieHeader,
  cookieOf,
  type GuardOptions,
  passwordOf,
  refusedOrder,
  strangeness,
  type Visitor,
  visitorOf,
} from "./guard.ts";
import type { Access } from "./shown.ts";

/** An answer at once, or what is written as it happens, until the session is over. */
export type WebAnswer =
  | HttpReply
  | { readonly follows: Followed; readonly over: AbortSignal | null }
  | { readonly follows: "board"; readonly over: AbortSignal | null };

export interface Answering {
  readonly guard: GuardOptions;
  readonly files: ReadonlyMap<string, HttpReply>;
  readonly steering: Steering;
  readonly log: Log;
}

/** Between a wrong password and the answer to it. */
const WRONG_MS = 1000;

export async function answerWeb(asked: HttpRequest | HttpReply, to: Answering): Promise<WebAnswer> {
  if ("status" in asked) return asked;
  const strange = strangeness(asked, to.guard);
  if (strange !== null) return refusal(403, strange);
  const file = to.files.get(asked.path);
  if (file !== undefined) return asked.method === "GET" ? file : notFor(asked, "GET");
  if (!asked.path.startsWith("/api/")) return refusal(404, `${asked.path} is nothing here`);
  const visitor = visitorOf(asked, to.guard);
  if (asked.path === "/api/access") return access(visitor, to);
  if (asked.path === "/api/sign-in") return asked.method === "POST" ? await signIn(asked, to) : notFor(asked, "POST");
  if (visitor === null) {
    if (passwordOf(asked) !== null) await wait(WRONG_MS);
    return refusal(401, "Sign in with the password of [web] in the configuration");
  }
  const over = visitor.session?.over ?? null;
  if (asked.path === "/api/events") {
    return asked.method === "GET" ? { follows: "board", over } : notFor(asked, "GET");
  }
  if (asked.method === "POST") {
    const refused = refusedOrder(asked, visitor, to.guard);
    if (refused !== null) return refusal(403, refused);
    if (asked.path === "/api/sign-out") return signOut(asked, to);
  }
  const answered = await answer(resumed(asked), to.steering, to.log);
  return "follows" in answered ? { ...answered, over } : answered;
}

/** As the control socket is asked. A browser that lost its connection to a trace goes on behind what it has. */
function resumed(asked: HttpRequest): HttpRequest {
  const query = new URLSearchParams(asked.query);
  const last = asked.header("last-event-id");
  if (last !== undefined) query.set("from", last);
  return { ...asked, path: asked.path.replace("/api/", `/v${PROTOCOL}/`), query };
}

function access(visitor: Visitor | null, { guard, steering }: Answering): HttpReply {
  const told: Access = {
    signedIn: visitor !== null,
    csrf: guard.sessions === null ? null : (visitor?.session?.csrf ?? ""),
    version: visitor === null ? "" : steering.version,
  };
  return { status: 200, type: "application/json", body: JSON.stringify(told) };
}

async function signIn(asked: HttpRequest, { guard, log }: Answering): Promise<HttpReply> {
  const { sessions } = guard;
  if (sessions === null) return refusal(409, "There is no password to sign in with");
  const said = passwordOf(asked);
  if (said === null || !sessions.accepts(said)) {
    log.warn("somebody tried to sign in to the page with a wrong password");
    await wait(WRONG_MS);
    return refusal(401, "This is not the password");
  }
  log.info("somebody signed in to the page");
  return { status: 204, headers: { "Set-Cookie": cookieHeader(sessions.open(), asked, guard) }, body: "" };
}

function signOut(asked: HttpRequest, { guard }: Answering): HttpReply {
  const cookie = cookieOf(asked, guard);
  if (cookie !== undefined) guard.sessions?.close(cookie);
  return { status: 204, headers: { "Set-Cookie": cookieHeader(null, asked, guard) }, body: "" };
}

function notFor({ method, path }: HttpRequest, allowed: string): HttpReply {
  return { ...refusal(405, `${method} is not for ${path}`), headers: { Allow: allowed } };
}
