import type { StatsFs } from "node:fs";
import { statfs } from "node:fs/promises";
import { dirname } from "node:path";
import type { DiskState } from "../../board/contract.ts";

export interface DisksOptions {
  /** Asked at each look, so that a reload takes effect. */
  readonly least: () => { readonly bytes: number; readonly inodes: number };
  /** How long a look is good for. */
  readonly maxAgeMs?: number;
}

/** A disk on which there was too little must have this much more before it counts as enough. */
const RELIEF = 1.1;
/** A disk that does not answer, such as a network's, holds nobody up for longer. */
const PATIENCE_MS = 2000;

/** Have the disks of these directories room for a job? @returns the first one that has not */
export function watchDisks({ least, maxAgeMs = 1000 }: DisksOptions) {
  const looks = new Map<string, { readonly at: number; readonly answer: Promise<DiskState | null> }>();
  const short = new Set<string>();

  const look = async (directory: string): Promise<DiskState | null> => {
    const found = await withinPatience(statsOf(directory));
    // One that cannot be looked at is not a full one; the job will tell.
    if (found === null) return null;
    const { bytes, inodes } = least();
    const factor = short.has(directory) ? RELIEF : 1;
    const { bavail, bsize, files, ffree } = found;
    const freeBytes = bavail * bsize;
    // File systems without a fixed number of inodes (btrfs) say 0 of 0.
    const enough = freeBytes >= bytes * factor && (files === 0 || ffree >= inodes * factor);
    if (enough) short.delete(directory);
    else short.add(directory);
    if (enough) return null;
    return { directory, freeBytes, minFreeBytes: bytes, freeInodes: ffree, minFreeInodes: files === 0 ? 0 : inodes };
  };

  return async (directories: readonly string[]): Promise<DiskState | null> => {
    const now = performance.now();
    for (const directory of directories) {
      const known = looks.get(directory);
      const fresh = known !== undefined && now - known.at <= maxAgeMs ? known : { at: now, answer: look(directory) };
      looks.set(directory, fresh);
      const full = await fresh.answer;
      if (full !== null) return full;
    }
    return null;
  };
}

/** Of the directory, or where it is going to be made. */
async function statsOf(directory: string): Promise<StatsFs | null> {
  for (let path = directory; ; path = dirname(path)) {
    const found = await statfs(path).catch(() => null);
    if (found !== null || path === dirname(path)) return found;
  }
}

async function withinPatience<T>(work: Promise<T>): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, PATIENCE_MS, null);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
