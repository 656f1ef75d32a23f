import { createTurns } from "../../../src/time.ts";
import { compareBytes } from "./paths.ts";

/** So many names are sorted in one turn of the event loop; merging the sorted runs lets other work take turns. */
const RUN = 16_384;

/** Names by byte, in turns: half a million of them would hold up everything else for a second. */
export async function sortedNames(names: Iterable<string>): Promise<string[]> {
  const turn = createTurns();
  let runs: string[][] = [];
  let run: string[] = [];
  for (const name of names) {
    if (run.push(name) < RUN) continue;
    runs.push(run.sort(compareBytes));
    run = [];
    await turn();
  }
  runs.push(run.sort(compareBytes));
  while (runs.length > 1) {
    const merged: string[][] = [];
    for (let i = 0; i < runs.length; i += 2) {
      const [a = [], b = []] = [runs[i], runs[i + 1]];
      merged.push(b.length === 0 ? a : await merge(a, b, turn));
    }
    runs = merged;
  }
  return runs[0] ?? [];
}

async function merge(
  a: readonly string[],
  b: readonly string[],
  turn: () => Promise<void> | undefined,
): Promise<string[]> {
  const all: string[] = [];
  for (let [i, j] = [0, 0]; i < a.length || j < b.length; ) {
    const [first, second] = [a[i], b[j]];
    if (second === undefined || (first !== undefined && first <= second)) {
      if (first !== undefined) all.push(first);
      i++;
    } else {
      all.push(second);
      j++;
    }
    if (all.length % 1024 === 0) await turn();
  }
  return all;
}
