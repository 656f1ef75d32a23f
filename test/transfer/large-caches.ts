import { createHash } from "node:crypto";
import { open, truncate, writeFile } from "node:fs/promises";
import { never } from "../../src/time.ts";
import type { CachePlace, CacheStore } from "../../src/transfer/cache/cache-store.ts";

export const place: CachePlace = { projectPath: "group/project", projectId: "5", key: "größe +1" };
/** Archives of this size go in five pieces, and come in two. */
export const LARGE = 4.25 * 2 ** 20;
export const inPieces = { largeBytes: 4 * 2 ** 20 };

/** Puts an archive that is mostly empty, with something in each piece. @returns its hash */
export async function putLarge(store: CacheStore, signal: AbortSignal = never, mark = "m"): Promise<string> {
  let hash = "";
  const write = async (path: string): Promise<string> => {
    await writeFile(path, "", { flag: "wx" });
    await truncate(path, LARGE);
    await using file = await open(path, "r+");
    for (let at = 0; at < LARGE; at += 500_000) await file.write(`${mark} at ${at}`, at);
    hash = await hashOf(file);
    return "fingerprint";
  };
  await store.put(place, { extension: ".zip", write }, () => {}, signal);
  return hash;
}

export async function hashOf(file: Awaited<ReturnType<typeof open>>): Promise<string> {
  const hash = createHash("sha256");
  for (let at = 0; ; ) {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(2 ** 20), 0, 2 ** 20, at);
    if (bytesRead === 0) return hash.digest("hex");
    hash.update(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
}

/** The hash of what is kept there; `null`: nothing is. */
export async function getLarge(store: CacheStore): Promise<string | null> {
  await using stored = await store.open(place, () => {}, never);
  return stored === null ? null : await hashOf(stored.file);
}
