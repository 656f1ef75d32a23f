import { Agent, type AgentOptions, type RequestOptions } from "node:https";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import { describeLoginRefusal, type HttpProxy } from "../../../src/proxy/proxy.ts";

/** Limit from the first packet until the proxy says that the tunnel is open. */
const OPEN_MS = 20_000;
/** A longer head does not come from a proxy. */
const MOST_HEAD_BYTES = 16 * 1024;

type Opened = (error: Error | null, stream: Duplex) => void;

/** Connections that go through a proxy; TLS is the API server's own, from end to end. */
export class TunnelAgent extends Agent {
  readonly #proxy: HttpProxy;

  constructor(proxy: HttpProxy, options: AgentOptions) {
    super(options);
    this.#proxy = proxy;
  }

  override createConnection(options: RequestOptions, opened?: Opened): undefined {
    const { ca, cert, key, servername, rejectUnauthorized, port } = options;
    const host = options.host ?? "";
    openTunnel(this.#proxy, `${host.includes(":") ? `[${host}]` : host}:${port ?? 443}`, (error, tcp) => {
      if (error !== null) {
        opened?.(error, tcp);
        return;
      }
      const secure = connectTls({ ca, cert, key, servername, rejectUnauthorized, host, socket: tcp });
      const onError = (cause: Error): void => opened?.(cause, secure);
      secure.once("error", onError).once("secureConnect", () => {
        secure.off("error", onError);
        opened?.(null, secure);
      });
    });
  }
}

/** `done` is called once; a connection that comes with an error is closed. */
function openTunnel(proxy: HttpProxy, authority: string, done: (error: Error | null, tcp: Socket) => void): void {
  const { protocol, hostname, port } = new URL(proxy.origin);
  const at = { host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || (protocol === "https:" ? 443 : 80)) };
  const tcp: Socket = protocol === "https:" ? connectTls(at) : connect(at);
  const settle = (error: Error | null): void => {
    clearTimeout(timer);
    tcp.off("data", onData).off("error", onError).off("close", onClose);
    if (error !== null) tcp.on("error", () => {}).destroy();
    done(error, tcp);
  };
  const refuse = (why: string): void => settle(new Error(`proxy ${proxy.origin}: ${why}`));
  const onError = ({ message }: Error): void => refuse(message);
  const onClose = (): void => refuse("it closed the connection");
  const timer = setTimeout(() => refuse(`no tunnel to ${authority} within ${OPEN_MS / 1000} s`), OPEN_MS);
  let head = "";
  const onData = (bytes: Buffer): void => {
    head += bytes.toString("latin1");
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) {
      if (head.length > MOST_HEAD_BYTES) refuse("its answer is none of a proxy's");
      return;
    }
    const status = /^HTTP\/1\.\d (\d{3})/.exec(head)?.[1];
    if (status === "407") settle(new Error(describeLoginRefusal(proxy)));
    else if (status !== "200") refuse(`it refused a tunnel to ${authority} with status ${status ?? "none"}`);
    else {
      tcp.pause();
      settle(null);
    }
  };
  tcp.on("data", onData).on("error", onError).on("close", onClose);
  tcp.once(protocol === "https:" ? "secureConnect" : "connect", () => {
    const login = proxy.authorization === undefined ? "" : `proxy-authorization: ${proxy.authorization}\r\n`;
    tcp.write(`CONNECT ${authority} HTTP/1.1\r\nhost: ${authority}\r\n${login}\r\n`);
  });
}
