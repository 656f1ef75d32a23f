import type { Socket } from "node:net";

/**
 * As much of HTTP as a scraper needs: one request without a body on a connection, one answer. Written by hand because the
 * HTTP server of the runtime that binaries are built with shows a connection only once its request has come, and then ends
 * none that stays silent: what cannot be seen cannot be bounded.
 */

export interface MetricsRequest {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
}

export interface MetricsReply {
  readonly status: 200 | 400 | 404 | 405 | 431 | 500 | 503;
  readonly type?: string;
  readonly body: string;
}

const HEAD_BYTES = 8192;
const REASONS: Readonly<Record<MetricsReply["status"], string>> = {
  200: "OK",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

/** Calls back once with the request, or with the answer to what is none. Never for a connection that ends before. */
export function onRequest(socket: Socket, told: (request: MetricsRequest | MetricsReply) => void): void {
  let head = "";
  const onData = (chunk: Buffer): void => {
    head += chunk.toString("latin1");
    const end = head.search(/\r?\n\r?\n/);
    if (end < 0 && head.length <= HEAD_BYTES) return;
    socket.off("data", onData);
    // A body is nobody's business; left unread it would cost the answer.
    socket.resume();
    const [line = ""] = head.split(/\r?\n/, 1);
    const [, method, target] = /^([A-Z]{1,20}) (\S+) HTTP\/1\.[01]$/.exec(line) ?? [];
    if (end < 0 || end > HEAD_BYTES) told({ status: 431, body: "too many headers\n" });
    else if (method === undefined || target === undefined) told({ status: 400, body: "not a request\n" });
    else told({ method, path: pathOf(target) });
  };
  socket.on("data", onData);
}

/** Of `/metrics?x=1`, or of `http://host/metrics`, which proxies may send. */
function pathOf(target: string): string {
  return (target.replace(/^https?:\/\/[^/?]*/i, "").split("?", 1)[0] ?? "") || "/";
}

/** Each answer ends its connection: scrapes are rare, and an idle connection would take one of few places. */
export function sendReply(socket: Socket, { status, type, body }: MetricsReply, withoutBody: boolean): void {
  const bytes = Buffer.from(body);
  const lines = [
    `HTTP/1.1 ${status} ${REASONS[status]}`,
    `Date: ${new Date().toUTCString()}`,
    `Content-Type: ${type ?? "text/plain; charset=utf-8"}`,
    `Content-Length: ${bytes.length}`,
    "Cache-Control: no-store",
    "Connection: close",
    ...(status === 405 ? ["Allow: GET, HEAD"] : []),
  ];
  const head = Buffer.from(`${lines.join("\r\n")}\r\n\r\n`);
  socket.end(withoutBody ? head : Buffer.concat([head, bytes]));
}
