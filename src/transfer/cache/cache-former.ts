import { randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { FormerCache } from "../../executor/environment.ts";
import type { UnpackReport } from "../../workspace.ts";
import { mustHaveRoom } from "../room.ts";
import type { TransferContext } from "../transfer.ts";
import { unpackCache } from "./cache-archive.ts";
import { cleanKey } from "./cache-keys.ts";
import type { CachePlace } from "./cache-store.ts";

/**
 * Unpacks what another runner of the family has kept of a cache where the job's surroundings keep things. Nothing is written there.
 * @returns `null`: there is none
 */
export async function restoreFormer(
  { projectPath, key }: CachePlace,
  context: Pick<TransferContext, "formerCache" | "files" | "scratchDir" | "minFreeBytes">,
  signal: AbortSignal,
): Promise<{ readonly report: UnpackReport; readonly from: FormerCache["from"] } | null> {
  // They have it as a path. A key that is hashed here could lead elsewhere, and is none of theirs.
  if (cleanKey(key) !== key) return null;
  await using found = (await context.formerCache?.(`${projectPath}/${key}/cache.zip`, signal)) ?? null;
  if (found === null) return null;
  const { scratchDir, minFreeBytes } = context;
  const path = join(scratchDir, `cache-${randomBytes(8).toString("hex")}`);
  try {
    await mustHaveRoom(scratchDir, minFreeBytes() + found.bytes);
    await pipeline(found.content, createWriteStream(path, { flags: "wx", mode: 0o600 }), { signal });
    await using file = await open(path);
    return { report: await unpackCache(file, found.bytes, context, signal), from: found.from };
  } finally {
    await rm(path, { force: true });
  }
}
