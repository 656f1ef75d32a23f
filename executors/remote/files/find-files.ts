import {
  createGathering,
  createNameCount,
  type Found,
  type FoundFile,
  type Gathering,
  type NameCount,
} from "../../common/files/found.ts";
import { fitsPath, fitsSegment, type Segment } from "../../common/files/glob.ts";
import { below, parentOf } from "../../common/files/paths.ts";
import type { Row, RowsRequest } from "./rows.ts";

/** Answers one request about the checkout. */
type AskRows = (request: RowsRequest, onRow: (row: Row, section: keyof RowsRequest) => void) => Promise<void>;

/** A way into the tree: from the directory `path` on, `segments` have to fit. */
interface Way {
  readonly into: Gathering;
  readonly path: string;
  readonly segments: readonly Segment[];
  /** All below a directory that fits as a whole. */
  whole: boolean;
}

/**
 * What patterns mean, found level by level: only where a pattern may fit is looked, and each level is one request for all of
 * them. A link is never gone through.
 */
export async function findFiles(
  ask: AskRows,
  patterns: readonly (readonly (readonly Segment[])[])[],
): Promise<readonly Found[]> {
  const names = createNameCount();
  const answers = patterns.map(() => createGathering(names));
  let ways: Way[] = patterns.flatMap((alternatives, index) =>
    alternatives.flatMap((segments) => {
      const into = answers[index];
      return into === undefined ? [] : [{ into, path: "", segments, whole: false }];
    }),
  );
  while (ways.length > 0) ways = await nextLevel(ask, ways, names);
  return answers;
}

async function nextLevel(ask: AskRows, ways: readonly Way[], names: NameCount): Promise<Way[]> {
  const flat = new Map<string, Way[]>();
  const deep = new Map<string, Way[]>();
  const look = new Set<string>();
  for (const way of ways) {
    const far = walkLiterals(way);
    for (let above = far.path; above !== ""; above = parentOf(above)) look.add(parentOf(above));
    if (far.path === "") look.add("");
    const wide = far.segments[0]?.kind === "pattern" ? flat : deep;
    wide.set(far.path, [...(wide.get(far.path) ?? []), far]);
  }
  const directories = new Set<string>();
  /** No directory above `path` is a link. */
  const reachable = (path: string): boolean => {
    for (let above = path; above !== ""; above = parentOf(above)) if (!directories.has(parentOf(above))) return false;
    return path !== "" || directories.has("");
  };
  const next: Way[] = [];
  const onFlat = (row: Row): void => {
    const parent = parentOf(row.path);
    const name = parent === "" ? row.path : row.path.slice(parent.length + 1);
    for (const way of flat.get(parent) ?? []) {
      const [segment, ...rest] = way.segments;
      if (segment === undefined || !fitsSegment(segment, name) || !reachable(way.path)) continue;
      if (rest.length === 0 && row.kind !== "directory") way.into.add(row.path, fileOf(row));
      else if (row.kind === "directory") {
        names.count(row.path);
        next.push({ into: way.into, path: row.path, segments: rest, whole: false });
      }
    }
  };
  const onDeep = (row: Row): void => {
    for (let start = row.path; ; start = parentOf(start)) {
      for (const way of deep.get(start) ?? [])
        if (reachable(way.path) && fitsBelow(way, row)) way.into.add(row.path, fileOf(row));
      if (start === "") break;
    }
  };
  await ask({ look: [...look], flat: [...flat.keys()], deep: [...deep.keys()] }, (row, section) => {
    if (section === "look") {
      // Nothing is believed that was not asked for.
      if (row.kind === "directory" && look.has(row.path)) directories.add(row.path);
    } else if (section === "flat") onFlat(row);
    else onDeep(row);
  });
  return next;
}

/** A row in the form that a `Gathering` takes. */
export function fileOf({ kind, size, mode, mtimeMs }: Row): FoundFile | null {
  return kind === "special" ? null : { kind, size, mode, mtimeMs };
}

/** As far as names are known. */
function walkLiterals({ into, path, segments }: Way): Way {
  let at = path;
  let index = 0;
  for (let segment = segments[0]; segment?.kind === "literal"; segment = segments[++index])
    at = below(at, segment.name);
  return { into, path: at, segments: segments.slice(index), whole: false };
}

/** Does something below the way's directory, or that itself, fit? What is in a directory comes after it. */
function fitsBelow(way: Way, { path, kind }: Row): boolean {
  const { segments, into } = way;
  if (segments.length === 0 || way.whole) return true;
  if (into.files.get(parentOf(path))?.kind === "directory" && path !== way.path) return true;
  // `a/**` is a directory and all that is in it; no file is one.
  if (kind !== "directory" && (path === way.path || segments.at(-1)?.kind === "any depth")) return false;
  const inside = path === way.path ? "" : path.slice(way.path === "" ? 0 : way.path.length + 1);
  const fits = fitsPath(segments, inside === "" ? [] : inside.split("/"));
  if (fits && inside === "") way.whole = true;
  return fits;
}
