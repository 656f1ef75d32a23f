import { constants } from "node:fs";
import { lstat, open } from "node:fs/promises";

/** A file in the runner's own directory, or why it is none that the runner can have written. `null`: it is not there. */
export type OwnFile = { readonly bytes: Buffer } | { readonly problem: string } | null;

/** @param most bytes that the runner may have written there */
export async function readOwnFile(path: string, most: number): Promise<OwnFile> {
  // A pipe or a device is not opened: that could wait, or do something.
  const found = await lstat(path).catch(() => null);
  if (found === null) return null;
  if (!found.isFile()) return { problem: `${path} is no file` };
  const file = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0));
  try {
    const info = await file.stat();
    const problem = foreignSign(info);
    if (problem !== null) return { problem: `${path} ${problem}` };
    if (!info.isFile() || info.nlink !== 1) return { problem: `${path} has other names` };
    if (info.size > most) return { problem: `${path} has ${info.size} bytes` };
    return { bytes: await file.readFile() };
  } finally {
    await file.close();
  }
}

/** Why somebody else may have had a hand in it. */
export function foreignSign({ uid, mode }: { readonly uid: number; readonly mode: number }): string | null {
  if (uid !== process.geteuid?.()) return `belongs to user ${uid}`;
  return (mode & 0o077) === 0 ? null : `is open to others (mode ${(mode & 0o777).toString(8).padStart(4, "0")})`;
}
