import { type FileName, fileName } from "../../../src/workspace.ts";
import { parentOf } from "./paths.ts";
import type { Directory, Move } from "./unpack-rules.ts";

/** More and longer names than these are not handed on. */
export const MOST_PLACED = 100;
const MOST_PLACED_BYTES = 16 * 1024;

/** What stands for the whole archive, if nothing of it met what was there. */
export function placedOf(
  moves: readonly Move[],
  top: string,
  entries: ReadonlyMap<string, Directory>,
): FileName[] | null {
  if (moves.length > MOST_PLACED || !moves.every(({ free }) => free)) return null;
  const placed = new Set(moves.map(({ to }) => to.slice(top.length + 1)));
  if ([...placed].join("").length > MOST_PLACED_BYTES) return null;
  const isPlaced = (path: string): boolean => path !== "" && (placed.has(path) || isPlaced(parentOf(path)));
  for (const path of entries.keys()) if (!isPlaced(path)) return null;
  return [...placed].map((name) => fileName(name));
}

/** What git takes for its own stays where git looks after it. */
export function isOfGit(name: string): boolean {
  return name.split("/").some((segment) => segment.toLowerCase() === ".git");
}
