import { connect as connectTcp, isIP, type LookupFunction, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import {
  type ConnectionOptions,
  connect as connectTls,
  type DetailedPeerCertificate,
  type SecureContext,
  type TLSSocket,
} from "node:tls";
import { describeError } from "../../errors.ts";
import { describeLoginRefusal, type HttpProxy } from "../../proxy/proxy.ts";
import { deadline } from "../../time.ts";
import { ClosedEarly, isCutOff } from "./closed-early.ts";
import { Client, openTunnel } from "./http-client.ts";
import type { TlsMaterial } from "./tls.ts";

/** Name lookup, TCP, proxy and TLS together. */
const CONNECT_MS = 10_000;
/** Time for one address of a host before the next one is tried; far links need more than the usual 250 ms. */
const NEXT_ADDRESS_MS = 2500;

export interface Endpoint {
  /** `https://host:port`. */
  readonly origin: URL;
  readonly proxy: HttpProxy | undefined;
  readonly lookup: LookupFunction;
  /** `undefined` over plain HTTP. */
  readonly tls: TlsMaterial | undefined;
  /** Whom a proxy with an https URL must be known to. */
  readonly proxyContext: () => SecureContext;
}

/** Opens connections to one endpoint, and knows whom it met there. */
export interface Connector {
  /** @throws {Error} its message names the host that failed, and why */
  open(signal: AbortSignal): Promise<Socket>;
  /** PEM of the chain that the endpoint showed and that was verified, leaf first; `undefined` before, and over plain HTTP. */
  readonly peerChain: string | undefined;
}

export function createConnector(endpoint: Endpoint): Connector {
  const { origin, proxy, lookup, tls } = endpoint;
  let session: Buffer | undefined;
  let peerChain: string | undefined;
  const host = hostOf(origin);

  const secure = async (transport: Duplex, material: TlsMaterial, signal: AbortSignal): Promise<Socket> => {
    const socket = connectTls({
      ...tlsTo(host, transport, material.context),
      ...(session === undefined ? {} : { session }),
    });
    socket.on("session", (fresh) => {
      session = fresh;
    });
    try {
      await opened(socket, "secureConnect", signal);
      if (!socket.authorized) throw socket.authorizationError ?? new Error("the certificate was not verified");
    } catch (error) {
      session = undefined;
      socket.destroy();
      throw isCutOff(error) && !signal.aborted ? new ClosedEarly(error) : error;
    }
    if (!socket.isSessionReused()) peerChain = chainOf(socket); // a resumed session shows no chain
    return socket;
  };

  return {
    get peerChain() {
      return peerChain;
    },
    async open(signal) {
      using limit = deadline(signal, CONNECT_MS, new Error(`no connection within ${CONNECT_MS / 1000} s`));
      if (tls === undefined) {
        return await (proxy === undefined
          ? dial(origin, lookup, limit.signal)
          : dialProxy(proxy, endpoint, limit.signal));
      }
      const transport =
        proxy === undefined ? dial(origin, lookup, limit.signal) : tunnel(proxy, endpoint, limit.signal);
      return await secure(await transport, tls, limit.signal);
    },
  };
}

/** What holds for every TLS connection. Said aloud, so that NODE_TLS_REJECT_UNAUTHORIZED=0 changes nothing. */
function tlsTo(host: string, transport: Duplex, secureContext: SecureContext): ConnectionOptions {
  return {
    socket: transport,
    secureContext,
    host,
    // An address is no server name; the certificate is then compared with `host`.
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ALPNProtocols: ["http/1.1"],
    minVersion: "TLSv1.2",
    rejectUnauthorized: true,
  };
}

async function dial(to: URL, lookup: LookupFunction, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  const socket = connectTcp({
    host: hostOf(to),
    port: Number(portOf(to)),
    lookup,
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: NEXT_ADDRESS_MS,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: 15_000,
  });
  await opened(socket, "connect", signal);
  return socket;
}

/** A connection to the proxy itself, over TLS if its URL says so. */
async function dialProxy(proxy: HttpProxy, { lookup, proxyContext }: Endpoint, signal: AbortSignal): Promise<Socket> {
  const url = new URL(proxy.origin);
  try {
    const tcp = await dial(url, lookup, signal);
    if (url.protocol === "http:") return tcp;
    const socket = connectTls(tlsTo(hostOf(url), tcp, proxyContext()));
    await opened(socket, "secureConnect", signal);
    return socket;
  } catch (error) {
    throw new Error(`proxy ${proxy.origin}: ${describeError(error)}`, { cause: error });
  }
}

/** A tunnel through the proxy, for TLS. */
async function tunnel(proxy: HttpProxy, endpoint: Endpoint, signal: AbortSignal): Promise<Duplex> {
  const authority = `${endpoint.origin.hostname}:${portOf(endpoint.origin)}`;
  let unreachable: Error | undefined;
  const client = new Client(proxy.origin, {
    allowH2: false,
    connect: (_options, callback) => {
      dialProxy(proxy, endpoint, signal).then(
        (socket) => callback(null, socket),
        (error: unknown) =>
          callback((unreachable = error instanceof Error ? error : new Error(describeError(error))), null),
      );
    },
  });
  try {
    const { statusCode, socket } = await openTunnel(client, {
      path: authority,
      headers: {
        host: authority,
        ...(proxy.authorization === undefined ? {} : { "proxy-authorization": proxy.authorization }),
      },
      signal,
    });
    if (statusCode === 200) return socket;
    socket.on("error", () => {}).destroy();
    if (statusCode === 407) throw (unreachable = new Error(describeLoginRefusal(proxy)));
    throw new Error(`it refused a tunnel to ${authority} with status ${statusCode}`);
  } catch (error) {
    signal.throwIfAborted();
    throw unreachable ?? new Error(`proxy ${proxy.origin}: ${describeError(error)}`, { cause: error });
  } finally {
    client.destroy().catch(() => {}); // a socket that it gave away is not its own any more
  }
}

/** Resolves with `event`; otherwise the socket is gone when this rejects. */
function opened(socket: Socket, event: "connect" | "secureConnect", signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      signal.removeEventListener("abort", onAbort);
      socket.off(event, onOpen).off("close", onClose);
    };
    const onOpen = (): void => {
      done();
      socket.off("error", onError);
      resolve();
    };
    // Stays on a socket that failed: a second error of it must not end the process.
    const onError = (error: Error): void => {
      done();
      reject(error);
    };
    const onClose = (): void => onError(new Error("the connection was closed before it was ready"));
    const onAbort = (): void => {
      socket.destroy();
      onError(signal.reason);
    };
    socket.on(event, onOpen).on("error", onError).on("close", onClose);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
  });
}

function chainOf(socket: TLSSocket): string | undefined {
  const chain: string[] = [];
  const seen = new Set<string>();
  let certificate: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  while (certificate?.raw !== undefined && !seen.has(certificate.fingerprint256)) {
    seen.add(certificate.fingerprint256);
    chain.push(pem(certificate.raw));
    certificate = certificate.issuerCertificate;
  }
  return chain.length === 0 ? undefined : chain.join("");
}

function pem(raw: Buffer): string {
  const lines = raw.toString("base64").match(/.{1,64}/g) ?? [];
  return ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""].join("\n");
}

/** Without the brackets of an IPv6 address. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, "");
}

function portOf(url: URL): string {
  return url.port || (url.protocol === "https:" ? "443" : "80");
}
