import { lstat } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { SystemFailure } from "../../src/errors.ts";

/** Where one job works. All absolute. */
export interface Places {
  /** The checkout. */
  readonly root: string;
  /** `<slot>.tmp/…`: a project cannot be called so, because the first segment is a number. */
  readonly tmpDir: string;
}

export interface PlacesOptions {
  /** `<builds_dir>/<runner id>` */
  readonly runnerDir: string;
  /** `group/project`, clean and relative. */
  readonly projectPath: string;
  readonly projectId: string;
}

function placesAt(runnerDir: string, slot: number, path: string): Places {
  return { root: join(runnerDir, String(slot), path), tmpDir: join(runnerDir, `${slot}.tmp`, path) };
}

async function isThere(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}

/**
 * Places of a project in a slot. Where a directory above the checkout is a checkout itself (`group` beside
 * `group/project`), its `git clean` would take ours for rubbish: then the project's number names the place.
 */
export async function choosePlaces(
  { runnerDir, projectPath, projectId }: PlacesOptions,
  slot: number,
): Promise<Places> {
  const places = placesAt(runnerDir, slot, projectPath);
  const top = join(runnerDir, String(slot));
  if (!places.root.startsWith(top + sep)) throw new SystemFailure(`"${projectPath}" is no place inside ${runnerDir}`);
  for (let above = dirname(places.root); above.length > top.length; above = dirname(above)) {
    if (await isThere(join(above, ".git"))) return placesAt(runnerDir, slot, `project-${basename(projectId)}`);
  }
  return places;
}

/** One is the other, or lies inside it. */
export function overlap(a: string, b: string): boolean {
  return a === b || a.startsWith(b + sep) || b.startsWith(a + sep);
}
