import { lstat } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";
import type { Trust } from "../../../src/job/job.ts";
import { slotName, slotNames } from "../../common/places/slot-name.ts";

/** Where one job works. All absolute. */
export interface Places {
  /** What stands for it where it is claimed: the same for all trusts, so that a slot has one job. */
  readonly claim: string;
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
  readonly trust: Trust;
}

function placesAt({ runnerDir, trust }: PlacesOptions, slot: number, path: string): Places {
  const name = slotName(slot, trust);
  return {
    claim: join(runnerDir, String(slot), path),
    root: join(runnerDir, name, path),
    tmpDir: join(runnerDir, `${name}.tmp`, path),
  };
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
export async function choosePlaces(options: PlacesOptions, slot: number): Promise<Places> {
  const { runnerDir, projectPath, projectId } = options;
  const places = placesAt(options, slot, projectPath);
  for (const top of slotNames(slot).map((name) => join(runnerDir, name))) {
    const root = join(top, projectPath);
    if (!root.startsWith(top + sep)) throw new SystemFailure(`"${projectPath}" is no place inside ${runnerDir}`);
    for (let above = dirname(root); above.length > top.length; above = dirname(above)) {
      if (await isThere(join(above, ".git"))) return placesAt(options, slot, `project-${basename(projectId)}`);
    }
  }
  return places;
}

/** Whether one path is the other, or lies inside it. */
export function overlap(a: string, b: string): boolean {
  return a === b || a.startsWith(b + sep) || b.startsWith(a + sep);
}
