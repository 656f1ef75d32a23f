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
  /** Asked at most once in a while when there is less: give up what can be done without. @returns whether that was something */
  readonly makeRoom?: (freeBytes: number) => Promise<boolean>;
  /** How long a look is good for. */
  readonly maxAgeMs?: number;
}

/** Looking for what can be given up takes longer than a look at the disk. */
const MAKE_ROOM_MS = 30_000;

export function createDiskGauge({ path, minFreeBytes, makeRoom, maxAgeMs = 1000 }: DiskGaugeOptions): DiskGauge {
  let freeBytes: number | undefined;
  let madeAt = Number.NEGATIVE_INFINITY;
  let last: { readonly at: number; readonly answer: Promise<boolean> } | undefined;

  async function look(): Promise<boolean> {
    try {
      await access(path, constants.W_OK);
      if (await isEnough()) return true;
      if (makeRoom === undefined || performance.now() - madeAt < MAKE_ROOM_MS) return false;
      madeAt = performance.now();
      return (await makeRoom(minFreeBytes())) && (await isEnough());
    } catch {
      freeBytes = undefined;
      return false;
    }
  }

  async function isEnough(): Promise<boolean> {
    const { bavail, bsize, files, ffree } = await statfs(path);
    freeBytes = bavail * bsize;
    // File systems without a fixed number of inodes (btrfs) say 0 of 0.
    return freeBytes >= minFreeBytes() && (files === 0 || ffree > 0);
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
