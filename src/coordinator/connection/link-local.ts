import { BlockList, isIP } from "node:net";
import type { Call, Exchange } from "../exchange.ts";
import type { Connections } from "./connections.ts";
import { isAvoidedAddress } from "./lookup.ts";
import type { TlsSettings } from "./tls.ts";

/** Where clouds answer questions about the machine, credentials included. Mapped addresses (`::ffff:a9fe:a9fe`) are in it. */
const linkLocal = new BlockList();
linkLocal.addSubnet("169.254.0.0", 16, "ipv4");
linkLocal.addSubnet("fe80::", 10, "ipv6");

export function isLinkLocal(address: string): boolean {
  const kind = isIP(address);
  return kind !== 0 && linkLocal.check(address, kind === 6 ? "ipv6" : "ipv4");
}

/**
 * Sends a call to an address that a stranger chose: a coordinator that redirects, a job.
 * @returns `null`: it is a link-local address, and nothing was sent
 * Otherwise as `Route.send`.
 */
export async function sendBeyondHost(
  connections: Pick<Connections, "route" | "addressesOf">,
  to: { readonly url: URL; readonly tls: TlsSettings },
  call: Call,
  repeatable: boolean,
  signal: AbortSignal,
): Promise<Exchange | null> {
  const { url, tls } = to;
  if (isLinkLocal(url.hostname.replace(/^\[|\]$/g, ""))) return null;
  const route = connections.route(new URL(url.origin), tls, isLinkLocal);
  // Where a proxy connects, it looks the name up itself; what the name stands for here is judged in its place.
  if (!route.isDirect() && (await connections.addressesOf(url.hostname, signal)).some(isLinkLocal)) return null;
  const result = await route.send(call, repeatable, signal);
  return result.kind === "broken" && isAvoidedAddress(result.error) ? null : result;
}
