import type { LookupFunction } from "node:net";
import { createSecureContext, type SecureContext } from "node:tls";
import type { Job } from "../../job/job.ts";
import { describeLoginRefusal, type HttpProxy, type ProxyEnvironment, proxyFor } from "../../proxy/proxy.ts";
import { deadline } from "../../time.ts";
import { type Answer, type Call, type Exchange, exchange, isStreamed } from "../exchange.ts";
import { createRequestIds } from "../request-id.ts";
import { first } from "../retry-after.ts";
import { ClosedEarly, isCutOff } from "./closed-early.ts";
import { type Connector, createConnector } from "./connect.ts";
import { avoiding, createLookup } from "./lookup.ts";
import { createPool, type Pool } from "./pool.ts";
import { createRoots, openTlsSource, type TlsMaterial, type TlsSettings, tlsPlaces } from "./tls.ts";

/** The way to one origin with one TLS identity, shared by all who go there. */
export interface Route {
  readonly origin: string;
  /** Connections are made from here; otherwise a proxy makes them, which looks names up by itself. */
  isDirect(): boolean;
  /**
   * Send `call` and hear the answer. A redirect to the same origin that keeps method and body (307, 308) is followed.
   * @param repeatable send it once more, on a new connection, when a connection that had been idle, or that was still
   *   taking a large body, ended before a byte of the answer came. Only for what may arrive twice.
   * @throws {SystemFailure} a certificate file cannot be used
   * @throws {ConfigError} a proxy variable cannot be used
   * Otherwise rejects with `signal.reason`, or what the call's sink threw, only.
   */
  send(call: Call, repeatable: boolean, signal: AbortSignal): Promise<Exchange>;
  /** What a job needs to trust and convince this origin, as of the last answer; empty over plain HTTP. */
  readonly serverTls: Job["serverTls"];
}

/** All connections of the process to coordinators. Made by `agent/context.ts`, handed to whoever talks to one. */
export interface Connections {
  /**
   * @param isAvoided addresses that a name must not stand for: `send` answers with `AvoidedAddress` as what broke. Who says it goes
   *   where strangers want: of such routes only those that were used last are kept, so one is asked for with each call.
   */
  route(url: URL, tls: TlsSettings, isAvoided?: (address: string) => boolean): Route;
  /** What a name stands for just now, as the next connection would find it; empty where nothing is found in 10 s. */
  addressesOf(hostname: string, signal: AbortSignal): Promise<readonly string[]>;
  /** From now on a connection older than this is not used again: `connection_max_age`. Until then it is 15 min. */
  limitAge(ms: number): void;
  /** `X-Request-Id` of the next API call. */
  nextRequestId(): string;
  /** Ends idle connections; what is under way ends with its own signal or bound. */
  close(): Promise<void>;
}

export interface ConnectionsOptions {
  /** `process.env`, for the proxy variables. */
  readonly environment?: ProxyEnvironment;
  /** Names → addresses; the usual asks the system. */
  readonly lookup?: LookupFunction;
  /** Certificate files are looked at again after this time; the usual is 3 s. */
  readonly checkFilesMs?: number;
}

const MOST_REDIRECTS = 5;
/** Each has certificates in memory. */
const KEPT_WARY_ROUTES = 32;
const LOOKUP_MS = 10_000;
const DEFAULT_MAX_AGE_MS = 15 * 60_000;
const DEFAULT_CHECK_FILES_MS = 3000;

export function createConnections(options: ConnectionsOptions = {}): Connections {
  const { environment = {}, checkFilesMs = DEFAULT_CHECK_FILES_MS, lookup = createLookup() } = options;
  let maxAgeMs = DEFAULT_MAX_AGE_MS;
  const routes = new Map<string, OpenRoute>();
  /** The one that was used last is the last. */
  const waryRoutes = new Map<string, OpenRoute>();
  const roots = createRoots();
  let context: SecureContext | undefined;
  const proxyContext = (): SecureContext =>
    (context ??= createSecureContext({ ca: [...roots()], minVersion: "TLSv1.2" }));

  return {
    limitAge(ms) {
      maxAgeMs = ms;
    },
    nextRequestId: createRequestIds(),
    async addressesOf(hostname, signal) {
      using limit = deadline(signal, LOOKUP_MS, new Error("the name is not resolved in time"));
      return await new Promise((resolve) => {
        limit.signal.addEventListener("abort", () => resolve([]), { once: true });
        if (limit.signal.aborted) resolve([]);
        lookup(hostname, { all: true }, (_error, found) => {
          resolve(typeof found === "string" ? [] : found.map(({ address }) => address));
        });
      });
    },
    route(url, settings, isAvoided) {
      const origin = new URL(url.origin);
      const places = origin.protocol === "https:" ? tlsPlaces(origin, settings) : undefined;
      const identity = places === undefined ? [] : [places.ca, places.cert, places.key];
      // Found out with each connection: a setting that makes no sense is the trouble of the call that needs it.
      const findProxy = (): HttpProxy | undefined => proxyFor(origin, environment);
      const key = JSON.stringify([origin.origin, ...identity.map(({ path, configured }) => [path, configured])]);
      const kept = isAvoided === undefined ? routes : waryRoutes;
      let route = kept.get(key);
      if (route === undefined) {
        const source = places === undefined ? undefined : openTlsSource(places, roots, checkFilesMs);
        const openLine = (tls: TlsMaterial | undefined): Line => {
          const proxy = findProxy();
          const careful = isAvoided === undefined || proxy !== undefined ? lookup : avoiding(lookup, isAvoided);
          const connector = createConnector({ origin, proxy, lookup: careful, tls, proxyContext });
          // Plain HTTP is asked of the proxy itself, TLS goes through it.
          const forward = tls === undefined ? proxy : undefined;
          const pool = createPool({ origin: forward?.origin ?? origin.origin, connector, maxAgeMs: () => maxAgeMs });
          return {
            tls,
            connector,
            pool,
            forward,
            prefix: forward === undefined ? "" : origin.origin,
            extraHeaders: forwardHeaders(origin, forward?.authorization, forward !== undefined),
          };
        };
        route = openRoute(
          { origin: origin.origin, isDirect: () => findProxy() === undefined },
          async () => await source?.current(),
          openLine,
        );
      }
      kept.delete(key);
      kept.set(key, route);
      for (const [oldest, { retire }] of waryRoutes) {
        if (waryRoutes.size <= KEPT_WARY_ROUTES) break;
        waryRoutes.delete(oldest);
        retire();
      }
      return route;
    },
    async close() {
      for (const route of [...routes.values(), ...waryRoutes.values()]) route.retire();
    },
  };
}

