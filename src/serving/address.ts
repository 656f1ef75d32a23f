/** Where a server listens. */
export interface ListenAddress {
  /** `undefined`: none was named. */
  readonly host: string | undefined;
  readonly port: number;
}

export const ADDRESS_FORMS = 'expected ":port", "host", "host:port" or "[IPv6]:port"';

/**
 * `:9252`, `localhost`, `10.0.0.1:9252`, `[::1]:9252`, `[::1]`.
 * @returns null for anything else
 */
export function readListenAddress(text: string, defaultPort: number): ListenAddress | null {
  const match = /^(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([^\s:/[\]]*))(?::(\d{1,5}))?$/.exec(text.trim());
  const port = match?.[3] === undefined ? defaultPort : Number(match[3]);
  const host = match?.[1] ?? match?.[2];
  if (match === null || port > 65_535 || (host === "" && match[3] === undefined)) return null;
  return { host: host === "" ? undefined : host, port };
}

/** Whether only this machine's own programs reach it. */
export function isLoopback(host: string): boolean {
  return /^(?:localhost|127(?:\.\d{1,3}){3}|::1)$/i.test(host);
}
