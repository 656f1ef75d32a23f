import { join, resolve } from "node:path";
import { z } from "zod";
import { homeDirectory } from "../common/places/home.ts";

const text = z.string().trim();

/** The Go runner wants a text here; a number is as good. */
const port = z
  .union([z.int(), text.regex(/^\d{0,5}$/, "expected a port: a number from 1 to 65535")])
  .transform((value) => (value === "" ? 22 : Number(value)))
  .refine((value) => value >= 1 && value <= 65_535, "expected a port: a number from 1 to 65535");

const fingerprint = text.regex(
  /^(?:SHA256:[A-Za-z0-9+/]{43}=?|(?:MD5:)?(?:[0-9a-fA-F]{2}:){15}[0-9a-fA-F]{2})$/,
  "expected a fingerprint as ssh-keygen -l prints it: SHA256:… or MD5:…",
);

const seconds = (most: number) => z.int().min(0).max(most);

const hostShape = {
  host: text.optional(),
  port: port.optional(),
  user: text.optional(),
  password: z.string().optional(),
  identity_file: text.optional(),
  identity_passphrase: z.string().optional(),
  agent: z.union([z.boolean(), text]).optional(),
  known_hosts_file: text.optional(),
  host_key_fingerprint: z.union([fingerprint, z.array(fingerprint)]).optional(),
  disable_strict_host_key_checking: z.boolean().optional(),
};

/** `[runners.ssh]`: keys of the Go runner and of GitLab Runner, and our own. */
export const sshTable = z.object({
  ...hostShape,
  /** `[runners.ssh.jump]`: a host on the way. */
  jump: z.object(hostShape).optional(),
  connect_timeout: seconds(3600).optional(),
  keepalive_interval: seconds(3600).optional(),
  max_sessions: z.int().min(0).max(1000).optional(),
  max_startups: z.int().min(0).max(1000).optional(),
});

export type SshTable = z.output<typeof sshTable>;
type HostTable = NonNullable<SshTable["jump"]>;

/** How to prove who we are: only what the operator has configured is tried. */
interface SshCredentials {
  readonly password: string | undefined;
  /** Absolute. */
  readonly identityFile: string | undefined;
  /** A private key's text, which somebody else than the configuration has given. */
  readonly key?: string | undefined;
  readonly passphrase: string | undefined;
  /** Socket of an agent. */
  readonly agentSocket: string | undefined;
}

/** Which host keys are good. Fingerprints come first; then known_hosts files; `any` takes all. */
interface HostKeyPolicy {
  readonly fingerprints: readonly string[];
  /** Absolute. */
  readonly knownHostsFiles: readonly string[];
  readonly any: boolean;
  /** `fingerprints` were read where the host itself keeps its keys, and not named by the operator. */
  readonly own?: boolean;
  /** `fingerprints` are what was seen before, of copies of the same machine: its name, and the file that they are kept in. */
  readonly learnt?: { readonly of: string; readonly file: string };
  /** `fingerprints` are what this instance of a cloud has shown before, or what its provider says of it. */
  readonly instance?: string;
  /** Nothing is known of what is reached for the first time: it is believed, and this is told its fingerprint. */
  readonly firstUse?: (fingerprint: string) => void;
}

/** What complaints name: the keys that an operator has to look at. */
export interface LoginWords {
  /** Where the address comes from. */
  readonly address: string;
  readonly key: string;
  readonly login: string;
  /** What to do about a key that a passphrase locks. */
  readonly locked: string;
}

export const SSH_WORDS: LoginWords = {
  address: "host and port in [runners.ssh]",
  key: "identity_file of [runners.ssh]",
  login: "user, identity_file, agent and password in [runners.ssh]",
  locked: "Set identity_passphrase",
};

/** One host to log in to. */
export interface SshHost {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly credentials: SshCredentials;
  readonly hostKeys: HostKeyPolicy;
  /** By default those of `[runners.ssh]`. */
  readonly words?: LoginWords;
}

