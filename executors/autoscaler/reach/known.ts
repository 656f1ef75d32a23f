import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import { keptJson } from "../../common/kept/kept-json.ts";

const knownSchema = z.object({
  /** Fingerprint of the host key that it has shown. */
  hostKey: z.string().nullable(),
  /** Its ready command has ended well, or it needs none. */
  ready: z.boolean(),
});
type Known = z.output<typeof knownSchema>;

/** What instances have shown of themselves, on disk, for as long as they live. */
export interface KnownInstances {
  load(): Promise<void>;
  of(id: string): Readonly<Known>;
  /** On disk before this resolves. @throws {SystemFailure} */
  learn(id: string, more: Partial<Known>): Promise<void>;
  /** All others are gone. */
  keepOnly(ids: ReadonlySet<string>): Promise<void>;
}

const NOTHING: Known = { hostKey: null, ready: false };

/** @param lasting host keys are kept also of those that are gone: they come back as the same machine */
export function createKnown(dir: string, lasting: boolean): KnownInstances {
  const path = join(dir, "known.json");
  const file = keptJson(path, z.record(z.string(), knownSchema));
  const known = new Map<string, Known>();
  let loading: Promise<void> | null = null;

  const save = async (): Promise<void> => {
    await file.save(Object.fromEntries(known)).catch((cause: unknown) => {
      throw new SystemFailure(`Cannot keep the host keys of instances in ${path}`, { cause, retry: true });
    });
  };

  return {
    load() {
      loading ??= (async () => {
        await mkdir(dir, { recursive: true, mode: 0o700 });
        for (const [id, one] of Object.entries((await file.load()) ?? {})) known.set(id, one);
      })();
      return loading;
    },
    of: (id) => known.get(id) ?? NOTHING,
    async learn(id, more) {
      known.set(id, { ...(known.get(id) ?? NOTHING), ...more });
      await save();
    },
    async keepOnly(ids) {
      let changed = false;
      for (const [id, one] of known) {
        if (ids.has(id) || (lasting && !one.ready)) continue;
        if (lasting) known.set(id, { ...one, ready: false });
        else known.delete(id);
        changed = true;
      }
      if (changed) await save();
    },
  };
}
