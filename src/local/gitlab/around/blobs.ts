import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileInside } from "../../sources/inside.ts";

/** git's ids of the files in `dir` as they are now. */
export function blobsIn(dir: string): (path: string) => string | undefined {
  return (path) => {
    const file = fileInside(dir, path);
    if (file === undefined) return undefined;
    try {
      const content = readFileSync(file);
      return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
    } catch {
      return undefined;
    }
  };
}
