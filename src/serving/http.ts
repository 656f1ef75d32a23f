import type { Socket } from "node:net";

/**
 * As much of HTTP as a scraper, our own programs and our page need: one request without a body on a connection, one answer. Written by
 * hand because the HTTP server of the runtime that binaries are built with shows a connection only once its request has come,
 * and then ends none that stays silent: what cannot be seen cannot be bounded.
 */

export interface HttpRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** The value of a header, by its name in lower case; `undefined` where it is absent or stands there twice. */
  header(name: string): string | undefined;
}

export interface HttpReply {
  readonly status: 200 | 204 | 400 | 401 | 403 | 404 | 405 | 409 | 423 | 431 | 500 | 503;
  readonly type?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string;
}

const HEAD_BYTES = 8192;
const REASONS: Readonly<Record<HttpReply["status"], string>> = {
  200: "OK",
  204: "No Content",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  423: "Locked",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

/** Calls back once with the request, or with the answer to what is none. Never for a connection that ends before. */
export function onRequest(socket: Socket, told: (request: HttpRequest | HttpReply) => void): void {
  let head = "";
  const onData = (chunk: Buffer): void => {
    head += chunk.toString("latin1");
    const end = head.search(/\r?\n\r?\n/);
    if (end < 0 && head.length <= HEAD_BYTES) return;
    socket.off("data", onData);
    // A body is nobody's business; left unread it would cost the answer.
    socket.resume();
    const [line = "", ...fields] = head.slice(0, Math.max(end, 0)).split(/\r?\n/);
    const [, method, target] = /^([A-Z]{1,20}) (\S+) HTTP\/1\.[01]$/.exec(line) ?? [];
    if (end < 0 || end > HEAD_BYTES) told({ status: 431, body: "too many headers\n" });
    else if (method === undefined || target === undefined) told({ status: 400, body: "not a request\n" });
    else told({ method, ...partsOf(target), header: (name) => fieldValue(fields, name) });
  };
  socket.on("data", onData);
}

function fieldValue(fields: readonly string[], name: string): string | undefined {
  const values = fields.flatMap((field) => {
    const colon = field.indexOf(":");
    return field.slice(0, colon).toLowerCase() === name ? [field.slice(colon + 1).trim()] : [];
  });
  return values.length === 1 ? values[0] : undefined;
}

/** Of `/metrics?x=1`, or of `http://host/metrics`, which proxies may send. */
function partsOf(target: string): Pick<HttpRequest, "path" | "query"> {
  const local = target.replace(/^https?:\/\/[^/?]*/i, "");
  const mark = local.indexOf("?");
  const path = mark < 0 ? local : local.slice(0, mark);
  return { path: path || "/", query: new URLSearchParams(mark < 0 ? "" : local.slice(mark + 1)) };
}

/** Each answer ends its connection: scrapes are rare, and an idle connection would take one of few places. */
export function sendReply(socket: Socket, { status, type, headers, body }: HttpReply, withoutBody: boolean): void {
  const bytes = Buffer.from(body);
  const head = headOf(status, {
    "Content-Type": type ?? "text/plain; charset=utf-8",
    "Content-Length": String(bytes.length),
    ...headers,
  });
  socket.end(withoutBody ? head : Buffer.concat([head, bytes]));
}

/** The beginning of an answer whose body is written as it comes; the end of the connection ends it. */
export function sendHead(socket: Socket, type: string, headers: Readonly<Record<string, string>>): void {
  socket.write(headOf(200, { "Content-Type": type, ...headers }));
}

function headOf(status: HttpReply["status"], headers: Readonly<Record<string, string>>): Buffer {
  const lines = [
    `HTTP/1.1 ${status} ${REASONS[status]}`,
    `Date: ${new Date().toUTCString()}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "Cache-Control: no-store",
    "Connection: close",
  ];
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n`);
}
