import type { BodyLimits } from "./body.ts";
import type { Call } from "./http.ts";
import type { Reply } from "./reply.ts";
import { isWire, type Wire } from "./wire.ts";

/** What came with a request, or the answer to one that cannot be read. */
export type Parameters = { readonly values: Wire; readonly refused?: undefined } | { readonly refused: Reply };

/** A body that nobody will read: the caller has gone, or sends nothing any more. */
export const hangUp: Reply = { status: 0, hangUp: true };

/**
 * Query and body in one; the body wins. JSON and form bodies are read, anything else is left alone.
 * Malformed JSON is answered 400, a body beyond its limit with `tooLarge`.
 */
export async function readParameters(call: Call, limits: BodyLimits, tooLarge: Reply): Promise<Parameters> {
  const query = Object.fromEntries(call.query);
  const type = mediaType(call);
  if (type !== "application/json" && type !== "application/x-www-form-urlencoded") return { values: query };
  const pieces: Buffer[] = [];
  const end = await call.body(limits, (chunk) => void pieces.push(chunk));
  if (end === "too_large") return { refused: tooLarge };
  if (end !== "complete") return { refused: hangUp };
  const text = Buffer.concat(pieces).toString("utf8");
  if (type !== "application/json") return { values: { ...query, ...Object.fromEntries(new URLSearchParams(text)) } };
  if (text === "") return { values: query };
  try {
    const body: unknown = JSON.parse(text);
    return { values: isWire(body) ? { ...query, ...body } : query };
  } catch {
    return { refused: { status: 400 } };
  }
}

/** Content type without parameters, lower-case; empty without one. */
export function mediaType(call: Call): string {
  return (call.header("content-type") ?? "").split(";")[0]?.trim().toLowerCase() ?? "";
}

export function json(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): Reply {
  return {
    status,
    headers: { "content-type": "application/json; charset=utf-8", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  };
}

/** Any text as the value of a header: UTF-8 on the wire, without control characters. */
export function headerText(text: string): string {
  return Buffer.from(text.replace(/[\x00-\x1f\x7f]/g, "_")).toString("latin1");
}
