import { randomBytes } from "node:crypto";
import { open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

/** The file of a local cache that names its archive; without it there is no cache. */
export const POINTER = "current.json";

/** Files beside it: archives, and what is on its way to be one. */
export const PASSING = /^(?:new|reading|cache)-[0-9a-f]{16}/;

const pointerSchema = z.object({
  archive: z.string().regex(/^cache-[0-9a-f]{16}\.[a-z.]{1,10}$/),
  bytes: z.int().nonnegative(),
  fingerprint: z.string(),
});
export type Pointer = z.infer<typeof pointerSchema>;

/** @returns `null` for a pointer that is missing or makes no sense: that is no cache */
export async function readPointer(directory: string): Promise<Pointer | null> {
  try {
    const parsed = pointerSchema.safeParse(JSON.parse(await readFile(join(directory, POINTER), "utf8")));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

/** In one rename, on the disk before. */
export async function replacePointer(directory: string, pointer: Pointer): Promise<void> {
  const temporary = join(directory, passingName("new"));
  try {
    const file = await open(temporary, "wx", 0o600);
    try {
      await file.writeFile(JSON.stringify(pointer));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, join(directory, POINTER));
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

export function passingName(kind: "new" | "reading" | "cache"): string {
  return `${kind}-${randomBytes(8).toString("hex")}`;
}

export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
