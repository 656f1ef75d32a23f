import { isIP } from "node:net";
import type { HttpReply, HttpRequest } from "../serving/http.ts";
import { SESSION_SECONDS, type Session, type Sessions } from "./sessions.ts";

/** Who may see and do what on the page. */

export interface GuardOptions {
  /** As configured. */
  readonly host: string;
  readonly port: number;
  /** `null`: there is no password, so everybody looks and nobody steers. */
  readonly sessions: Sessions | null;
}

/** How somebody comes who may look. */
export interface Visitor {
  /** `null`: by the address alone, or with the password in the request itself. */
  readonly session: Session | null;
}

/** What is the matter with a request whoever it is from. */
export function strangeness(request: HttpRequest, { host, sessions }: GuardOptions): string | null {
  const site = request.header("sec-fetch-site");
  if (site !== undefined && site !== "same-origin" && site !== "none" && !isNavigation(request)) {
    return "A page of another site asks for this";
  }
  const asked = request.header("host");
  const name = asked === undefined ? undefined : hostName(asked);
  if (name === undefined) return "The header Host is missing";
  // A name that leads here for a moment only would make another site's page one of this host's.
  if (sessions === null && !["localhost", host.toLowerCase()].includes(name) && isIP(name) === 0) {
    return `This page answers to "localhost" and addresses, not to the name "${name}". Set [web] password to use a name`;
  }
  const origin = request.header("origin");
  if (request.method !== "GET" && origin !== undefined && !isOriginOf(origin, asked ?? "")) {
    return "A page of another site orders this";
  }
  return null;
}

/** The visitor, or null where somebody has to sign in first. */
export function visitorOf(request: HttpRequest, options: GuardOptions): Visitor | null {
  const { sessions } = options;
  if (sessions === null) return { session: null };
  const cookie = cookieOf(request, options);
  const session = cookie === undefined ? null : sessions.find(cookie);
  if (session !== null) return { session };
  const said = passwordOf(request);
  return said !== null && sessions.accepts(said) ? { session: null } : null;
}

/** Why the visitor may not give orders, or null. */
export function refusedOrder(request: HttpRequest, { session }: Visitor, { sessions }: GuardOptions): string | null {
  if (sessions === null) return "This page only shows. To steer from here, set [web] password in the configuration";
  if (session !== null && request.header("x-csrf-token") !== session.csrf) {
    return "The order lacks the page's token. Load the page anew";
  }
  return null;
}

/** The password of `Authorization: Basic`, whatever the account's name. */
export function passwordOf(request: HttpRequest): string | null {
  const [, encoded] = /^basic +([A-Za-z0-9+/=]+)$/i.exec(request.header("authorization") ?? "") ?? [];
  if (encoded === undefined) return null;
  const text = Buffer.from(encoded, "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon < 0 ? null : text.slice(colon + 1);
}

export function cookieOf(request: HttpRequest, options: GuardOptions): string | undefined {
  const name = cookieName(options);
  for (const pair of (request.header("cookie") ?? "").split(";")) {
    const [key, value] = pair.trim().split("=", 2);
    if (key === name) return value;
  }
  return undefined;
}

/** `null` ends it. */
export function cookieHeader(value: string | null, request: HttpRequest, options: GuardOptions): string {
  const secure = request.header("x-forwarded-proto") === "https" ? "; Secure" : "";
  const life = value === null ? 0 : SESSION_SECONDS;
  return `${cookieName(options)}=${value ?? ""}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${life}${secure}`;
}

/** Cookies do not know of ports: runners of one host would sign each other out. */
function cookieName({ port }: GuardOptions): string {
  return `alloy-runner-${port}`;
}

/** On every answer. Nothing but files of this page is loaded, run or connected to, and nobody embeds it. */
export const SAFETY: NonNullable<HttpReply["headers"]> = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
};

/** Somebody follows a link to the page. */
function isNavigation({ method, header, path }: HttpRequest): boolean {
  return method === "GET" && path === "/" && header("sec-fetch-mode") === "navigate";
}

function hostName(host: string): string | undefined {
  const [, six, other] = /^(?:\[([^\]]+)\]|([^:/?#]+))(?::\d+)?$/.exec(host) ?? [];
  return (six ?? other)?.toLowerCase();
}

function isOriginOf(origin: string, host: string): boolean {
  return URL.canParse(origin) && new URL(origin).host === host.toLowerCase();
}
