import { createHash, createHmac, timingSafeEqual } from "node:crypto";

/** One line of a known_hosts file that names a key. */
export interface KnownHost {
  readonly marker: "revoked" | "cert-authority" | null;
  readonly hosts: string;
  readonly type: string;
  /** The key as it comes over the wire. */
  readonly key: Buffer;
  readonly line: number;
}

/** Lines that cannot be read are left out, as ssh does it. */
export function parseKnownHosts(text: string): KnownHost[] {
  return text.split("\n").flatMap((raw, index) => {
    const words = raw.trim().split(/[ \t]+/);
    let marker: KnownHost["marker"] = null;
    if (words[0]?.startsWith("@")) {
      const name = words.shift();
      if (name !== "@revoked" && name !== "@cert-authority") return [];
      marker = name === "@revoked" ? "revoked" : "cert-authority";
    }
    const [hosts = "", type = "", encoded = ""] = words;
    if (hosts === "" || hosts.startsWith("#") || !/^[A-Za-z0-9+/]+={0,2}$/.test(encoded)) return [];
    const key = Buffer.from(encoded, "base64");
    return keyType(key) === type ? [{ marker, hosts, type, key, line: index + 1 }] : [];
  });
}

/** Does the host part of a line mean this name (`example.com`, or `[example.com]:2222`)? */
export function meansHost(hosts: string, name: string): boolean {
  if (hosts.startsWith("|1|")) return meansHashed(hosts, name);
  let found = false;
  for (const pattern of hosts.toLowerCase().split(",")) {
    const negated = pattern.startsWith("!");
    if (!matches(negated ? pattern.slice(1) : pattern, name)) continue;
    if (negated) return false;
    found = true;
  }
  return found;
}

/** `|1|base64(salt)|base64(HMAC-SHA1(salt, name))` */
function meansHashed(hosts: string, name: string): boolean {
  const [salt = "", wanted = ""] = hosts.slice(3).split("|");
  const hash = createHmac("sha1", Buffer.from(salt, "base64")).update(name).digest();
  const other = Buffer.from(wanted, "base64");
  return other.length === hash.length && timingSafeEqual(hash, other);
}

/** `*` and `?`, without a regular expression: a hostile pattern shall not cost more than its length times the name's. */
function matches(pattern: string, name: string): boolean {
  let [p, n, star, mark] = [0, 0, -1, 0];
  while (n < name.length) {
    if (p < pattern.length && pattern[p] === "*") {
      star = p++;
      mark = n;
    } else if (p < pattern.length && (pattern[p] === "?" || pattern[p] === name[n])) {
      p++;
      n++;
    } else if (star >= 0) {
      p = star + 1;
      n = ++mark;
    } else return false;
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}

/** How known_hosts calls a host. IPv6 addresses have no brackets on the standard port. */
export function knownHostName(host: string, port: number): string {
  const name = host.toLowerCase();
  return port === 22 ? name : `[${name}]:${port}`;
}

/** The type that a key carries in front: `ssh-ed25519`; empty when it is no key. */
export function keyType(key: Buffer): string {
  if (key.length < 4) return "";
  const length = key.readUInt32BE(0);
  return length > 0 && length <= 100 && key.length >= 4 + length ? key.toString("latin1", 4, 4 + length) : "";
}

/** `SHA256:…`, as `ssh-keygen -l` shows it. */
export function sha256Fingerprint(key: Buffer): string {
  return `SHA256:${createHash("sha256").update(key).digest("base64").replace(/=+$/, "")}`;
}

/** Is `key` the one with this fingerprint, `SHA256:…` or `MD5:aa:bb:…`? */
export function hasFingerprint(key: Buffer, fingerprint: string): boolean {
  if (fingerprint.startsWith("SHA256:")) return sha256Fingerprint(key) === fingerprint.replace(/=+$/, "");
  const wanted = fingerprint.replace(/^MD5:/, "").replaceAll(":", "").toLowerCase();
  return createHash("md5").update(key).digest("hex") === wanted;
}
