import { randomBytes } from "node:crypto";
import { constants, existsSync } from "node:fs";
import { link, lstat, mkdir, open, rm, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describeError } from "../../errors.ts";

/** With what payloads are encrypted: 32 bytes that do not lie on the disk where the payloads do. */
export type LiveKey = { readonly bytes: Buffer } | { readonly problem: string };

export interface KeyPlaces {
  /** `$CREDENTIALS_DIRECTORY`, as systemd sets it: `alloy-runner.key` in it comes first. */
  readonly credentials: string | undefined;
  /** `live_key_file`. */
  readonly file: string | undefined;
  /** A directory of ours that goes with the boot: a key is made in it at first need. */
  readonly runtime: string | undefined;
}

const KEY_BYTES = 32;
/** File systems that lie in memory: tmpfs and ramfs. */
const IN_MEMORY: ReadonlySet<number> = new Set([0x01021994, 0x858458f6]);

export function keyPlaces(env: Readonly<Record<string, string | undefined>>, file: string | undefined): KeyPlaces {
  // A service of another account than root has no directory of a session, but what its unit asks for (RuntimeDirectory).
  const [service] = (env.RUNTIME_DIRECTORY ?? "").split(":");
  const session = env.XDG_RUNTIME_DIR ? join(env.XDG_RUNTIME_DIR, "alloy-runner") : undefined;
  const own = service || session;
  return {
    credentials: env.CREDENTIALS_DIRECTORY || undefined,
    file,
    runtime: process.geteuid?.() === 0 ? "/run/alloy-runner" : own,
  };
}

/**
 * The key of the first place that has one; `problem` says why there is none, and what to do.
 * @param make `false`: where one would be made at first need, `made` says so
 */
export async function findKey(places: KeyPlaces): Promise<LiveKey>;
export async function findKey(places: KeyPlaces, options: { readonly make: false }): Promise<LiveKey | { made: false }>;
export async function findKey(
  { credentials, file, runtime }: KeyPlaces,
  { make } = { make: true },
): Promise<LiveKey | { made: false }> {
  try {
    if (credentials !== undefined) {
      // Whoever may look in there is systemd's business, which may give it by an ACL.
      const key = await readKey(join(credentials, "alloy-runner.key"), { privately: false });
      if (key !== null) return key;
    }
    if (file !== undefined) {
      const key = await readKey(file, { privately: true });
      return key ?? { problem: `live_key_file ${file} is not there` };
    }
    if (runtime === undefined) {
      return { problem: "there is no place for a key that is gone with the boot; set live_key_file" };
    }
    return await runtimeKey(runtime, make);
  } catch (error) {
    return { problem: describeError(error) };
  }
}

/** `null`: there is no such file. */
async function readKey(path: string, { privately }: { privately: boolean }): Promise<LiveKey | null> {
  const file = await open(path, constants.O_RDONLY).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  });
  if (file === null) return null;
  try {
    const info = await file.stat();
    const bad = (what: string): LiveKey => ({ problem: `the key in ${path} cannot be used: ${what}` });
    if (!info.isFile()) return bad("it is no file");
    if (info.uid !== 0 && info.uid !== process.geteuid?.()) return bad(`it belongs to user ${info.uid}`);
    if (privately && (info.mode & openTo(info)) !== 0) return bad("others may read it (chmod 600)");
    if (info.size > 1024) return bad("it is too long");
    const bytes = keyOf(await file.readFile());
    return bytes === null ? bad("it has to be 32 bytes, or 64 hexadecimal digits (openssl rand -hex 32)") : { bytes };
  } finally {
    await file.close();
  }
}

/**
 * What must not be allowed to others. Of a secret that is mounted for another account than root's (`fsGroup` in Kubernetes) root is the
 * owner, and this account's group reads it.
 */
function openTo({ uid, gid }: { readonly uid: number; readonly gid: number }): number {
  const isOurs = uid === process.geteuid?.();
  return !isOurs && uid === 0 && (process.getegid?.() === gid || process.getgroups?.().includes(gid)) ? 0o037 : 0o077;
}

function keyOf(content: Buffer): Buffer | null {
  if (content.length === KEY_BYTES) return content;
  const text = content.toString("latin1").trim();
  return /^[0-9a-f]{64}$/i.test(text) ? Buffer.from(text, "hex") : null;
}

async function runtimeKey(dir: string, make: boolean): Promise<LiveKey | { made: false }> {
  const onDisk = { problem: `${dir} lies on a disk, where a key would outlast the boot; set live_key_file` };
  if (!make && !existsSync(join(dir, "key"))) {
    const { type } = await statfs(existsSync(dir) ? dir : dirname(dir));
    return IN_MEMORY.has(type) ? { made: false } : onDisk;
  }
  // What lies on a disk gets no directory either.
  if (!existsSync(dir) && !IN_MEMORY.has((await statfs(dirname(dir))).type)) return onDisk;
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const info = await lstat(dir);
  if (!info.isDirectory() || info.uid !== process.geteuid?.() || (info.mode & 0o022) !== 0) {
    return { problem: `${dir} could be changed by others, so that no key is kept there` };
  }
  if (!IN_MEMORY.has((await statfs(dir)).type)) return onDisk;
  const path = join(dir, "key");
  const found = await readKey(path, { privately: true });
  if (found !== null) return found;
  // Whole as soon as it has its name; of two that make one at a time, one is.
  const draft = join(dir, `.key-${randomBytes(6).toString("hex")}`);
  const file = await open(draft, "wx", 0o600);
  try {
    await file.writeFile(randomBytes(KEY_BYTES));
    await link(draft, path).catch(() => undefined);
  } finally {
    await file.close();
    await rm(draft, { force: true });
  }
  return (await readKey(path, { privately: true })) ?? { problem: `no key can be made in ${dir}` };
}
