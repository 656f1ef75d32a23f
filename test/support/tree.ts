import { lstatSync, readdirSync, type Stats } from "node:fs";
import { join } from "node:path";

/** Everything at and below `path`. What is removed meanwhile is left out (`readdir` itself throws). */
export function* tree(path: string): Generator<{ path: string; stats: Stats }> {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return;
  yield { path, stats };
  if (stats.isDirectory()) for (const name of namesIn(path)) yield* tree(join(path, name));
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
    throw error;
  }
}
