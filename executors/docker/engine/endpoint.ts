import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { JobLocation } from "../../../src/executor/environment.ts";
import { all } from "../../../src/time.ts";
import type { ConnectionSettings } from "../settings/settings.ts";

/** Certificates of a daemon that speaks TLS, as PEM text. */
interface EndpointTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** Where an engine listens. `address` is for people; `local`: on this machine. */
export type Endpoint = { readonly address: string; readonly local: boolean } & (
  | { readonly kind: "socket"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number; readonly tls: EndpointTls | null }
  | {
      readonly kind: "ssh";
      readonly host: string;
      readonly port: number | null;
      readonly user: string;
      readonly path: string;
    }
);

const LOOPBACK = /^(?:localhost|127\.\d+\.\d+\.\d+|::1)$/i;
const DEFAULT_HOST = process.platform === "win32" ? "npipe:////./pipe/docker_engine" : "unix:///var/run/docker.sock";

/**
 * Where the engine is: `host`, else `DOCKER_HOST` with `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH`, else the platform's socket.
 * @throws {SystemFailure} an address that is none, or certificates that cannot be read
 */
export async function findEndpoint(
  { host, tlsCertPath, tlsVerify, via }: ConnectionSettings,
  env: Readonly<Record<string, string | undefined>>,
): Promise<Endpoint> {
  const from = host === "" && env.DOCKER_HOST ? "DOCKER_HOST" : "host in [runners.docker]";
  const given = host || env.DOCKER_HOST || DEFAULT_HOST;
  const certPath = host === "" ? tlsCertPath || env.DOCKER_CERT_PATH || "" : tlsCertPath;
  const verify = tlsVerify || (host === "" && (env.DOCKER_TLS_VERIFY ?? "") !== "");
  // The Go runner took the folder of certificates for nothing without tls_verify, against its own documentation.
  const wantsTls = verify || (tlsCertPath !== "" && !given.startsWith("unix:"));

  const refuse = (why: string): SystemFailure =>
    new SystemFailure(`${from} is ${JSON.stringify(shown(given))}: ${why}`, { reason: "runner_configuration_error" });

  const [, scheme = "", rest = ""] = /^([a-z]+):\/\/(.*)$/is.exec(given) ?? [];
  switch (scheme.toLowerCase()) {
    case "unix":
      if (!rest.startsWith("/")) throw refuse("the path of a socket must be absolute: unix:///var/run/docker.sock");
      return { kind: "socket", path: rest, address: via ?? given, local: via === undefined };
    case "npipe":
      return { kind: "socket", path: rest.replaceAll("/", "\\"), address: via ?? given, local: via === undefined };
    case "":
      if (given.startsWith("/")) return { kind: "socket", path: given, address: `unix://${given}`, local: true };
      throw refuse("expected unix:///path, tcp://host:port, https://host:port or ssh://user@host");
    case "tcp":
    case "http":
    case "https":
    case "ssh":
      break;
    default:
      throw refuse("expected unix:///path, tcp://host:port, https://host:port or ssh://user@host");
  }
  if (!URL.canParse(`http://${rest}`)) throw refuse("it is no address");
  const url = new URL(`http://${rest}`);
  const hostname = url.hostname.replace(/^\[(.*)\]$/, "$1");
  if (url.password !== "") throw refuse("a password in an address is not supported; use keys");
  if (scheme.toLowerCase() === "ssh") {
    // It becomes an argument of ssh.
    if (!/^[\w.:%-]+$/.test(hostname) || hostname.startsWith("-")) throw refuse("it is no host name");
    const user = decodeURIComponent(url.username);
    if (!/^[\w.@+$-]*$/.test(user) || user.startsWith("-")) throw refuse("it has no usable user name");
    const port = /:(\d+)(?:\/|$)/.exec(rest)?.[1];
    const path = url.pathname === "/" ? "" : url.pathname;
    return {
      kind: "ssh",
      host: hostname,
      port: port === undefined ? null : Number(port),
      user,
      path,
      address: `ssh://${url.host}`,
      local: false,
    };
  }
  if (url.username !== "") throw refuse("a user name has no meaning there");
  const tls = scheme.toLowerCase() === "https" || wantsTls ? await readCertificates(certPath, refuse) : null;
  const port = Number(/:(\d+)(?:\/|$)/.exec(rest)?.[1] ?? (tls === null ? 2375 : 2376));
  const local = LOOPBACK.test(hostname);
  return { kind: "tcp", host: hostname, port, tls, address: `${scheme}://${url.host}`, local };
}

/** Whose network containers are in, as far as the address tells; no port is opened. */
export function locationOf(
  { host, via }: Pick<ConnectionSettings, "host" | "via">,
  env: Readonly<Record<string, string | undefined>>,
): JobLocation {
  if (via !== undefined) return { at: "host", host: via };
  const [, address] = /^(?:tcp|https?|ssh):\/\/(.*)$/is.exec(host || env.DOCKER_HOST || "") ?? [];
  if (address === undefined || !URL.canParse(`http://${address}`)) return { at: "containers of this machine" };
  const name = new URL(`http://${address}`).hostname.replace(/^\[(.*)\]$/, "$1");
  return LOOPBACK.test(name) ? { at: "containers of this machine" } : { at: "host", host: name };
}

async function readCertificates(folder: string, refuse: (why: string) => SystemFailure): Promise<EndpointTls> {
  if (folder === "") throw refuse("TLS needs ca.pem, cert.pem and key.pem: name their folder in tls_cert_path");
  const read = async (name: string): Promise<string> => {
    const file = join(folder, name);
    try {
      return await readFile(file, "utf8");
    } catch (cause) {
      throw new SystemFailure(
        `Cannot read ${file}, which tls_cert_path in [runners.docker] names: ${describeError(cause)}`,
        { reason: "runner_configuration_error", cause },
      );
    }
  };
  // Of several that are missing always the same is named.
  const [ca, cert, key] = await all([read("ca.pem"), read("cert.pem"), read("key.pem")]);
  return { ca, cert, key };
}

/** Without what could be a password. */
function shown(address: string): string {
  return address.replace(/\/\/[^/@]*@/, "//…@").slice(0, 200);
}
