import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** git's ids of the files in `dir` as they are now. */
export function blobsIn(dir: string): (path: string) => string | undefined {
  return (path) => {
    if (path.split("/").includes("..")) return undefined;
    try {
      const content = readFileSync(join(dir, path));
      return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
    } catch {
      return undefined;
    }
  };
}
