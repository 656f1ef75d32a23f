import { readFile, stat } from "node:fs/promises";
import { SystemFailure } from "../../../src/errors.ts";
import type { SshHost } from "../settings.ts";
import {
  hasFingerprint,
  type KnownHost,
  keyType,
  knownHostName,
  meansHost,
  parseKnownHosts,
  sha256Fingerprint,
} from "./known-hosts.ts";

type Line = KnownHost & { readonly file: string };

export interface HostKeyCheck {
  /** Types of keys that are known for the host: the server is asked for these first. Empty: no preference. */
  readonly knownTypes: readonly string[];
  /** @returns `null` for a key that is trusted, else the whole message. Called again at each key exchange. */
  complaint(key: Buffer): string | null;
  /** The key was taken although nobody knows it, because the operator has switched the check off. */
  readonly unchecked: boolean;
}

/**
 * Reads what is known of a host, at each connection anew: an operator who accepts a key need not restart anything.
 * @throws {SystemFailure} a known_hosts file that cannot be read, other than one that is missing
 */
export async function openHostKeyCheck(target: SshHost): Promise<HostKeyCheck> {
  const { hostKeys, host, port } = target;
  if (hostKeys.fingerprints.length > 0) {
    return { knownTypes: [], unchecked: false, complaint: (key) => fingerprintComplaint(key, target) };
  }
  const { firstUse } = hostKeys;
  if (firstUse !== undefined && !hostKeys.any) {
    const believe = (key: Buffer): null => {
      firstUse(sha256Fingerprint(key));
      return null;
    };
    return { knownTypes: [], unchecked: false, complaint: believe };
  }
  if (hostKeys.any) return { knownTypes: [], unchecked: true, complaint: () => null };
  const all = (await Promise.all(hostKeys.knownHostsFiles.map(readLines))).flat();
  let lines = all.filter((line) => meansHost(line.hosts, knownHostName(host, port)));
  // As ssh does it: a key that is known without a port is good for other ports of the host, too.
  if (lines.every((line) => line.marker !== null) && port !== 22) {
    lines = [...lines, ...all.filter((line) => meansHost(line.hosts, knownHostName(host, 22)))];
  }
  return {
    knownTypes: [...new Set(lines.filter((line) => line.marker === null).map((line) => line.type))],
    unchecked: false,
    complaint: (key) => knownHostsComplaint(key, lines, target),
  };
}

/** A file of known hosts that is larger is not read: this holds some 50,000 of them. */
export const LARGEST_KNOWN_HOSTS_BYTES = 16 * 1024 * 1024;

async function readLines(file: string): Promise<Line[]> {
  try {
    if ((await stat(file)).size > LARGEST_KNOWN_HOSTS_BYTES) {
      throw new Error(`it has more than ${LARGEST_KNOWN_HOSTS_BYTES} bytes`);
    }
    return parseKnownHosts(await readFile(file, "utf8")).map((line) => ({ ...line, file }));
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return [];
    throw new SystemFailure(`Cannot read the known hosts in ${file}`, { cause, reason: "runner_configuration_error" });
  }
}

function place({ host, port }: SshHost): string {
  return port === 22 ? host : `${host}, port ${port},`;
}

function shown(key: Buffer): string {
  return `${keyType(key) || "unknown type"} ${sha256Fingerprint(key)}`;
}

function fingerprintComplaint(key: Buffer, target: SshHost): string | null {
  const { fingerprints, own, learnt, instance } = target.hostKeys;
  if (fingerprints.some((one) => hasFingerprint(key, one))) return null;
  if (learnt !== undefined) {
    return `What answers at ${place(target)} has the host key ${shown(key)}, but copies of the virtual machine "${learnt.of}" have had ${fingerprints.join(", ")} so far: it is another machine, and nothing was sent. If the copies make keys of their own when they boot, let them keep those of "${learnt.of}", or set disable_strict_host_key_checking = true in [runners.ssh]; if "${learnt.of}" has a new key, remove ${learnt.file}`;
  }
  if (instance !== undefined) {
    return `What answers at ${place(target)} has the host key ${shown(key)}, but the instance ${instance} has ${fingerprints.join(", ")}: it is another machine, and nothing was sent`;
  }
  if (own === true) {
    return `What answers at ${place(target)} has the host key ${shown(key)}, which is none of the container's own (${fingerprints.join(", ")}): it is another machine, and nothing was sent. Does the container engine work on this machine?`;
  }
  return `The host key of ${place(target)} is ${shown(key)}, but host_key_fingerprint names ${fingerprints.join(", ")}. Either the host has another key now, or somebody pretends to be it: nothing was sent. If the new key is right, change host_key_fingerprint`;
}

function knownHostsComplaint(key: Buffer, lines: readonly Line[], target: SshHost): string | null {
  const same = lines.filter((line) => line.key.equals(key));
  const revoked = same.find((line) => line.marker === "revoked");
  if (revoked !== undefined) {
    return `The host key of ${place(target)} (${shown(key)}) is marked as revoked in ${revoked.file}, line ${revoked.line}. Nothing was sent; give the host a new key`;
  }
  if (same.some((line) => line.marker === null)) return null;
  const file = target.hostKeys.knownHostsFiles[0] ?? "known_hosts";
  const line = `${knownHostName(target.host, target.port)} ${keyType(key)} ${key.toString("base64")}`;
  const other = lines.find((one) => one.marker === null);
  if (other !== undefined) {
    return `The host key of ${place(target)} has changed: it is ${shown(key)} now, but ${other.file}, line ${other.line}, knows ${shown(other.key)}. Somebody may be pretending to be the host: nothing was sent. If the new key is right, replace that line by: ${line}`;
  }
  const authority = lines.some((one) => one.marker === "cert-authority")
    ? " (its @cert-authority line is of no use here: host certificates are not supported)"
    : "";
  return `The host key of ${place(target)} is not known${authority}: ${shown(key)}. Compare it with the host's own ("ssh-keygen -lf ${ownKeyFile(key)}" there); if it is right, set host_key_fingerprint = "${sha256Fingerprint(key)}" in [runners.ssh], or add this line to ${file}: ${line} (disable_strict_host_key_checking = true takes any key, also that of an impostor)`;
}

/** Where sshd keeps it, as most systems have it: ssh-keygen takes one file at a time. */
function ownKeyFile(key: Buffer): string {
  const [name = "*"] = /ed25519|ecdsa|rsa/.exec(keyType(key)) ?? [];
  return `/etc/ssh/ssh_host_${name}_key.pub`;
}
