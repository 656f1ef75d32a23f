import { ConfigError } from "../errors.ts";
import { basicAuthorization } from "../proxy/basic-authorization.ts";

/** Where a coordinator's API is. */
export interface ApiUrl {
  /** Scheme, host, port and path as configured, without user info and query: for messages and as a key. */
  readonly shown: string;
  /** `https://host:port`, what a connection goes to. */
  readonly origin: string;
  /** Path of the API without a trailing slash: `/gitlab/api/v4`. */
  readonly path: string;
  /** `Basic …` out of the URL's user info, for a proxy in front of the coordinator that wants it. */
  readonly authorization: string | undefined;
}

/**
 * The configured `url` → its API. A trailing `/ci` belongs to very old set-ups and is dropped; a path prefix is kept.
 * @throws {ConfigError} a scheme other than http and https
 */
export function apiUrl(url: URL): ApiUrl {
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new ConfigError(
      `url: "${url.protocol}" cannot be used to reach a coordinator; it must begin with http or https`,
    );
  }
  const base = trimSlashes(trimSlashes(url.pathname).replace(/\/ci$/, ""));
  return {
    shown: `${url.origin}${base}`,
    origin: url.origin,
    path: `${base}/api/v4`,
    authorization: basicAuthorization(url),
  };
}

function trimSlashes(path: string): string {
  let end = path.length;
  while (end > 0 && path[end - 1] === "/") end--;
  return path.slice(0, end);
}
