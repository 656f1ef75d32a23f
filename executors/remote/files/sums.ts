import type { KeepShell } from "./keep-shell.ts";

export interface Summed {
  readonly path: string;
  readonly size: number;
}

/** One call's share: small enough that two shells end at about the same time. */
const SHARE_BYTES = 8 * 1024 * 1024;
const SHARE_FILES = 500;
/** From so much on a second shell is worth its start. */
const WORTH_BYTES = 32 * 1024 * 1024;

/**
 * SHA-256 of what is in these files, in this order. Of many bytes a second shell, which starts meanwhile, does its share on another
 * processor. @throws {SystemFailure} that is not told of each
 */
export async function sumsOf(shell: KeepShell, files: readonly Summed[]): Promise<readonly string[]> {
  const shares = sharesOf(files);
  const sums: (readonly string[])[] = [];
  let next = 0;
  const work = async (by: KeepShell): Promise<void> => {
    for (let index = next++; index < shares.length; index = next++) sums[index] = await by.sums(shares[index] ?? []);
  };
  /** Of the second shell, once it works: nobody waits for its start. */
  const besides: Promise<void>[] = [];
  const join = async (): Promise<void> => {
    await using second = await shell.beside();
    const its = work(second);
    besides.push(its);
    await its;
  };
  try {
    // One that does not start leaves all to the first.
    if (files.reduce((sum, { size }) => sum + size, 0) >= WORTH_BYTES) join().catch(() => {});
    await work(shell);
    await Promise.all(besides);
  } finally {
    next = shares.length;
  }
  return sums.flat();
}

function sharesOf(files: readonly Summed[]): string[][] {
  const shares: string[][] = [];
  let share: string[] = [];
  let bytes = 0;
  for (const { path, size } of files) {
    share.push(path);
    bytes += size;
    if (share.length < SHARE_FILES && bytes < SHARE_BYTES) continue;
    shares.push(share);
    share = [];
    bytes = 0;
  }
  if (share.length > 0) shares.push(share);
  return shares;
}
