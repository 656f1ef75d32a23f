import { constants } from "node:fs";
import { access, statfs } from "node:fs/promises";

/** Is there room for another job's trace? */
export interface DiskGauge {
  /** `false`: less than the least is free, no inode is left, or the directory cannot be written (any more). */
  hasRoom(): Promise<boolean>;
  /** As of the last look; `undefined` before the first one and where it could not be told. */
  readonly freeBytes: number | undefined;
  /** The same; Infinity where there is no fixed number. */
  readonly freeInodes: number | undefined;
}

export interface DiskGaugeOptions {
  readonly path: string;
  /** Asked at each look, so that a reload takes effect. */
  readonly minFreeBytes: () => number;
  /** By default 1. */
  readonly minFreeInodes?: () => number;
  /** Asked at most once in a while when there is less: give up what can be done without. @returns whether that was something */
  readonly makeRoom?: (freeBytes: number) => Promise<boolean>;
  /** How long a look is good for. */
  readonly maxAgeMs?: number;
}

/** Looking for what can be given up takes longer than a look at the disk. */
const MAKE_ROOM_MS = 30_000;
/** After too little, there must be this much more before it counts as enough: else it would go to and fro with each file. */
const RELIEF = 1.1;

export function createDiskGauge({
  path,
  minFreeBytes,
  minFreeInodes = () => 1,
  makeRoom,
  maxAgeMs = 1000,
}: DiskGaugeOptions): DiskGauge {
  let freeBytes: number | undefined;
  let freeInodes: number | undefined;
  /** There was too little; it takes a little more until there is enough. */
  let short = false;
  let madeAt = Number.NEGATIVE_INFINITY;
  let last: { readonly at: number; readonly answer: Promise<boolean> } | undefined;

  async function look(): Promise<boolean> {
    try {
      await access(path, constants.W_OK);
      if (await isEnough()) return true;
      if (makeRoom === undefined || performance.now() - madeAt < MAKE_ROOM_MS) return false;
      madeAt = performance.now();
      if (!(await makeRoom(minFreeBytes()))) return false;
      // It made more room than there must be, where it could.
      short = false;
      return await isEnough();
    } catch {
      freeBytes = undefined;
      freeInodes = undefined;
      return false;
    }
  }

  async function isEnough(): Promise<boolean> {
    const { bavail, bsize, files, ffree } = await statfs(path);
    freeBytes = bavail * bsize;
    // File systems without a fixed number of inodes (btrfs) say 0 of 0.
    freeInodes = files === 0 ? Number.POSITIVE_INFINITY : ffree;
    const factor = short ? RELIEF : 1;
    short = freeBytes < minFreeBytes() * factor || freeInodes < Math.max(1, minFreeInodes()) * factor;
    return !short;
  }

  return {
    get freeBytes() {
      return freeBytes;
    },
    get freeInodes() {
      return freeInodes;
    },
    hasRoom() {
      const now = performance.now();
      if (last === undefined || now - last.at > maxAgeMs) last = { at: now, answer: look() };
      return last.answer;
    },
  };
}
