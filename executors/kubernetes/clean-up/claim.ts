import { z } from "zod";
import { describeError } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import { deadline, never, pause } from "../../../src/time.ts";
import type { Api } from "../api/client.ts";
import { ApiFailure } from "../api/status.ts";

/** An installation's name in one namespace is one living process's: it holds a Lease of that name and renews it. */

export interface ClaimOptions {
  readonly api: Api;
  readonly namespace: string;
  readonly installation: string;
  /** This process, as it stands in the lease. */
  readonly holder: string;
  /** Whether a holder is this process, or one that is known to have ended. */
  isOver(holder: string): boolean;
  /** Told once if another process has taken the lease, as this one could not renew it for too long. */
  onLost(): void;
  readonly log: Log;
}

export type Claim =
  | { readonly kind: "held"; release(): Promise<void> }
  /** Another process holds the name, and lives. */
  | { readonly kind: "taken"; readonly holder: string }
  /** The login has no right to leases. */
  | { readonly kind: "denied"; readonly said: string };

const RENEW_MS = 10_000;
/** A lease that nobody renews for this long is nobody's. */
const GONE_MS = 35_000;
const LOOK_MS = 2000;
const RELEASE_MS = 10_000;

const leaseSchema = z.object({
  metadata: z.object({ uid: z.string(), resourceVersion: z.string() }),
  spec: z.object({ holderIdentity: z.string().nullish() }).nullish(),
});
type Lease = z.output<typeof leaseSchema>;

const holderOf = ({ spec }: Lease): string => spec?.holderIdentity ?? "";
const isStatus = (error: unknown, ...statuses: readonly number[]): error is ApiFailure =>
  error instanceof ApiFailure && statuses.includes(error.status);

/** Takes the lease, waiting as long as it takes to see whether another holder still lives. */
export async function claimInstallation(options: ClaimOptions, signal: AbortSignal): Promise<Claim> {
  const { namespace, isOver, log } = options;
  const lease = leaseCalls(options);
  let told = false;
  try {
    for (;;) {
      const seen = (await lease.get(signal)) ?? (await lease.create(signal));
      if (seen === null) continue;
      if (!isOver(holderOf(seen))) {
        if (!told)
          log.info("looking whether another runner holds this one's name", { namespace, holder: holderOf(seen) });
        told = true;
        const news = await changeOf(lease, seen, signal);
        if (news === null) continue;
        if (news !== seen && !isOver(holderOf(news))) return { kind: "taken", holder: holderOf(news) };
      }
      // Also where it was made just now: who cannot renew it does not hold it.
      const taken = await lease.update(seen, signal);
      if (taken !== null) return hold(options, taken);
    }
  } catch (error) {
    if (isStatus(error, 403)) return { kind: "denied", said: error.said };
    throw error;
  }
}

/** The lease as it is once it has changed, `null` if it is gone; the same one if nobody has renewed it. */
async function changeOf(lease: LeaseCalls, seen: Lease, signal: AbortSignal): Promise<Lease | null> {
  const until = performance.now() + GONE_MS;
  while (performance.now() < until) {
    await pause(LOOK_MS, signal);
    const now = await lease.get(signal);
    if (now === null || now.metadata.resourceVersion !== seen.metadata.resourceVersion) return now;
  }
  return seen;
}

/** Renews a lease until it is let go of. */
function hold(options: ClaimOptions, first: Lease): Claim {
  const { isOver, onLost, log, namespace } = options;
  const lease = leaseCalls(options);
  const over = new AbortController();
  /** `null`: it is another one's. */
  let known: Lease | null = first;

  /** The other one who holds it now, or `null`. */
  const renew = async (mine: Lease, signal: AbortSignal): Promise<string | null> => {
    const renewed = (await lease.update(mine, signal)) ?? (await lease.get(signal)) ?? (await lease.create(signal));
    // Where it was made by somebody else just now, the next time shows by whom.
    if (renewed === null) return null;
    const holder = holderOf(renewed);
    known = isOver(holder) ? renewed : null;
    return known === null ? holder : null;
  };
  const renewing = (async () => {
    while (known !== null) {
      await pause(RENEW_MS, over.signal);
      try {
        using limit = deadline(over.signal, GONE_MS, new Error("the lease could not be renewed in time"));
        const other = await renew(known, limit.signal);
        if (other === null) continue;
        log.warn("another runner has taken this one's name in the cluster: this one was not heard of for too long", {
          namespace,
          other,
        });
        onLost();
      } catch (error) {
        if (over.signal.aborted) return;
        log.debug("the lease of this runner's name could not be renewed", { namespace, problem: describeError(error) });
      }
    }
  })().catch(() => {});
  return {
    kind: "held",
    release: async () => {
      over.abort(new Error("the name is given up"));
      await renewing;
      if (known === null) return;
      using limit = deadline(never, RELEASE_MS, new Error("the lease could not be removed in time"));
      await lease.remove(known, limit.signal).catch(() => {});
    },
  };
}

type LeaseCalls = ReturnType<typeof leaseCalls>;

/** `null`: another one was faster, or it is not there (any more). */
function leaseCalls({ api, namespace, installation, holder }: ClaimOptions) {
  const name = `alloy-runner-${installation}`;
  const all = `/apis/coordination.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/leases`;
  const what = `hold the name "${name}"`;
  const bodyOf = (resourceVersion?: string): object => ({
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: { name, namespace, ...(resourceVersion === undefined ? {} : { resourceVersion }) },
    spec: {
      holderIdentity: holder,
      leaseDurationSeconds: Math.ceil(GONE_MS / 1000),
      // The API takes microseconds, and nothing else.
      renewTime: new Date().toISOString().replace("Z", "000Z"),
    },
  });
  const unless = async <T>(asking: Promise<T>, ...statuses: readonly number[]): Promise<T | null> => {
    try {
      return await asking;
    } catch (error) {
      if (isStatus(error, ...statuses)) return null;
      throw error;
    }
  };
  return {
    create: (signal: AbortSignal) =>
      unless(api.read({ what, method: "POST", path: all, body: bodyOf() }, leaseSchema, signal), 409),
    get: (signal: AbortSignal) =>
      unless(api.read({ what, method: "GET", path: `${all}/${name}` }, leaseSchema, signal), 404),
    update: ({ metadata }: Lease, signal: AbortSignal) => {
      const call = { what, method: "PUT", path: `${all}/${name}`, body: bodyOf(metadata.resourceVersion) } as const;
      return unless(api.read(call, leaseSchema, signal), 404, 409);
    },
    remove: async ({ metadata }: Lease, signal: AbortSignal) => {
      const { uid, resourceVersion } = metadata;
      const body = { apiVersion: "v1", kind: "DeleteOptions", preconditions: { uid, resourceVersion } };
      await unless(api.call({ what, method: "DELETE", path: `${all}/${name}`, body }, signal), 404, 409);
    },
  };
}
