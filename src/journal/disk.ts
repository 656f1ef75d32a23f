import { constants } from "node:fs";
import { access, statfs } from "node:fs/promises";

/** Is there room for another job's trace? */
export interface DiskGauge {
  /** `false`: less than the least is free, no inode is left, or the directory cannot be written (any more). */
  hasRoom(): Promise<boolean>;
  /** As of the last look; `undefined` before the first one and where it could not be told. */
  readonly freeBytes: number | undefined;
}

export interface DiskGaugeOptions {
  readonly path: string;
  /** Asked at each look, so that a reload takes effect. */
  readonly minFreeBytes: () => number;
  /** How long a look is good for. */
  readonly maxAgeMs?: number;
}

export function createDiskGauge({ path, minFreeBytes, maxAgeMs = 1000 }: DiskGaugeOptions): DiskGauge {
  let freeBytes: number | undefined;
  let last: { readonly at: number; readonly answer: Promise<boolean> } | undefined;

  async function look(): Promise<boolean> {
    try {
      await access(path, constants.W_OK);
      const { bavail, bsize, files, ffree } = await statfs(path);
      freeBytes = bavail * bsize;
      // File systems without a fixed number of inodes (btrfs) say 0 of 0.
      return freeBytes >= minFreeBytes() && (files === 0 || ffree > 0);
    } catch {
      freeBytes = undefined;
      return false;
    }
  }

  return {
    get freeBytes() {
      return freeBytes;
    },
    hasRoom() {
      const now = performance.now();
      if (last === undefined || now - last.at > maxAgeMs) last = { at: now, answer: look() };
      return last.answer;
    },
  };
}
