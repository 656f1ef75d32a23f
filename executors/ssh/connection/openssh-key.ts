import bcrypt from "bcrypt-pbkdf";
import { CHACHA, chachaKeys, isTagOf, TAG_BYTES, turnBody } from "../../common/ssh2/chacha20-poly1305.ts";

const MAGIC = "openssh-key-v1\0";
const BEGIN = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END = "-----END OPENSSH PRIVATE KEY-----";

/** What `ssh-keygen -a` counts. Each costs some 10 ms in which nothing else runs; 16 or 24 is what ssh-keygen takes. */
export const MOST_ROUNDS = 100;

export type OpensshKey =
  /** A key in the same format without encryption, or as it was. */
  | { readonly content: Buffer; readonly encrypted: boolean }
  | { readonly refused: "locked" | "wrong passphrase" | "malformed" | "too many rounds" };

/**
 * Opens a key file of OpenSSH that is encrypted with chacha20-poly1305@openssh.com, which ssh2 does not (PROTOCOL.key of OpenSSH
 * has the format). Everything else stays as it is.
 */
export function openChachaKey(content: Buffer, passphrase: string | undefined): OpensshKey {
  const text = content.toString("latin1");
  const begin = text.indexOf(BEGIN);
  const end = text.indexOf(END);
  if (begin === -1 || end < begin) return { content, encrypted: false };
  const read = reader(Buffer.from(text.slice(begin + BEGIN.length, end), "base64"));
  if (read.take(MAGIC.length)?.toString("latin1") !== MAGIC) return { content, encrypted: false };
  const cipher = read.string()?.toString("latin1");
  if (cipher !== CHACHA) return { content, encrypted: cipher !== "none" };

  const kdf = read.string()?.toString("latin1");
  const options = read.string();
  const count = read.number();
  const publicKey = read.string();
  const secret = read.string();
  const tag = read.take(TAG_BYTES);
  if (kdf !== "bcrypt" || options === null || count !== 1 || publicKey === null || secret === null || tag === null) {
    return { refused: "malformed" };
  }
  if (passphrase === undefined || passphrase === "") return { refused: "locked" };

  const option = reader(options);
  const salt = option.string();
  const rounds = option.number();
  if (salt === null || rounds === null) return { refused: "malformed" };
  if (rounds > MOST_ROUNDS) return { refused: "too many rounds" };
  const key = Buffer.alloc(64);
  const pass = Buffer.from(passphrase);
  if (bcrypt.pbkdf(pass, pass.length, salt, salt.length, key, key.length, rounds) !== 0) {
    return { refused: "malformed" };
  }
  const keys = chachaKeys(key);
  if (!isTagOf(tag, keys, 0, secret)) return { refused: "wrong passphrase" };
  turnBody(keys, 0, secret);

  const none = string(Buffer.from("none"));
  const one = Buffer.from([0, 0, 0, 1]);
  const open = [Buffer.from(MAGIC), none, none, string(Buffer.alloc(0)), one, string(publicKey), string(secret)];
  const lines = Buffer.concat(open)
    .toString("base64")
    .replace(/.{70}/g, (line) => `${line}\n`);
  return { content: Buffer.from(`${BEGIN}\n${lines}\n${END}\n`), encrypted: false };
}

/** SSH's fields (RFC 4251, 5). `null` is what the data is too short for. */
function reader(data: Buffer) {
  let at = 0;
  const take = (bytes: number): Buffer | null => {
    if (bytes > data.length - at) return null;
    at += bytes;
    return data.subarray(at - bytes, at);
  };
  const number = (): number | null => take(4)?.readUInt32BE() ?? null;
  const readString = (): Buffer | null => {
    const bytes = number();
    return bytes === null ? null : take(bytes);
  };
  return { take, number, string: readString };
}

function string(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
