import { ADDRESS_FORMS, readListenAddress } from "../serving/address.ts";
import type { SessionServerConfig } from "./config.ts";

const DEFAULT_PORT = 8093;

/** `[session_server]` as the file has it. */
interface SessionServerTable {
  readonly listen_address?: string | undefined;
  readonly advertise_address?: string | undefined;
  readonly session_timeout: number;
  readonly tls_cert_file?: string | undefined;
  readonly tls_key_file?: string | undefined;
}

interface SessionServerProblem {
  readonly key: keyof SessionServerTable;
  readonly problem: string;
}

/**
 * @param pathOf a file that is named there
 * @returns what terminals are served with; null: not at all; or what is wrong
 */
export function readSessionServer(
  {
    listen_address = "",
    advertise_address = "",
    session_timeout,
    tls_cert_file = "",
    tls_key_file = "",
  }: SessionServerTable,
  pathOf: (name: string) => string,
): SessionServerConfig | null | SessionServerProblem {
  if (listen_address.trim() === "") return null;
  const listen = readListenAddress(listen_address, DEFAULT_PORT);
  if (listen === null)
    return { key: "listen_address", problem: `${JSON.stringify(listen_address)} is no address: ${ADDRESS_FORMS}` };
  if (/^[a-z]+:\/\//i.test(advertise_address.trim())) {
    return { key: "advertise_address", problem: 'is "host:port" without a scheme: coordinators come by https' };
  }
  const told = readListenAddress(advertise_address || listen_address, listen.port);
  if (told === null) {
    return {
      key: "advertise_address",
      problem: `${JSON.stringify(advertise_address)} is no address: ${ADDRESS_FORMS}`,
    };
  }
  const { host = "", port } = told;
  if (host === "" || /^(?:0\.0\.0\.0|::)$/.test(host)) {
    const problem = `names no host: set it to the "host:port" by which coordinators reach this machine`;
    return { key: "advertise_address", problem };
  }
  if ((tls_cert_file === "") !== (tls_key_file === "")) {
    const [key, other] =
      tls_cert_file === ""
        ? (["tls_key_file", "tls_cert_file"] as const)
        : (["tls_cert_file", "tls_key_file"] as const);
    return { key, problem: `has no effect without ${other}. Set both, or none: the runner makes a certificate` };
  }
  const tls = tls_cert_file === "" ? null : { certFile: pathOf(tls_cert_file), keyFile: pathOf(tls_key_file) };
  return { listen, advertise: { host, port }, sessionTimeoutMs: session_timeout, tls };
}
