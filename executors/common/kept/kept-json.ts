import { open, readFile, rename } from "node:fs/promises";
import type { ZodType } from "zod";

/** One value in a file that only the runner reads. */
export interface KeptJson<T> {
  /** `null`: there is none, or none that can be read. */
  load(): Promise<T | null>;
  /**
   * On disk before this resolves. In one step: a crash leaves the old one or the new. Of several that wait the last one counts,
   * for all of them.
   */
  save(value: T): Promise<void>;
}

export function keptJson<T>(file: string, schema: ZodType<T>): KeptJson<T> {
  let writing: Promise<void> = Promise.resolve();
  let waiting: { done: Promise<void>; value: T } | null = null;

  const write = async (value: T): Promise<void> => {
    const fresh = `${file}.new`;
    await using handle = await open(fresh, "w", 0o600);
    await handle.writeFile(JSON.stringify(value));
    await handle.datasync();
    await rename(fresh, file);
  };

  return {
    async load() {
      try {
        return schema.parse(JSON.parse(await readFile(file, "utf8")));
      } catch {
        return null;
      }
    },
    save(value) {
      if (waiting !== null) {
        waiting.value = value;
        return waiting.done;
      }
      const next = { value, done: Promise.resolve() };
      next.done = writing
        .catch(() => {})
        .then(() => {
          waiting = null;
          return write(next.value);
        });
      waiting = next;
      writing = next.done;
      return next.done;
    },
  };
}