/** A host, the way to it, and the limits that hold for it. */
export interface SshSettings extends SshHost {
  readonly jump: SshHost | null;
  /** From the first packet until the login has succeeded. */
  readonly connectTimeoutMs: number;
  /** A sign of life is asked for that often; without one for four times as long the connection counts as dead. */
  readonly keepAliveMs: number;
  /** Sessions at once on one connection (sshd's `MaxSessions`). */
  readonly maxSessions: number;
  /** Logins at once (sshd's `MaxStartups`). */
  readonly maxStartups: number;
}

interface SettingsBase {
  /** What relative paths in the table are relative to. */
  readonly workingDirectory: string;
  readonly environment: NodeJS.ProcessEnv;
}

const DEFAULT_CONNECT_TIMEOUT_S = 30;
const DEFAULT_KEEPALIVE_S = 15;
/** sshd allows 10 by default. */
const DEFAULT_MAX_SESSIONS = 10;
/** sshd starts to drop logins at 10 by default, and other people log in, too. */
const DEFAULT_MAX_STARTUPS = 5;

/** The table with defaults and absolute paths. `host` and `port` may be given by who knows better (a container's address). */
export function sshSettings(
  table: SshTable,
  base: SettingsBase,
  at: { host?: string; port?: number } = {},
): SshSettings {
  const own = hostOf(table, base, { user: "root", port: 22, ...at });
  return {
    ...own,
    jump: table.jump === undefined ? null : jumpOf(table.jump, own, base),
    connectTimeoutMs: (table.connect_timeout || DEFAULT_CONNECT_TIMEOUT_S) * 1000,
    keepAliveMs: (table.keepalive_interval || DEFAULT_KEEPALIVE_S) * 1000,
    maxSessions: table.max_sessions || DEFAULT_MAX_SESSIONS,
    maxStartups: table.max_startups || DEFAULT_MAX_STARTUPS,
  };
}

/** What a table lacks for a login, as a sentence for the operator; `null` when it can be tried. */
export function sshComplaint(table: SshTable): string | null {
  const { jump } = table;
  if (!namesMethod(table)) {
    return "[runners.ssh] names no way to log in. Set identity_file, agent = true or password";
  }
  if (jump !== undefined && (jump.host ?? "") === "") return "[runners.ssh.jump] needs host: the host on the way";
  return null;
}

function namesMethod(table: HostTable): boolean {
  return (
    (table.password ?? "") !== "" ||
    (table.identity_file ?? "") !== "" ||
    (table.agent !== undefined && table.agent !== false && table.agent !== "")
  );
}

function hostOf(
  table: HostTable,
  { workingDirectory, environment }: SettingsBase,
  fallback: { host?: string; port: number; user: string },
): SshHost {
  const path = (given: string): string => {
    const open = given.replace(/^~(?=\/|$)/, homeDirectory());
    return resolve(workingDirectory, open);
  };
  const { agent, host_key_fingerprint: fingerprints = [], known_hosts_file: knownHosts } = table;
  return {
    host: fallback.host ?? (table.host || "localhost"),
    port: table.port ?? fallback.port,
    user: table.user || fallback.user,
    credentials: {
      // An empty password is none: the Go runner offered it to every host.
      password: table.password || undefined,
      identityFile: table.identity_file ? path(table.identity_file) : undefined,
      passphrase: table.identity_passphrase || undefined,
      agentSocket: agent === true ? environment.SSH_AUTH_SOCK || "" : agent ? path(agent) : undefined,
    },
    hostKeys: {
      fingerprints: typeof fingerprints === "string" ? [fingerprints] : fingerprints,
      knownHostsFiles: knownHosts
        ? [path(knownHosts)]
        : [join(homeDirectory(), ".ssh", "known_hosts"), "/etc/ssh/ssh_known_hosts"],
      any: table.disable_strict_host_key_checking ?? false,
    },
  };
}

/** The host on the way takes from the target what it does not say itself: never its password, never its fingerprints. */
function jumpOf(table: HostTable, target: SshHost, base: SettingsBase): SshHost {
  const own = hostOf(table, base, { user: target.user, port: 22 });
  return {
    ...own,
    credentials: namesMethod(table) ? own.credentials : { ...target.credentials, password: undefined },
    hostKeys: {
      ...own.hostKeys,
      knownHostsFiles: table.known_hosts_file ? own.hostKeys.knownHostsFiles : target.hostKeys.knownHostsFiles,
    },
  };
}
