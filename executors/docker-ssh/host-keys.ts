import { createHash } from "node:crypto";
import { posix } from "node:path";
import type { ContainerView } from "../docker/own-command.ts";
import { publicKeyOf } from "../ssh/over-ssh.ts";

/**
 * Public host keys of the sshd in a container, read from its files by the engine: nothing of the image runs for that. OpenSSH's
 * are where its configuration says and where they are by default; Dropbear's are in its own form.
 */

const MOST_BYTES = 1024 * 1024;
const MOST_KEYS = 20;
const CONFIGS = ["/etc/ssh", "/usr/local/etc/ssh"] as const;
const DROPBEAR = "/etc/dropbear";

type Files = ReadonlyMap<string, Buffer>;

/**
 * @returns fingerprints, `SHA256:…`; none: there are no keys that could be read (yet)
 * @throws {SystemFailure} the engine does not hand over the files
 */
export async function hostKeyFingerprints(
  container: Pick<ContainerView, "file" | "directory">,
  signal: AbortSignal,
): Promise<string[]> {
  const folder = async (path: string): Promise<Files> =>
    (await container.directory(path, MOST_BYTES, signal)) ?? new Map();
  const blobs: Buffer[] = [];
  for (const path of CONFIGS) {
    const files = await folder(path);
    for (const [name, content] of files) {
      if (/^ssh_host_[^/]*_key\.pub$/.test(name)) blobs.push(...publicKeys(content));
    }
    for (const key of configuredKeys(files).slice(0, MOST_KEYS)) {
      const at = posix.resolve("/", key);
      const below = at.startsWith(`${path}/`) ? at.slice(path.length + 1) : null;
      const read = async (end: string): Promise<Buffer | null> =>
        below !== null && files.has(below + end)
          ? (files.get(below + end) ?? null)
          : await container.file(at + end, MOST_BYTES, signal);
      const published = publicKeys((await read(".pub")) ?? Buffer.alloc(0));
      const secret = published.length > 0 ? null : await read("");
      blobs.push(...published, ...(secret === null ? [] : await publicKeyOf(secret)));
    }
  }
  for (const [name, content] of await folder(DROPBEAR)) {
    if (/^dropbear_[^/]*_host_key$/.test(name)) blobs.push(...ofDropbear(content));
  }
  return [...new Set(blobs.map(fingerprintOf))];
}

function fingerprintOf(blob: Buffer): string {
  return `SHA256:${createHash("sha256").update(blob).digest("base64").replace(/=+$/, "")}`;
}

/** What `HostKey` lines say, also of included files. */
function configuredKeys(files: Files): string[] {
  return [...files].flatMap(([name, content]) =>
    name === "sshd_config" || /^sshd_config\.d\/[^/]+\.conf$/.test(name)
      ? content
          .toString()
          .split("\n")
          .flatMap((line) => /^[ \t]*hostkey[ \t]+"?([^"]*[^"\s])"?\s*$/i.exec(line)?.[1] ?? [])
      : [],
  );
}

/** Lines of a `.pub` file. */
function publicKeys(content: Buffer): Buffer[] {
  return content
    .toString()
    .split("\n")
    .flatMap((line) => {
      const [, key] = /^(?:ssh-|ecdsa-|sk-)\S+ ([A-Za-z0-9+/]+=*)(?:\s|$)/.exec(line) ?? [];
      return key === undefined ? [] : [Buffer.from(key, "base64")];
    });
}

/** Fields of a public key, which begins a private one in Dropbear's form. */
const DROPBEAR_FIELDS: ReadonlyMap<string, number> = new Map([
  ["ssh-rsa", 3],
  ["ecdsa-sha2-nistp256", 3],
  ["ecdsa-sha2-nistp384", 3],
  ["ecdsa-sha2-nistp521", 3],
]);

/** Key types and numbers, each after its length. An ed25519 one is the private and the public half in one. */
function ofDropbear(content: Buffer): Buffer[] {
  const type = fieldAt(content, 0);
  if (type === null) return [];
  const name = type.toString("latin1");
  if (name === "ssh-ed25519") {
    const both = fieldAt(content, 4 + type.length);
    return both?.length === 64 ? [Buffer.concat([withLength(type), withLength(both.subarray(32))])] : [];
  }
  const count = DROPBEAR_FIELDS.get(name);
  if (count === undefined) return [];
  let end = 0;
  for (let index = 0; index < count; index++) {
    const field = fieldAt(content, end);
    if (field === null) return [];
    end += 4 + field.length;
  }
  return [content.subarray(0, end)];
}

function fieldAt(content: Buffer, at: number): Buffer | null {
  if (at + 4 > content.length) return null;
  const length = content.readUInt32BE(at);
  return at + 4 + length > content.length ? null : content.subarray(at + 4, at + 4 + length);
}

function withLength(field: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(field.length);
  return Buffer.concat([length, field]);
}
