import { realpathSync, statSync } from "node:fs";
import { isAbsolute, join, relative, sep } from "node:path";

/**
 * Where the file of a project really lies. What a project names can be a link that its author has put there: one that leads to
 * a file of the person who runs it, or to what git keeps, is not followed.
 * @param path from the top of the project
 * @returns `undefined`: there is no such file in the project
 */
export function fileInside(dir: string, path: string): string | undefined {
  if (path.split("/").includes("..")) return undefined;
  try {
    const real = realpathSync(join(dir, path));
    const inside = relative(realpathSync(dir), real);
    const [first] = inside.split(sep);
    return isAbsolute(inside) || first === ".." || first?.toLowerCase() === ".git" || !statSync(real).isFile()
      ? undefined
      : real;
  } catch {
    return undefined;
  }
}
