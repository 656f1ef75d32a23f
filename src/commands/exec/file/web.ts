import { BlockList, isIP } from "node:net";
import type { Connections } from "../../../coordinator/connection/connections.ts";
import { isLinkLocal } from "../../../coordinator/connection/link-local.ts";
import { isAvoidedAddress } from "../../../coordinator/connection/lookup.ts";
import type { TlsSettings } from "../../../coordinator/connection/tls.ts";
import { describeBroken } from "../../../coordinator/trouble.ts";
import { describeError } from "../../../errors.ts";
import type { Fetched } from "../../../local/gitlab/around/remote.ts";

/** Fetches a text of at most `mostBytes`. Rejects with `signal.reason` only. */
export type FetchText = (url: string, mostBytes: number, signal: AbortSignal) => Promise<Fetched>;

export interface WebOptions {
  readonly connections: Connections;
  readonly tls: TlsSettings;
  readonly userAgent: string;
  /** Addresses that no request may go to. */
  readonly isAvoided: (address: string) => boolean;
}

const MOST_REDIRECTS = 5;
/** The caller's signal limits all calls together; this limits each one. */
const LIMIT_MS = 30_000;

/**
 * Fetches files that a project's CI file names by address. The file's author must not reach services that listen on
 * this machine, or services that tell it who it is; so these addresses are refused, under any name and after a
 * redirect.
 */
export function createWeb({ connections, tls, userAgent, isAvoided }: WebOptions): FetchText {
  const refusal = { problem: "is not fetched: it is an address of this machine itself, or a link-local one" };
  const ask = async (url: URL, mostBytes: number, signal: AbortSignal): Promise<Fetched | { moved: string }> => {
    if (isAvoided(url.hostname.replace(/^\[|\]$/g, ""))) return refusal;
    const route = connections.route(new URL(url.origin), tls, isAvoided);
    // A proxy looks up the name itself, so the addresses that this machine finds for it are judged instead.
    if (!route.isDirect() && (await connections.addressesOf(url.hostname, signal)).some(isAvoided)) return refusal;
    const result = await route.send(
      {
        method: "GET",
        path: `${url.pathname}${url.search}`,
        headers: ["accept", "*/*", "user-agent", userAgent],
        body: undefined,
        idleMs: LIMIT_MS,
        totalMs: LIMIT_MS,
        answerBytes: mostBytes,
      },
      true,
      signal,
    );
    if (result.kind === "broken")
      return isAvoidedAddress(result.error)
        ? refusal
        : { problem: `cannot be fetched: ${describeBroken(result.error, url.host)}`, passing: true };
    const { status, headers, body, cut } = result.answer;
    const { location } = headers;
    if (status >= 300 && status < 400 && typeof location === "string") return { moved: location };
    if (status !== 200) return { problem: `cannot be fetched: the server answers ${status}`, passing: status >= 500 };
    if (cut !== undefined) return { problem: `cannot be fetched: ${cut}` };
    return { found: body.toString("utf8") };
  };
  return async (address, mostBytes, signal) => {
    let url = new URL(address);
    try {
      for (let redirects = 0; redirects <= MOST_REDIRECTS; redirects++) {
        const answer = await ask(url, mostBytes, signal);
        if (!("moved" in answer)) return answer;
        const next = URL.canParse(answer.moved, url.href) ? new URL(answer.moved, url) : undefined;
        const schemes = url.protocol === "https:" ? ["https:"] : ["http:", "https:"];
        if (next === undefined || !schemes.includes(next.protocol))
          return { problem: `cannot be fetched: the server redirects to ${next?.protocol ?? "what is no address"}` };
        url = next;
      }
    } catch (error) {
      if (signal.aborted) throw error;
      return { problem: `cannot be fetched: ${describeError(error)}` };
    }
    return { problem: `cannot be fetched: there are more than ${MOST_REDIRECTS} redirects` };
  };
}

const ownAddresses = new BlockList();
ownAddresses.addSubnet("127.0.0.0", 8, "ipv4");
ownAddresses.addSubnet("0.0.0.0", 8, "ipv4");
ownAddresses.addAddress("::1", "ipv6");
ownAddresses.addAddress("::", "ipv6");

/**
 * Whether an address is this machine's own, or one at which clouds answer their machines. The networks of an
 * organisation are not among them.
 */
export function isLocalOrMetadata(address: string): boolean {
  const kind = isIP(address);
  return kind !== 0 && (isLinkLocal(address) || ownAddresses.check(address, kind === 6 ? "ipv6" : "ipv4"));
}
