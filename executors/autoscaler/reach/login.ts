import { resolve } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import { homeDirectory } from "../../common/places/home.ts";
import type { LoginWords, SshSettings } from "../../ssh/over-ssh.ts";
import type { Address, InstanceConnection } from "../providers/instance.ts";
import type { Connector } from "../settings/table.ts";

const CONNECT_MS = 30_000;
const MAX_SESSIONS = 10;
/** sshd starts to drop logins at 10 by default, and other people log in, too. */
export const MAX_STARTUPS = 5;

const WORDS: LoginWords = {
  address: "what the plugin says of it, and protocol_port in [runners.autoscaler.connector_config]",
  key: "key_path of [runners.autoscaler.connector_config], or the plugin's",
  login: "username, key_path and password in [runners.autoscaler.connector_config], and those that the plugin gives",
  locked: "Keys with a passphrase are not supported there",
};

/** Where jobs come to it. @throws {SystemFailure} it has no address */
export function addressOf(id: string, { internal, external }: InstanceConnection, connector: Connector): Address {
  const address = connector.external ? (external ?? internal) : (internal ?? external);
  if (address === null) throw new SystemFailure(`The plugin names no address of the instance ${id}`, { retry: true });
  return { ...address, port: address.port ?? connector.port };
}

export interface LoginOptions {
  readonly id: string;
  readonly connection: InstanceConnection;
  readonly connector: Connector;
  /** Its host key, where it was there before. */
  readonly hostKey: string | null;
  /** Told the host key of one that nobody knows anything of. */
  readonly firstUse: (fingerprint: string) => void;
  /** What a relative `key_path` is relative to. */
  readonly workingDirectory: string;
}

/** How somebody logs in to an instance. What its provider says comes first, and is filled up from the configuration. */
export function loginSettings(options: LoginOptions): SshSettings {
  const { id, connection, connector, hostKey, firstUse, workingDirectory } = options;
  const { host, port } = addressOf(id, connection, connector);
  const path = (given: string | undefined): string | undefined =>
    given === undefined ? undefined : resolve(workingDirectory, given.replace(/^~(?=\/|$)/, homeDirectory()));
  const given = !connector.fixed && (connection.key ?? connection.keyFile ?? connection.password) !== undefined;
  const from = given ? connection : { ...connector, key: undefined };
  const fingerprints = connection.hostKeys.length > 0 ? connection.hostKeys : hostKey === null ? [] : [hostKey];
  return {
    host,
    port: port ?? connector.port,
    user: (connector.fixed ? connector.user : undefined) ?? connection.user ?? connector.user ?? "root",
    credentials: {
      key: from.key,
      identityFile: path(from.keyFile),
      password: from.password,
      passphrase: undefined,
      agentSocket: undefined,
    },
    hostKeys: { fingerprints, knownHostsFiles: [], any: false, instance: id, firstUse },
    words: WORDS,
    jump: null,
    connectTimeoutMs: CONNECT_MS,
    keepAliveMs: connector.keepAliveMs,
    maxSessions: MAX_SESSIONS,
    maxStartups: MAX_STARTUPS,
  };
}
