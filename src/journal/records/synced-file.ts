import { type FileHandle, open } from "node:fs/promises";

/** All of `bytes` at `position`: a full disk makes short writes before it makes errors. */
export async function writeAt(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written);
    written += bytesWritten;
  }
}

/** What a journal outlives: the machine's end, or only that of the process, for which nothing has to wait for the disk. */
export type Outlives = "machine" | "process";

/** A new file (0600) with `bytes` in it, on the disk when this resolves; the name is synced with its directory. */
export async function writeSynced(path: string, bytes: Buffer, outlives: Outlives): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await writeAt(file, bytes, 0);
    if (outlives === "machine") await file.datasync();
  } finally {
    await file.close();
  }
}

/** The contents of a file that others may still have open are on the disk when this resolves. */
export async function syncContents(path: string): Promise<void> {
  const file = await open(path, "r+");
  try {
    await file.datasync();
  } finally {
    await file.close();
  }
}

/** The names in a directory are on the disk when this resolves. Windows cannot and need not. */
export async function syncDirectory(path: string): Promise<void> {
  if (process.platform === "win32") return;
  const dir = await open(path, "r");
  try {
    await dir.sync();
  } finally {
    await dir.close();
  }
}
