import type { Provider } from "../../scaler/index.ts";

/** Where an instance is. */
export interface Address {
  readonly host: string;
  /** `null`: the one that is configured. */
  readonly port: number | null;
}

/** How an instance is logged in to, as far as its provider says. */
export interface InstanceConnection {
  /** At least one of them is known. */
  readonly internal: Address | null;
  readonly external: Address | null;
  readonly user: string | undefined;
  readonly password: string | undefined;
  /** A private key's text. */
  readonly key: string | undefined;
  /** A private key's file. */
  readonly keyFile: string | undefined;
  /** Fingerprints, `SHA256:…`; none: whatever it shows first is kept for as long as it lives. */
  readonly hostKeys: readonly string[];
  /** Time of day from which it has to be asked for anew. */
  readonly expires: number | undefined;
}

/** Where instances come from that are logged in to. */
export interface Cloud extends Provider<InstanceConnection> {
  /** Whether it is there, whoever has it: asked for what a dead job may have left. */
  exists(id: string, signal: AbortSignal): Promise<boolean>;
  /** What is known of an instance holds also after it was let go of: it is the same machine when it is had anew. */
  readonly lasting: boolean;
}

/** `host`, `host:22`, `[2001:db8::1]:22` or `2001:db8::1`; `null`: it is no address. */
export function parseAddress(text: string): Address | null {
  const bare = /^([^\s:[\]/@]+|[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$/.exec(text)?.[1];
  if (bare !== undefined) return { host: bare, port: null };
  const [, six, name, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/@]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = six ?? name;
  const port = digits === undefined ? null : Number(digits);
  return host === undefined || (port !== null && (port < 1 || port > 65_535)) ? null : { host, port };
}
