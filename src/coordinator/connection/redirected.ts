import { BlockList, isIP } from "node:net";
import { ConfigError, describeError, SystemFailure } from "../../errors.ts";
import type { Bounds, CoordinatorDeps, CoordinatorTarget, Reply } from "../calls.ts";
import type { Sink } from "../contract.ts";
import { describeBroken } from "../trouble.ts";

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
  await refuseOddAddress(url, options, signal);
  const { certsDir } = target;
  const tls = { tlsCaFile: undefined, tlsCertFile: undefined, tlsKeyFile: undefined, certsDir };
  try {
    const result = await deps.connections.route(new URL(url.origin), tls).send(
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

async function refuseOddAddress(url: URL, { target, what, deps }: Elsewhere, signal: AbortSignal): Promise<void> {
  const refuse = (why: string): never => {
    throw new SystemFailure(`Cannot ${what}: the coordinator redirects to ${url.protocol}//${url.host}, ${why}`);
  };
  if (url.protocol !== "https:" && url.protocol !== "http:") refuse("which is neither http nor https");
  if (url.protocol === "http:" && target.url.protocol === "https:") refuse("which is not encrypted");
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const found = isIP(host) === 0 ? await deps.connections.addressesOf(host, signal) : [host];
  signal.throwIfAborted();
  if (found.some((address) => linkLocal.check(address, isIP(address) === 6 ? "ipv6" : "ipv4"))) {
    refuse("a link-local address");
  }
}
