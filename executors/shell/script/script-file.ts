import { randomUUID } from "node:crypto";
import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";

/** Up to this size the text is written at once, which is quicker than four trips through the thread pool. */
const SMALL_BYTES = 256 * 1024;

/**
 * A descriptor from which `text` can be read, and nothing else: the file behind it has no name any more, so that no
 * end of the runner leaves a script with its secrets behind. bash reads a regular file in blocks, a pipe byte by byte.
 * The caller closes it.
 * @throws {SystemFailure} it cannot be written
 */
export async function openScript(dir: string, text: string): Promise<number> {
  const path = join(dir, `script-${randomUUID()}`);
  try {
    const bytes = Buffer.from(text);
    if (bytes.length <= SMALL_BYTES) {
      const fd = openSync(path, "wx", 0o600);
      try {
        for (let written = 0; written < bytes.length; ) written += writeSync(fd, bytes, written);
      } finally {
        closeSync(fd);
      }
    } else {
      const file = await open(path, "wx", 0o600);
      try {
        await file.writeFile(bytes);
      } finally {
        await file.close();
      }
    }
    const readable = openSync(path, "r");
    rmSync(path);
    return readable;
  } catch (cause) {
    await rm(path, { force: true }).catch(() => {});
    throw new SystemFailure(`Cannot save a script in ${dir}`, { cause, retry: true });
  }
}
