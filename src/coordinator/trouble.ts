/** What went wrong with a call, as one line for a person. Never with a token, a body as it came, or a query. */
import { describeError } from "../errors.ts";
import { ClosedEarly } from "./closed-early.ts";
import type { Answer } from "./exchange.ts";
import { requestIdOf } from "./request-id.ts";
import { first } from "./retry-after.ts";

const LONGEST_MESSAGE = 300;

const setCaFile = "set tls-ca-file to a PEM file with the certificate of its issuer";

/** OpenSSL's and Node's codes → what they mean for a person who runs a runner. */
const certificateProblems: ReadonlyMap<string, string> = new Map([
  ["CERT_HAS_EXPIRED", "its certificate, or one in its chain, has expired"],
  ["CERT_NOT_YET_VALID", "its certificate is not valid yet: check the clocks of both machines"],
  ["CERT_REVOKED", "its certificate was revoked"],
  ["CERT_REJECTED", "its certificate is not accepted for this use"],
  ["INVALID_PURPOSE", "its certificate is not meant for servers"],
  ["DEPTH_ZERO_SELF_SIGNED_CERT", `its certificate is self-signed and not trusted here: ${setCaFile}`],
  ["SELF_SIGNED_CERT_IN_CHAIN", `its certificate has an issuer that is not trusted here: ${setCaFile}`],
  ["UNABLE_TO_GET_ISSUER_CERT", `its certificate has an unknown issuer: ${setCaFile}`],
  ["UNABLE_TO_GET_ISSUER_CERT_LOCALLY", `its certificate has an unknown issuer: ${setCaFile}`],
  ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", `its certificate has an unknown issuer, or it sends no chain: ${setCaFile}`],
  ["CERT_UNTRUSTED", `its certificate is not trusted here: ${setCaFile}`],
  ["CERT_SIGNATURE_FAILURE", `its certificate is not signed by the issuer it names: ${setCaFile}`],
]);

const clientCertificate =
  "if it asks for a client certificate, the one of tls-cert-file is missing (with its tls-key-file) or not accepted there";

/** Alerts about who we are, as OpenSSL, Node and BoringSSL spell them. */
const CLIENT_ALERT =
  /^ERR_SSL_.*ALERT_(HANDSHAKE_FAILURE|(?:NO_|BAD_|UNSUPPORTED_)CERTIFICATE|CERTIFICATE_(?:REQUIRED|REVOKED|EXPIRED|UNKNOWN)|UNKNOWN_CA|ACCESS_DENIED|DECRYPT_ERROR)$/;

/** An exchange without an answer. `host` is the coordinator's. */
export function describeBroken(error: unknown, host: string): string {
  const code = codeOf(error);
  const problem = code === undefined ? undefined : certificateProblems.get(code);
  if (problem !== undefined) return `the TLS connection to ${host} was refused: ${problem} (${code})`;
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
    return `the TLS connection to ${host} was refused: its certificate is for other names (${oneLine(describeError(error))})`;
  }
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || code === "ERR_SSL_PACKET_LENGTH_TOO_LONG") {
    return `the TLS connection to ${host} failed: it does not speak TLS there; does the url need http:// or another port?`;
  }
  if (code !== undefined && /UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION|VERSION_TOO_LOW/.test(code)) {
    return `the TLS connection to ${host} was refused: it offers no TLS 1.2 or newer (${code})`;
  }
  const alert = code === undefined ? undefined : CLIENT_ALERT.exec(code)?.[1];
  if (alert !== undefined) {
    return `the TLS handshake was refused by ${host} (${alert.replaceAll("_", " ").toLowerCase()}): ${clientCertificate}`;
  }
  if (isClosedEarly(error)) {
    return `the TLS handshake was refused by ${host}, or it has closed the connection before an answer: ${clientCertificate}`;
  }
  if (code === "UND_ERR_HEADERS_OVERFLOW") return "the headers of its answer are larger than 64 KiB";
  return oneLine(describeError(error));
}

/**
 * An answer that is no success. `secrets` are taken out of what the coordinator says. Where it failed itself, the request's
 * number in its log is told, too.
 */
