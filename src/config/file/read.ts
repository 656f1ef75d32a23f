import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { devNull } from "node:os";
import { ConfigError } from "../../errors.ts";
import { errorCode } from "../error-code.ts";
import { LARGEST_FILE_BYTES } from "./toml.ts";

export interface ConfigFile {
  readonly bytes: Buffer;
  readonly text: string;
  readonly mode: number;
}

/**
 * The file's contents, or `null` when there is none.
 * @throws {ConfigError} it cannot be read, or is nothing to read
 */
export async function readConfigFile(path: string): Promise<ConfigFile | null> {
  const fail = (problem: string, cause?: unknown): ConfigError =>
    new ConfigError(`${path}: ${problem}`, { file: path, ...(cause === undefined ? {} : { cause }) });
  // Opening a FIFO would wait for its writer, without a limit.
  const flags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);
  const handle = await open(path, flags).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return null;
    const hint = errorCode(error) === "EACCES" ? ", run as its owner or as root" : "";
    throw fail(`cannot be read (${errorCode(error)})${hint}`, error);
  });
  if (handle === null) return null;
  try {
    const stats = await handle.stat();
    if (stats.isDirectory()) throw fail("is a directory. Name the file in it, such as config.toml");
    if (!stats.isFile() && path !== devNull) throw fail("is not a regular file. Put the configuration into one");
    if (stats.size > LARGEST_FILE_BYTES) {
      throw fail(`has ${stats.size} bytes; at most ${LARGEST_FILE_BYTES} are read. Is it the right file?`);
    }
    const bytes = await handle.readFile();
    return { bytes, text: decode(bytes, path), mode: stats.mode };
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw fail(`cannot be read (${errorCode(error)})`, error);
  } finally {
    await handle.close();
  }
}

function decode(bytes: Buffer, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    const utf16 = (bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff);
    const line = utf16 ? 1 : lineOfBadByte(bytes);
    const what = utf16 ? "the file is UTF-16" : "bytes that are not UTF-8";
    throw new ConfigError(`${path}:${line}: ${what}. Save it as UTF-8`, { file: path, line, cause });
  }
}

function lineOfBadByte(bytes: Buffer): number {
  let line = 1;
  for (let from = 0; from < bytes.length; line++) {
    const end = bytes.indexOf(10, from);
    const until = end < 0 ? bytes.length : end;
    const part = bytes.subarray(from, until);
    if (!Buffer.from(part.toString("utf8")).equals(part)) return line;
    from = until + 1;
  }
  return line;
}

/** A key that sounds secret, with its value; `$NAME` is not one, but where one comes from. */
const SECRET = /(?:token|password|passphrase|secret|access_?key)\w*["']?\s*=\s*["'](?!\$|["'])/i;

/** Permission bits mean nothing on Windows. What holds no secret may be read: a ConfigMap, whose secrets are variables. */
export function modeWarnings(path: string, { mode, text }: Pick<ConfigFile, "mode" | "text">): string[] {
  if (process.platform === "win32" || path === devNull) return [];
  const others = mode & 0o077;
  const changed = (others & 0o022) !== 0;
  const open = text.includes("token") && !SECRET.test(text);
  if (others === 0 || (open && !changed)) return [];
  const octal = (mode & 0o777).toString(8).padStart(4, "0");
  const what = changed ? "changed" : "read";
  return [`${path} holds tokens and can be ${what} by other users (mode ${octal}). Run: chmod 600 ${path}`];
}
