import { isIP } from "node:net";
import { z } from "zod";
import { type Ask, misconfigured } from "../cloud/ask.ts";

/** What a store is asked with. */
export interface SecretContext {
  readonly ask: Ask;
  /** `$NAME` of the job's variables in place. */
  expand(text: string): string;
  /** Value of a variable of the job. */
  get(name: string): string | undefined;
  /** From now on these must not show. */
  hide(secrets: readonly string[]): void;
  /** Logs in once for all secrets of the job that want the same. @returns the token */
  once(key: string, logIn: () => Promise<string>): Promise<string>;
  /** Hosts that may be asked over plain HTTP: `host` or `host:port`. */
  readonly plainHttpHosts: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/**
 * One kind of store.
 * @param wanted the job's own words
 * @returns `null`: the store has no such secret
 * @throws {SystemFailure}
 */
export type Provider = (wanted: unknown, context: SecretContext, signal: AbortSignal) => Promise<string | null>;

/** Text that may be absent. */
export const optional = z
  .union([z.string(), z.number(), z.null()])
  .optional()
  .transform((value) => (value === null || value === undefined ? "" : String(value)));
export const needed = z.union([z.string().min(1, "is empty"), z.number().transform(String)]);

/** @throws {SystemFailure} names what is missing, and none of the values */
export function read<T>(schema: z.ZodType<T>, wanted: unknown): T {
  const parsed = schema.safeParse(wanted);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw misconfigured(`the job does not say ${issue?.path.join(".") ?? "enough"}: ${issue?.message ?? ""}`);
}

/** @throws {SystemFailure} secrets would be sent in the clear, or it is no address */
export function addressOf(text: string, { plainHttpHosts }: Pick<SecretContext, "plainHttpHosts">): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) throw misconfigured("its server's url is no address");
  const isOpen = url.protocol === "http:" && !isLoopback(url.hostname);
  if (isOpen && !plainHttpHosts.includes(url.host) && !plainHttpHosts.includes(url.hostname)) {
    throw misconfigured(
      `${url.host} would be asked over plain HTTP; use https, or have its operator name it in plain_http_secret_servers`,
    );
  }
  return url;
}

function isLoopback(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, "");
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/** Below an address that may have a path of its own; parts are cleaned and encoded. */
export function below(base: URL, ...parts: readonly string[]): URL {
  const segments: string[] = [];
  for (const segment of parts.flatMap((part) => part.split("/"))) {
    if (segment === "..") segments.pop();
    else if (segment !== "" && segment !== ".") segments.push(encodeURIComponent(segment));
  }
  const url = new URL(base.origin);
  url.pathname = `${base.pathname.replace(/\/+$/, "")}/${segments.join("/")}`;
  return url;
}

/** A token out of the job's variables, hidden from now on. @throws {SystemFailure} it is empty */
export function tokenIn(text: string, { expand, hide }: Pick<SecretContext, "expand" | "hide">): string {
  const token = expand(text).trim();
  if (token !== "") {
    hide([token]);
    return token;
  }
  throw misconfigured(`its token ${/^\$\w+$/.test(text) ? `${text} ` : ""}is empty; does the job have id_tokens?`);
}

/** A member of a secret as a variable holds it: numbers as they were written. */
export function memberText(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