export function describeAnswer(answer: Answer, origin: string, secrets: readonly string[]): string {
  const id = answer.status >= 500 ? requestIdOf(answer.headers) : undefined;
  return id === undefined ? reasonOf(answer, origin, secrets) : `${reasonOf(answer, origin, secrets)} (request ${id})`;
}

function reasonOf(answer: Answer, origin: string, secrets: readonly string[]): string {
  const { status, headers } = answer;
  if (status >= 300 && status < 400) return `${status}: ${describeRedirect(first(headers.location), origin)}`;
  const said = oneLine(
    secrets.reduce((text, secret) => (secret === "" ? text : text.replaceAll(secret, "[MASKED]")), messageOf(answer)),
  );
  const name = statusNames.get(status);
  const head = name === undefined ? `status ${status}` : `${status} ${name}`;
  if (said === "" || said.toLowerCase() === head.toLowerCase()) return head;
  return said.startsWith(String(status)) ? said : `${head}: ${said}`;
}

const statusNames: ReadonlyMap<number, string> = new Map([
  [400, "Bad Request"],
  [401, "Unauthorized"],
  [403, "Forbidden"],
  [404, "Not Found"],
  [405, "Method Not Allowed"],
  [407, "Proxy Authentication Required"],
  [408, "Request Timeout"],
  [409, "Conflict"],
  [410, "Gone"],
  [413, "Content Too Large"],
  [422, "Unprocessable Content"],
  [429, "Too Many Requests"],
  [500, "Internal Server Error"],
  [502, "Bad Gateway"],
  [503, "Service Unavailable"],
  [504, "Gateway Timeout"],
]);

/** API calls carry tokens: they are not taken elsewhere by the answer of a server. */
function describeRedirect(location: string | undefined, origin: string): string {
  let target: URL | undefined;
  try {
    target = location === undefined ? undefined : new URL(location, origin);
  } catch {
    // told as a redirect to nowhere
  }
  if (target === undefined) return "it redirects without saying where; check the url of this runner";
  const path = target.origin === origin ? target.pathname.slice(0, 200) : "";
  return `it redirects to ${target.origin}${path}, which is not followed; the url of this runner must be the coordinator's own`;
}

/** `{"message": "…"}`, `{"message": {"field": ["…"]}}`, `{"error": "…"}`, or plain text; never a page of HTML. */
function messageOf({ body, headers }: Answer): string {
  const text = body
    .subarray(0, 64 * 1024)
    .toString("utf8")
    .trim();
  if (text.startsWith("{")) {
    try {
      const parsed: unknown = JSON.parse(text);
      if (typeof parsed === "object" && parsed !== null) {
        if ("message" in parsed) return flatten(parsed.message);
        if ("error" in parsed) return flatten(parsed.error);
      }
    } catch {
      return "";
    }
    return "";
  }
  return /html|xml/i.test(first(headers["content-type"]) ?? "") || text.startsWith("<") ? "" : text;
}

function flatten(value: unknown): string {
  if (Array.isArray(value)) return value.slice(0, 20).map(String).join(", ");
  if (typeof value !== "object" || value === null) return String(value ?? "");
  return Object.entries(value)
    .slice(0, 20)
    .map(
      ([field, problems]) =>
        `${field}: ${Array.isArray(problems) ? problems.slice(0, 20).map(String).join(", ") : String(problems)}`,
    )
    .join("; ");
}

/** Printable and short. */
function oneLine(text: string): string {
  const line = text
    .slice(0, 4 * LONGEST_MESSAGE)
    .replace(/[\s\x00-\x1f\x7f-\x9f]+/g, " ")
    .trim();
  return line.length > LONGEST_MESSAGE ? `${line.slice(0, LONGEST_MESSAGE)}…` : line;
}

function isClosedEarly(error: unknown): boolean {
  for (let current = error, depth = 0; depth < 5 && current instanceof Error; current = current.cause, depth++) {
    if (current instanceof ClosedEarly) return true;
  }
  return false;
}

/** The first code in a chain of causes. */
function codeOf(error: unknown): string | undefined {
  for (let current = error, depth = 0; depth < 5 && current instanceof Error; current = current.cause, depth++) {
    if ("code" in current && typeof current.code === "string") return current.code;
  }
  return undefined;
}
