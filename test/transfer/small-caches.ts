import { writeFile } from "node:fs/promises";
import { never } from "../../src/time.ts";
import type { CacheStore } from "../../src/transfer/cache/cache-store.ts";
import { place } from "./large-caches.ts";

/** Keeps an archive that is no more than this text, with the fingerprint `f1`. */
export async function putText(store: CacheStore, text = "x"): Promise<void> {
  const write = async (path: string): Promise<string> => {
    await writeFile(path, text, { flag: "wx" });
    return "f1";
  };
  await store.put(place, { extension: ".zip", write }, () => {}, never);
}

export async function getText(store: CacheStore): Promise<string | null> {
  await using stored = await store.open(place, () => {}, never);
  return stored === null ? null : String(await stored.file.readFile());
}
