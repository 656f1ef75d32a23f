/** How an instance is logged in to. */
export interface InstanceConnection {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string | undefined;
  /** A private key's text. */
  readonly key: string | undefined;
  /** Fingerprints, `SHA256:…`; none: whatever it shows first is kept for as long as it lives. */
  readonly hostKeys: readonly string[];
  /** Time of day from which it has to be asked for anew. */
  readonly expires: number | undefined;
}

const SSH_PORT = 22;

/** `host`, `host:22`, `[2001:db8::1]:22` or `2001:db8::1`; `null`: it is no address. */
export function parseAddress(text: string, port = SSH_PORT): Pick<InstanceConnection, "host" | "port"> | null {
  const bare = /^([^\s:[\]/@]+|[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$/.exec(text)?.[1];
  if (bare !== undefined) return { host: bare, port };
  const [, six, name, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]/@]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const host = six ?? name;
  const number = digits === undefined ? port : Number(digits);
  return host === undefined || number < 1 || number > 65_535 ? null : { host, port: number };
}
