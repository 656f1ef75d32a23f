import { SystemFailure } from "../../../src/errors.ts";
import type { FileName } from "../../../src/workspace.ts";
import { parentOf, pathOf } from "../../common/files/paths.ts";
import { placedOf } from "../../common/files/placed.ts";
import { type PlaceKind, planMoves } from "../../common/files/unpack-rules.ts";
import type { RemoteCommands } from "../commands.ts";
import type { RemotePlace } from "../place.ts";
import { lastLine, quoted, runToEnd } from "../run-to-end.ts";
import { askRows, bytesOfLines, calls, type Row } from "./rows.ts";
import { touchTime } from "./unpack-encodings.ts";
import type { Staged } from "./vet.ts";

const PROGRAM = `
LC_ALL=C TZ=UTC0; export LC_ALL TZ
clear() { rm -f "$@" || exit; }
into() { to=$1; shift; mv -f "$@" "$to" || exit; }
stamp() { when=$1; shift; touch -c -t "$when" "$@" || exit; }
mode() { bits=$1; shift; chmod "$bits" "$@" || exit; }
eval "$(cat)"
`;

/**
 * From the staging directory to the places in the checkout. Nothing is changed until all of it is known to be possible.
 * @returns `UnpackReport.placed`; `null`: that is not so
 */
export async function moveIn(
  commands: RemoteCommands,
  { place, staging }: { readonly place: RemotePlace; readonly staging: string },
  staged: Staged,
  signal: AbortSignal,
): Promise<FileName[] | null> {
  const { made, files, links, directories } = staged;
  const top = pathOf(place.root);
  const theirs = new Map<string, PlaceKind>();
  const look = async (paths: readonly string[]): Promise<void> => {
    if (paths.length === 0) return;
    const asked = new Set(paths);
    const onRow = ({ path, kind }: Row): void => {
      if (asked.has(path)) theirs.set(path, kindOf(kind));
    };
    await askRows(commands, place, { look: paths }, onRow, signal);
  };
  // Where the directory is not there, or is none, nothing in it has to be looked at.
  await look([...made].filter((path) => path !== ""));
  const merged = (path: string): boolean => {
    for (let above = parentOf(path); above !== ""; above = parentOf(above)) {
      if (theirs.get(above) !== "directory") return false;
    }
    return true;
  };
  await look([...files, ...links.keys()].filter(merged));

  const inside = new Map<string, string[]>();
  for (const path of [...made, ...files, ...links.keys()]) {
    if (path === "") continue;
    const parent = parentOf(path);
    const names = inside.get(parent) ?? [];
    names.push(parent === "" ? path : path.slice(parent.length + 1));
    inside.set(parent, names);
  }
  const moves = await planMoves({
    staging,
    top,
    entries: directories,
    names: async (path) => inside.get(path) ?? [],
    look: async (path) => {
      if (path.startsWith(`${staging}/`)) {
        const own = path.slice(staging.length + 1);
        return made.has(own) ? "directory" : links.has(own) ? "symlink" : "other";
      }
      return theirs.get(path.slice(top.length + 1)) ?? null;
    },
  });

  const lines = function* (): Generator<string> {
    const inTheWay = moves.filter(({ to, clear }) => clear || theirs.get(to.slice(top.length + 1)) === "symlink");
    const relative = (path: string): string => path.slice(top.length + 1);
    yield* calls(
      "clear",
      inTheWay.map(({ to }) => relative(to)),
      top,
    );
    const byTarget = new Map<string, string[]>();
    for (const { from, to } of moves) {
      const target = `${parentOf(to)}/`;
      const sources = byTarget.get(target) ?? [];
      sources.push(from.slice(staging.length + 1));
      byTarget.set(target, sources);
    }
    for (const [target, sources] of byTarget) yield* calls(`into ${quoted([target])}`, sources, staging);
    // From the deepest up: a directory that may not be written must have all that belongs into it.
    const deepestFirst = [...directories].sort(([a], [b]) => b.length - a.length);
    yield* grouped(deepestFirst, ({ mtimeSeconds }) => touchTime(mtimeSeconds), "stamp", top);
    yield* grouped(deepestFirst, ({ mode }) => (mode & 0o777).toString(8), "mode", top);
  };
  signal.throwIfAborted();
  const command = { script: PROGRAM, args: [], stdin: bytesOfLines(lines()) };
  const { code, stderr } = await runToEnd(commands, command, 64 * 1024, signal);
  if (code !== 0) throw new SystemFailure(`Cannot unpack into ${place.root}: ${lastLine(stderr) || `status ${code}`}`);
  return placedOf(moves, top, directories);
}

function kindOf(kind: Row["kind"]): PlaceKind {
  return kind === "directory" || kind === "symlink" ? kind : "other";
}

/** One call for neighbours that are to get the same. */
function* grouped<T>(
  directories: readonly (readonly [string, T])[],
  facetOf: (directory: T) => string,
  name: string,
  top: string,
): Generator<string> {
  let value = "";
  let paths: string[] = [];
  const flush = function* (): Generator<string> {
    if (paths.length > 0 && value !== "-") yield* calls(`${name} ${value}`, paths, top);
    paths = [];
  };
  for (const [path, directory] of directories) {
    const next = facetOf(directory);
    if (next !== value) yield* flush();
    value = next;
    paths.push(path);
  }
  yield* flush();
}
