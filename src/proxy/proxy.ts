import { BlockList, isIP } from "node:net";
import { ConfigError } from "../errors.ts";
import { basicAuthorization } from "./basic-authorization.ts";

/** An HTTP proxy. */
export interface HttpProxy {
  /** `http://host:port`, without user info. */
  readonly origin: string;
  readonly authorization: string | undefined;
  /** The variable that names it, as it is written in the environment. */
  readonly variable: string;
}

/** `process.env`, handed in. */
export type ProxyEnvironment = Readonly<Record<string, string | undefined>>;

/**
 * The proxy to use for `target`, from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` in upper or lower case.
 * Loopback is never proxied. `NO_PROXY` lists hosts (with their subdomains), `.subdomains` only, addresses, networks in
 * CIDR notation, each with an optional `:port`, or `*`.
 * @throws {ConfigError} the variable holds no http or https URL
 */
export function proxyFor(target: URL, environment: ProxyEnvironment): HttpProxy | undefined {
  const { name, value } = read(environment, target.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY");
  if (value === "" || isExempt(target, read(environment, "NO_PROXY").value)) return undefined;
  return parseProxy(value, name);
}

/**
 * @param variable what names it, for messages
 * @throws {ConfigError} it is no http or https URL
 */
export function parseProxy(value: string, variable: string): HttpProxy {
  let url: URL;
  try {
    url = new URL(value.includes("://") ? value : `http://${value}`);
  } catch {
    throw new ConfigError(`${variable}: not a URL; expected http://host:port`);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw new ConfigError(`${variable}: "${url.protocol}" proxies are not supported; expected http://host:port`);
  }
  return { origin: url.origin, authorization: basicAuthorization(url), variable };
}

/** What its 407 means for whoever set the variable. */
export function describeLoginRefusal({ origin, authorization, variable }: HttpProxy): string {
  const problem =
    authorization === undefined
      ? `it wants a user and a password (407): write them into ${variable}, as in http://user:password@host:port`
      : `it does not accept the user and password in ${variable} (407); characters such as @, : and / are written %40, %3A, %2F there`;
  return `proxy ${origin}: ${problem}`;
}

/** The variable in upper case, or in lower case where that is empty. */
function read(environment: ProxyEnvironment, upper: string): { readonly name: string; readonly value: string } {
  const lower = upper.toLowerCase();
  const name = environment[upper] || !environment[lower] ? upper : lower;
  return { name, value: (environment[name] ?? "").trim() };
}

function isExempt(target: URL, list: string): boolean {
  const host = target.hostname
    .replace(/^\[|\]$/g, "")
    .replace(/\.$/, "")
    .toLowerCase();
  if (host === "localhost" || isLoopback(host)) return true;
  const port = target.port === "" ? (target.protocol === "https:" ? "443" : "80") : target.port;
  return list.split(/[\s,]+/).some((entry) => entry !== "" && matches(entry.toLowerCase(), host, port));
}

function matches(entry: string, host: string, port: string): boolean {
  if (entry === "*") return true;
  const [network, bits] = entry.split("/");
  if (bits !== undefined && network !== undefined) return isInNetwork(host, network, Number(bits));
  // `[::1]:443` and `host:443` carry a port, a bare `::1` does not.
  const withPort = /^(?:\[(.+)\]|([^:]+)):(\d+)$/.exec(entry);
  if (withPort !== null && withPort[3] !== port) return false;
  const name = (withPort?.[1] ?? withPort?.[2] ?? entry)
    .replace(/^\[|\]$/g, "")
    .replace(/^\*\./, ".")
    .replace(/\.$/, "");
  if (name === "*") return true;
  if (name.startsWith(".")) return host.endsWith(name);
  return host === name || (isIP(host) === 0 && host.endsWith(`.${name}`));
}

function isInNetwork(host: string, network: string, bits: number): boolean {
  const family = isIP(network) === 6 ? "ipv6" : "ipv4";
  if (isIP(network) === 0 || isIP(host) !== isIP(network)) return false;
  if (!Number.isInteger(bits) || bits < 0 || bits > (family === "ipv6" ? 128 : 32)) return false;
  const list = new BlockList();
  list.addSubnet(network, bits, family);
  return list.check(host, family);
}

function isLoopback(host: string): boolean {
  return isInNetwork(host, "127.0.0.0", 8) || host === "::1";
}
