import { ConfigError, describeError, SystemFailure } from "../../errors.ts";
import type { Bounds, CoordinatorDeps, CoordinatorTarget, Reply } from "../calls.ts";
import type { Sink } from "../contract.ts";
import { describeBroken } from "../trouble.ts";
import { sendBeyondHost } from "./link-local.ts";

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
    const result = await sendBeyondHost(
      deps.connections,
      { url, tls },
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
    if (result === null) throw refusal(url, options, "a link-local address");
    if (result.kind === "answer") return result;
    return { kind: "silent", reason: describeBroken(result.error, url.host), cause: result.error };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new SystemFailure(`Cannot ${what}: ${describeError(error)}`, { cause: error });
  }
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
}
