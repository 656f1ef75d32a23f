import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { openRegular } from "../open-untrusted.ts";

/** The file of a local cache that names its archive; without it there is no cache. */
export const POINTER = "current.json";

/** Files beside the pointer: archives, and those that are still being written. */
export const PASSING = /^(?:new|reading|cache)-[0-9a-f]{16}/;

/** Pointers are much smaller; a larger file is not one. */
const LARGEST_POINTER_BYTES = 64 * 1024;

const pointerSchema = z.object({
  archive: z.string().regex(/^cache-[0-9a-f]{16}\.[a-z.]{1,10}$/),
  bytes: z.int().nonnegative(),
  fingerprint: z.string(),
});
export type Pointer = z.infer<typeof pointerSchema>;

/** @returns `null` for a pointer that is missing or makes no sense: that is no cache */
export async function readPointer(directory: string): Promise<Pointer | null> {
  try {
    // Where jobs have the runner's own account, they may have put any kind of file here.
    await using file = await openRegular(join(directory, POINTER));
    if (file === null || (await file.stat()).size > LARGEST_POINTER_BYTES) return null;
    const { bytesRead, buffer } = await file.read(Buffer.alloc(LARGEST_POINTER_BYTES), 0, LARGEST_POINTER_BYTES, 0);
    const parsed = pointerSchema.safeParse(JSON.parse(buffer.toString("utf8", 0, bytesRead)));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

/** Replaces the pointer in one rename; its content is on the disk before. */
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
