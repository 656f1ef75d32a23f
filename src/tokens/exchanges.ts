import type { ExchangedToken } from "../config/config.ts";
import { digest } from "../config/identity.ts";

/** Which tokens took the place of which, as far as this process knows: a file that still has an old one means the new one. */
export interface Exchanges {
  add(url: string, oldDigest: string, fresh: ExchangedToken): void;
  /** What `token` has become, however often it was exchanged; `undefined`: it is what it was. */
  latest(url: string, token: string): ExchangedToken | undefined;
}

export function createExchanges(): Exchanges {
  const known = new Map<string, ExchangedToken>();
  return {
    add: (url, oldDigest, fresh) => void known.set(`${url} ${oldDigest}`, fresh),
    latest(url, token) {
      let found: ExchangedToken | undefined;
      // None leads back to itself: a coordinator gives out no token twice.
      for (let hops = 0; hops <= known.size; hops++) {
        const next = known.get(`${url} ${digest(found?.token ?? token)}`);
        if (next === undefined) return found;
        found = next;
      }
      return found;
    },
  };
}
