import { BlockList, isIP } from "node:net";
import { ConfigError, describeError, SystemFailure } from "../../errors.ts";
import type { Bounds, CoordinatorDeps, CoordinatorTarget, Reply } from "../calls.ts";
import type { Sink } from "../contract.ts";
import { describeBroken } from "../trouble.ts";
import { isAvoidedAddress } from "./lookup.ts";

export interface Elsewhere {
  readonly sink: Sink;
  readonly target: CoordinatorTarget;
  readonly deps: CoordinatorDeps;
  readonly bounds: Bounds;
  /** The call as the end of "Cannot …". */
  readonly what: string;
}

/**
 * Fetch what a coordinator redirects to, with nothing that was meant for the coordinator: no token, cookie, referrer or
 * client certificate.
 * @throws {SystemFailure} an address that is not to be asked: no http or https, a downgrade, a link-local one
 */
export async function fetchElsewhere(url: URL, options: Elsewhere, signal: AbortSignal): Promise<Reply> {
  const { sink, target, deps, bounds, what } = options;
  refuseOddAddress(url, options);
  const { certsDir } = target;
  const tls = { tlsCaFile: undefined, tlsCertFile: undefined, tlsKeyFile: undefined, certsDir };
  try {
    const route = deps.connections.route(new URL(url.origin), tls, isLinkLocal);
    // Where a proxy connects, it looks the name up itself; what the name stands for here is judged in its place.
    if (!route.isDirect() && (await deps.connections.addressesOf(url.hostname, signal)).some(isLinkLocal)) {
      throw refusal(url, options, LINK_LOCAL);
    }
    const result = await route.send(
      {
        method: "GET",
        path: `${url.pathname}${url.search}`,
        headers: ["accept", "*/*", "user-agent", deps.identity.userAgent],
        body: undefined,
        idleMs: bounds.silenceMs,
        totalMs: 2 ** 31 - 1,
        answerBytes: 64 * 1024,
        sink,
      },
      false,
      signal,
    );
    if (result.kind === "answer") return result;
    if (isAvoidedAddress(result.error)) throw refusal(url, options, LINK_LOCAL);
    return { kind: "silent", reason: describeBroken(result.error, url.host), cause: result.error };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new SystemFailure(`Cannot ${what}: ${describeError(error)}`, { cause: error });
  }
}

/** Where clouds answer questions about the machine, credentials included. Mapped addresses (`::ffff:a9fe:a9fe`) are in it. */
const linkLocal = new BlockList();
linkLocal.addSubnet("169.254.0.0", 16, "ipv4");
linkLocal.addSubnet("fe80::", 10, "ipv6");

const LINK_LOCAL = "a link-local address";

export function isLinkLocal(address: string): boolean {
  const kind = isIP(address);
  return kind !== 0 && linkLocal.check(address, kind === 6 ? "ipv6" : "ipv4");
}

function refusal(url: URL, { what }: Elsewhere, why: string): SystemFailure {
  return new SystemFailure(`Cannot ${what}: the coordinator redirects to ${url.protocol}//${url.host}, ${why}`);
}

/** What can be seen without asking for a name; what names stand for is judged when they are connected to. */
function refuseOddAddress(url: URL, options: Elsewhere): void {
  if (url.protocol !== "https:" && url.protocol !== "http:")
    throw refusal(url, options, "which is neither http nor https");
  if (url.protocol === "http:" && options.target.url.protocol === "https:") {
    throw refusal(url, options, "which is not encrypted");
  }
  if (isLinkLocal(url.hostname.replace(/^\[|\]$/g, ""))) throw refusal(url, options, LINK_LOCAL);
}
