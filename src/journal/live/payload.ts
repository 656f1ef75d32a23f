import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from "node:crypto";
import { closeSync, constants, fstatSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { z } from "zod";
import { decodeLines, encodeLine } from "../records/record-lines.ts";

const CIPHER = "aes-256-gcm";
/** What one line may hold. */
export const MOST_PAYLOAD_BYTES = 16 * 1024 * 1024;

const sealed = z.strictObject({
  n: z.number().int().positive(),
  kind: z.string(),
  iv: z.base64(),
  tag: z.base64(),
  data: z.base64(),
});

/** The secrets of one job at rest. Its key is made of the runner's and of the job's, so that it opens no other job's. */
export interface PayloadSeal {
  seal(n: number, kind: string, value: unknown): Buffer;
  /** `null`: it was not sealed for this job and place, or not with this key. */
  open(line: unknown, n: number): PayloadEntry | null;
  /** Stands for `secrets` without telling them: whether others have been added or left out. */
  digest(secrets: Iterable<string>): string;
}

export interface PayloadEntry {
  readonly kind: string;
  readonly value: unknown;
}

export function createSeal(key: Buffer, jobKey: string): PayloadSeal {
  const own = Buffer.from(hkdfSync("sha256", key, jobKey, "alloy-runner payload", 32));
  // A line cannot be left out, nor take the place of another.
  const bound = (n: number, kind: string): Buffer => Buffer.from(JSON.stringify([jobKey, n, kind]));
  return {
    seal(n, kind, value) {
      const iv = randomBytes(12);
      const cipher = createCipheriv(CIPHER, own, iv).setAAD(bound(n, kind));
      const data = Buffer.concat([cipher.update(JSON.stringify(value)), cipher.final()]);
      const text = (bytes: Buffer): string => bytes.toString("base64");
      return encodeLine({ n, kind, iv: text(iv), tag: text(cipher.getAuthTag()), data: text(data) });
    },
    open(line, n) {
      const parsed = sealed.safeParse(line);
      if (!parsed.success || parsed.data.n !== n) return null;
      const { kind, iv, tag, data } = parsed.data;
      try {
        const decipher = createDecipheriv(CIPHER, own, Buffer.from(iv, "base64"), { authTagLength: 16 });
        decipher.setAAD(bound(n, kind)).setAuthTag(Buffer.from(tag, "base64"));
        const plain = Buffer.concat([decipher.update(Buffer.from(data, "base64")), decipher.final()]);
        return { kind, value: JSON.parse(plain.toString("utf8")) };
      } catch {
        return null;
      }
    },
    digest(secrets) {
      return createHmac("sha256", own)
        .update(JSON.stringify([...new Set(secrets)].sort()))
        .digest("hex");
    },
  };
}

export interface PayloadFile {
  /** Kept when it returns, for other processes of this boot: it is not synced. @throws it cannot be written */
  append(kind: string, value: unknown): void;
}

/** @param known lines and bytes that an earlier process wrote; what is beyond was torn */
export function openPayload(path: string, seal: PayloadSeal, known = { lines: 0, length: 0 }): PayloadFile {
  let { lines, length } = known;
  return {
    append(kind, value) {
      const line = seal.seal(lines + 1, kind, value);
      if (line.length > 2 * MOST_PAYLOAD_BYTES) throw new Error(`a job of more than ${MOST_PAYLOAD_BYTES} bytes`);
      const flags = constants.O_WRONLY | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0);
      // Opened for each of the few lines: a job needs no descriptor for it.
      const file = openSync(path, flags, 0o600);
      try {
        // Once it was asked to cut a file, ext4 starts to write it to the disk as soon as it is closed.
        if (fstatSync(file).size > length) ftruncateSync(file, length);
        for (let done = 0; done < line.length; ) {
          done += writeSync(file, line, done, line.length - done, length + done);
        }
      } finally {
        closeSync(file);
      }
      lines++;
      length += line.length;
    },
  };
}

export interface ReadPayload {
  readonly entries: readonly PayloadEntry[];
  /** Where the next line goes. */
  readonly length: number;
}

/** A line that was torn at the end counts as not written. `null`: another one cannot be opened. */
export function readPayload(bytes: Buffer, seal: PayloadSeal): ReadPayload | null {
  const { values, soundBytes, damaged, newer } = decodeLines(bytes);
  if (damaged > 0 || newer !== null) return null;
  const entries = values.flatMap((value, index) => seal.open(value, index + 1) ?? []);
  return entries.length === values.length ? { entries, length: soundBytes } : null;
}
