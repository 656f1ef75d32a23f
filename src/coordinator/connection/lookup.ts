import { type LookupAddress, lookup as systemLookup } from "node:dns";
import type { LookupFunction } from "node:net";

/**
 * Names → addresses, for all connections of the process.
 *
 * The system's resolver answers on the thread pool that files use too, and a name whose servers are silent keeps a
 * thread for many seconds. So at most two lookups run at once, one per name, and a name that was resolved before is
 * used as it was whenever a fresh answer is late or fails: trouble with one name stays with that name.
 */
const CONCURRENT = 2;
const FRESH_MS = 30_000;
const LATE_MS = 500;
const KEPT_NAMES = 1000;

type Resolve = (hostname: string) => Promise<LookupAddress[]>;

interface Known {
  addresses: LookupAddress[];
  at: number;
}

export function createLookup(resolve: Resolve = resolveBySystem): LookupFunction {
  const known = new Map<string, Known>();
  const underWay = new Map<string, Promise<LookupAddress[]>>();
  const waiting: (() => void)[] = [];
  let running = 0;

  const ask = async (hostname: string): Promise<LookupAddress[]> => {
    if (running >= CONCURRENT) await new Promise<void>((go) => waiting.push(go));
    else running++;
    try {
      const addresses = await resolve(hostname);
      known.delete(hostname);
      known.set(hostname, { addresses, at: performance.now() });
      for (const oldest of known.keys()) {
        if (known.size <= KEPT_NAMES) break;
        known.delete(oldest);
      }
      return addresses;
    } finally {
      underWay.delete(hostname);
      const next = waiting.shift();
      if (next === undefined) running--;
      else next(); // takes this place
    }
  };

  const addressesOf = async (hostname: string): Promise<LookupAddress[]> => {
    const before = known.get(hostname);
    if (before !== undefined && performance.now() - before.at < FRESH_MS) return before.addresses;
    let asked = underWay.get(hostname);
    if (asked === undefined) underWay.set(hostname, (asked = ask(hostname)));
    if (before === undefined) return await asked;
    return await sooner(asked, before.addresses);
  };

  return (hostname, options, callback) => {
    const family =
      options.family === 4 || options.family === "IPv4" ? 4 : options.family === 6 || options.family === "IPv6" ? 6 : 0;
    addressesOf(hostname).then(
      (all) => {
        const addresses = family === 0 ? all : all.filter((address) => address.family === family);
        const [first] = addresses;
        if (first === undefined) callback(notFound(hostname), "", 0);
        else if (options.all) callback(null, addresses);
        else callback(null, first.address, first.family);
      },
      (error: unknown) => callback(error instanceof Error ? error : notFound(hostname), "", 0),
    );
  };
}

/** A name stands for an address that is not to be connected to. */
class AvoidedAddress extends Error {
  override readonly name = "AvoidedAddress";
}

/** Whether that is what broke a connection. */
export function isAvoidedAddress(error: unknown): boolean {
  return (
    error instanceof AvoidedAddress ||
    (error instanceof Error && error.cause !== undefined && isAvoidedAddress(error.cause))
  );
}

/**
 * `lookup` for connections that must not go everywhere: it judges the very addresses that are connected to then, so that a name
 * that stands for something else a moment later gains nothing.
 */
export function avoiding(lookup: LookupFunction, isAvoided: (address: string) => boolean): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, options, (error, found, family) => {
      const addresses = typeof found === "string" ? [found] : found.map(({ address }) => address);
      if (error === null && addresses.some(isAvoided)) {
        callback(new AvoidedAddress(`${hostname} stands for an address that is not asked`), "", 0);
      } else callback(error, found, family);
    });
  };
}

/** `answer`, or `fallback` when it fails or takes too long; it goes on in the background and is kept for the next time. */
function sooner<T>(answer: Promise<T>, fallback: T): Promise<T> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, LATE_MS, fallback);
    answer.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      () => {
        clearTimeout(timer);
        resolve(fallback);
      },
    );
  });
}

function resolveBySystem(hostname: string): Promise<LookupAddress[]> {
  return new Promise((resolve, reject) => {
    systemLookup(hostname, { all: true, verbatim: true }, (error, addresses) => {
      if (error) reject(error);
      else resolve(addresses);
    });
  });
}

function notFound(hostname: string): Error {
  return Object.assign(new Error(`getaddrinfo ENOTFOUND ${hostname}`), { code: "ENOTFOUND", hostname });
}