/** Connections with one set of certificates. */
interface Line {
  readonly tls: TlsMaterial | undefined;
  readonly connector: Connector;
  readonly pool: Pool;
  /** The proxy that is asked instead of the origin. */
  readonly forward: HttpProxy | undefined;
  /** What comes before the path in a request to a proxy. */
  readonly prefix: string;
  readonly extraHeaders: readonly string[];
}

interface OpenRoute extends Route {
  retire(): void;
}

function openRoute(
  { origin, isDirect }: Pick<Route, "origin" | "isDirect">,
  material: () => Promise<TlsMaterial | undefined>,
  openLine: (tls: TlsMaterial | undefined) => Line,
): OpenRoute {
  let line: Line | undefined;

  /** Certificates that changed end the connections that were made with the old ones. */
  const current = async (): Promise<Line> => {
    const tls = await material();
    if (line === undefined || line.tls !== tls) {
      line?.pool.retire();
      line = openLine(tls);
    }
    return line;
  };

  const once = async (
    call: Call,
    fresh: boolean,
    signal: AbortSignal,
  ): Promise<Exchange & { readonly used: boolean }> => {
    signal.throwIfAborted();
    const { pool, forward, prefix, extraHeaders } = await current();
    const slot = pool.take(fresh);
    const { used } = slot;
    try {
      const path = `${prefix}${call.path}`;
      const headers = extraHeaders.length === 0 ? call.headers : [...extraHeaders, ...call.headers];
      const result = await exchange(slot.client, { ...call, path, headers }, signal);
      if (result.kind === "answer" && result.answer.cut === undefined) pool.release(slot);
      else pool.discard(slot);
      if (result.kind === "answer" && result.answer.status === 407 && forward !== undefined) {
        return { kind: "broken", error: new Error(describeLoginRefusal(forward)), untouched: false, used };
      }
      return { ...result, used };
    } catch (error) {
      pool.discard(slot);
      throw error;
    }
  };

  return {
    origin,
    isDirect,
    get serverTls() {
      if (line?.tls === undefined) return {};
      const { ca, cert, key } = line.tls;
      const trusted = ca ?? line.connector.peerChain;
      return {
        ...(trusted === undefined ? {} : { ca: trusted }),
        ...(ca === undefined ? {} : { caConfigured: true as const }),
        ...(cert === undefined || key === undefined ? {} : { cert, key }),
      };
    },
    async send(call, repeatable, signal) {
      let step = call;
      for (let redirects = 0; ; redirects++) {
        let result = await once(step, false, signal);
        if (result.kind === "broken" && result.untouched && repeatable) {
          // A refusal (413) can be lost with the connection that the refused body still filled: the second time it is waited for.
          if (isStreamed(call.body) && isCutOff(result.error))
            result = await once({ ...step, hesitant: true }, true, signal);
          else if (result.used) result = await once(step, true, signal);
        }
        const path =
          result.kind === "answer" && redirects < MOST_REDIRECTS
            ? sameOriginPath(result.answer, origin, step)
            : undefined;
        if (path === undefined) return explained(result, origin, step);
        step = { ...step, path };
      }
    },
    retire() {
      line?.pool.retire();
    },
  };
}

/** Explains a connection that broke: of a long body the answer may have been lost with it. */
function explained(result: Exchange & { readonly used: boolean }, origin: string, call: Call): Exchange {
  if (result.kind !== "broken" || !result.untouched || result.used || isStreamed(call.body)) return result;
  if (!origin.startsWith("https:") || !isCutOff(result.error)) return result;
  return { ...result, error: new ClosedEarly(result.error) };
}

function forwardHeaders(origin: URL, authorization: string | undefined, forward: boolean): readonly string[] {
  if (!forward) return [];
  return ["host", origin.host, ...(authorization === undefined ? [] : ["proxy-authorization", authorization])];
}

/** Where a redirect leads that may be followed with tokens and body: the same origin, method and body kept. */
function sameOriginPath({ status, headers }: Answer, origin: string, call: Call): string | undefined {
  if (status !== 307 && status !== 308) return undefined;
  try {
    const target = new URL(first(headers.location) ?? "", `${origin}${call.path}`);
    const path = `${target.pathname}${target.search}`;
    return target.origin === origin && path !== call.path ? path : undefined;
  } catch {
    return undefined;
  }
}
