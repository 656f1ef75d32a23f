import { createHash } from "node:crypto";
import { join } from "node:path";
import { z } from "zod";
import { keptJson } from "../../common/kept/kept-json.ts";

/** What this runner has brought to an engine, and when jobs used it last. */
export interface KeptRecord {
  /** By id: images that were not there before this runner pulled them. */
  readonly images: ReadonlyMap<string, KeptImage>;
  /** By name: when a job had it last. */
  readonly volumes: ReadonlyMap<string, number>;
  brought(id: string, names: readonly string[]): Promise<void>;
  used(id: string, names: readonly string[]): void;
  usedVolume(name: string): void;
  /** Writes down the last uses. */
  save(): Promise<void>;
  forget(thing: { readonly image: string } | { readonly volume: string }): Promise<void>;
}

export interface KeptImage {
  /** By which jobs know it. One that it has besides is somebody else's. */
  readonly names: readonly string[];
  readonly usedAt: number;
}

const schema = z.object({
  images: z.record(z.string(), z.object({ names: z.array(z.string()), usedAt: z.number() })),
  volumes: z.record(z.string(), z.number()),
});

/** A use is written down when it is this much later than the one that is. */
const COARSE_MS = 60_000;

/** @param address the engine's */
export async function openRecord(keepDir: string, address: string): Promise<KeptRecord> {
  const key = createHash("sha256").update(address).digest("hex").slice(0, 16);
  const file = keptJson(join(keepDir, `docker-kept-${key}.json`), schema);
  const known = await file.load();
  const images = new Map<string, KeptImage>(Object.entries(known?.images ?? {}));
  const volumes = new Map<string, number>(Object.entries(known?.volumes ?? {}));
  const save = async (): Promise<void> => {
    if (known === null && images.size === 0 && volumes.size === 0) return;
    await file.save({
      images: Object.fromEntries([...images].map(([id, { names, usedAt }]) => [id, { names: [...names], usedAt }])),
      volumes: Object.fromEntries(volumes),
    });
  };
  /** What is not written down costs an image a little of its age. */
  const saveSoon = (): void => void save().catch(() => {});

  return {
    images,
    volumes,
    save,
    async brought(id, names) {
      images.set(id, { names: [...new Set([...(images.get(id)?.names ?? []), ...names])], usedAt: Date.now() });
      await save();
    },
    used(id, names) {
      const image = images.get(id);
      if (image === undefined) return;
      const now = Date.now();
      const fresh = names.filter((name) => !image.names.includes(name));
      images.set(id, { names: [...image.names, ...fresh], usedAt: now });
      if (fresh.length > 0 || now - image.usedAt > COARSE_MS) saveSoon();
    },
    usedVolume(name) {
      const before = volumes.get(name) ?? 0;
      volumes.set(name, Date.now());
      if (Date.now() - before > COARSE_MS) saveSoon();
    },
    async forget(thing) {
      if ("image" in thing) images.delete(thing.image);
      else volumes.delete(thing.volume);
      await save();
    },
  };
}
