import { open } from "node:fs/promises";
import { ScriptFailure } from "../../errors.ts";
import { never } from "../../time.ts";
import { fileNameText } from "../../workspace.ts";
import { readDirectory } from "./directory.ts";
import { readLarge } from "./read.ts";

const MOST_ENTRIES = 1_000_000;

/** The text of one file in a zip archive on disk, or why there is none. */
export async function pickFile(
  archive: string,
  name: string,
  mostBytes: number,
): Promise<{ readonly found: string } | { readonly problem: string }> {
  const file = await open(archive);
  try {
    const directory = await readDirectory(file, MOST_ENTRIES);
    for await (const item of directory.items()) {
      if (item.kind !== "file" || fileNameText(item.name) !== name) continue;
      if (item.size > mostBytes) return { problem: `is larger than ${mostBytes} bytes` };
      const pieces: Uint8Array[] = [];
      for await (const piece of readLarge(file, item, never)) pieces.push(piece);
      return { found: Buffer.concat(pieces).toString("utf8") };
    }
    return { problem: "is not among the files that the job has uploaded" };
  } catch (error) {
    if (!(error instanceof ScriptFailure)) throw error;
    return { problem: `cannot be read: ${error.message}` };
  } finally {
    await file.close();
  }
}
