import { constants } from "node:fs";
import { open } from "node:fs/promises";

const MOST_BYTES = 4096;
// Opening a pipe for reading waits for a writer, for ever if there is none. Windows has no such files.
const AT_ONCE = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/** The beginning of what a program was to write into `file`; `null`: there is none, or it is no file. */
export async function saidIn(file: string): Promise<string | null> {
  try {
    await using handle = await open(file, AT_ONCE);
    if (!(await handle.stat()).isFile()) return null;
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(MOST_BYTES), 0, MOST_BYTES, 0);
    return buffer.toString("utf8", 0, bytesRead);
  } catch {
    return null;
  }
}
