import { SystemFailure } from "../../src/errors.ts";
import { fitsPath, fitsSegment, type Segment } from "../common/glob.ts";
import { below, parentOf } from "../common/paths.ts";
import type { Found, FoundFile } from "../common/select-files.ts";
import type { Row, RowsRequest } from "./rows.ts";

/** Answers one request about the checkout. */
export type AskRows = (request: RowsRequest, onRow: (row: Row, section: keyof RowsRequest) => void) => Promise<void>;

/** More cannot be meant, and would not fit into an archive's list. */
const MOST_FILES = 5_000_000;
const MOST_SPECIAL = 1000;

interface Gathering extends Found {
  readonly files: Map<string, FoundFile>;
  add(row: Row): void;
}

export function gather(): Gathering {
  const files = new Map<string, FoundFile>();
  const special = new Set<string>();
  return {
    files,
    get special() {
      return [...special];
    },
    add({ path, kind, size, mode, mtimeMs }) {
      if (path === "" || files.has(path)) return;
      if (kind === "special") {
        // Each is a line in the trace at most; nobody reads more of them.
        if (special.size < MOST_SPECIAL) special.add(path);
      } else files.set(path, { kind, size, mode, mtimeMs });
      if (files.size > MOST_FILES) throw new SystemFailure(`More than ${MOST_FILES} files match`);
    },
  };
}

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
  const answers = patterns.map(gather);
  let ways: Way[] = patterns.flatMap((alternatives, index) =>
    alternatives.flatMap((segments) => {
      const into = answers[index];
      return into === undefined ? [] : [{ into, path: "", segments, whole: false }];
    }),
  );
  while (ways.length > 0) ways = await nextLevel(ask, ways);
  return answers;
}

async function nextLevel(ask: AskRows, ways: readonly Way[]): Promise<Way[]> {
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
  /** Nothing above is a link. */
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
      if (rest.length === 0 && row.kind !== "directory") way.into.add(row);
      else if (row.kind === "directory") next.push({ into: way.into, path: row.path, segments: rest, whole: false });
    }
  };
  const onDeep = (row: Row): void => {
    for (let start = row.path; ; start = parentOf(start)) {
      for (const way of deep.get(start) ?? []) if (reachable(way.path) && fitsBelow(way, row)) way.into.add(row);
      if (start === "") break;
    }
  };
  await ask({ look: [...look], flat: [...flat.keys()], deep: [...deep.keys()] }, (row, section) => {
    if (section === "look") {
      if (row.kind === "directory") directories.add(row.path);
    } else if (section === "flat") onFlat(row);
    else onDeep(row);
  });
  return next;
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
