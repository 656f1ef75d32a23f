import { createServer, type IncomingMessage, request } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";

export interface ProxyOptions {
  /**
   * Host and port as clients name them → the port of 127.0.0.1, or the host and port, to which the proxy connects. It
   * refuses others with 502.
   */
  readonly places: Readonly<Record<string, number | { readonly host: string; readonly port: number }>>;
  /** `user:password` that the proxy demands. */
  readonly login?: string;
}

export interface TestProxy {
  /** `127.0.0.1:port`. */
  readonly host: string;
  /** First line of each request, with the status that it was answered with: `CONNECT x.example:443 200`. */
  readonly asked: readonly string[];
  close(): Promise<void>;
}

/** An HTTP proxy: CONNECT for TLS, whole addresses for plain HTTP. */
export async function startProxy({ places, login }: ProxyOptions): Promise<TestProxy> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const wanted = login === undefined ? undefined : `Basic ${Buffer.from(login).toString("base64")}`;
  /** @returns the port to go on to, or the status of a refusal */
  const judge = (incoming: IncomingMessage, place: string): { host: string; port: number } | { status: number } => {
    const found = places[place];
    const refused = wanted !== undefined && incoming.headers["proxy-authorization"] !== wanted;
    const status = refused ? 407 : found === undefined ? 502 : 200;
    asked.push(`${incoming.method} ${incoming.url} ${status}`);
    if (found === undefined || status !== 200) return { status };
    return typeof found === "number" ? { host: "127.0.0.1", port: found } : found;
  };
  const headers = { "proxy-authenticate": 'Basic realm="test"' };

  const server = createServer((incoming, outgoing) => {
    const target = new URL(incoming.url ?? "/", "http://nowhere.invalid");
    const verdict = judge(incoming, `${target.hostname}:${target.port || 80}`);
    if ("status" in verdict) {
      incoming.resume();
      outgoing.writeHead(verdict.status, headers).end();
      return;
    }
    const { method, headers: given } = incoming;
    const { "proxy-authorization": _, ...rest } = given;
    const path = `${target.pathname}${target.search}`;
    const forward = request({ ...verdict, method, path, headers: rest }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    forward.on("error", () => outgoing.destroy());
    incoming.pipe(forward);
  });
  server.on("connect", (incoming, client, head) => {
    const verdict = judge(incoming, incoming.url ?? "");
    if ("status" in verdict) {
      const lines = [`HTTP/1.1 ${verdict.status} Refused`, `Proxy-Authenticate: ${headers["proxy-authenticate"]}`];
      client.end(`${lines.join("\r\n")}\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    const there = connect(verdict, () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n");
      there.write(head);
      client.pipe(there).pipe(client);
    });
    for (const [one, other] of [
      [client, there],
      [there, client],
    ] as const) {
      one.on("error", () => other.destroy()).on("close", () => other.destroy());
    }
  });
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address: AddressInfo | string | null = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    host: `127.0.0.1:${port}`,
    asked,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
