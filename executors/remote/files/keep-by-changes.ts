import { createHash } from "node:crypto";
import type { FileKeeping, KeptFiles } from "../../../src/workspace.ts";
import { below, compareBytes, pathOf } from "../../common/files/paths.ts";
import { type KeptPlace, keepingBy, lookAtAll, type Proof } from "./keep.ts";
import { type Facts, type KeepShell, MOST_LOOKED_AT } from "./keep-shell.ts";

/**
 * ext4, XFS and btrfs, as `statfs` has them: whatever changes a file changes its `ctime`, which no account but root can set. Elsewhere
 * that is not so: on tmpfs memory that is mapped is written to without a trace, and others leave it to a server.
 */
const TELLING: ReadonlySet<string> = new Set(["ef53", "58465342", "9123683e"]);

/**
 * Files of an account that nobody else has, and of which nothing runs between jobs, nor from unpacking until they are recorded. What is
 * believed is the kernel's word on them, asked for by the system's programs, and compared here. Whoever could make those programs
 * lie has the account's every later command as well.
 */
export function keepingByChanges(kept: KeptPlace): FileKeeping | undefined {
  const { root, tmpDir, tools } = kept.place;
  // Root can set the clock, and with it any time of change.
  if (tools.uid <= 0 || tools.stat === null || tools.stat === "stat -f") return undefined;
  return keepingBy(changes(pathOf(root), below(pathOf(tmpDir), "kept-clock")), kept);
}

/** @param probe for a file that shows what time it is */
function changes(root: string, probe: string): Proof {
  return {
    record: async ({ placed }, withShell) =>
      await withShell(async (shell) => {
        if (!(await isTelling(shell, [root]))) return null;
        const paths = placed.map((name) => below(root, name));
        const seen = await look(shell, root, paths, MOST_LOOKED_AT);
        if (seen === null || !(await shell.isPast(seen.newest, probe))) return null;
        const tops = placed.map((name, index) => ({ name, state: stateOf(seen.tops[index]) ?? "" }));
        return { tops, inside: seen.inside, entries: seen.entries, aside: null };
      }),
    canBe: isAsIn,
    async look(shell, kept, aside, paths) {
      if (!(await isTelling(shell, [root, aside]))) return null;
      const seen = await look(shell, aside, paths, kept.entries);
      return seen !== null && seen.inside === kept.inside && isAsIn(kept, seen.tops) ? seen.tops : null;
    },
    async moved(shell, { tops }, now) {
      const newest = now
        .map(({ changed }) => changed)
        .sort(compareBytes)
        .at(-1);
      if (newest === undefined || !(await shell.isPast(newest, probe))) return null;
      return tops.map(({ name }, index) => ({ name, state: stateOf(now[index]) ?? "" }));
    },
  };
}

async function isTelling(shell: KeepShell, paths: readonly string[]): Promise<boolean> {
  const types = await shell.types(paths);
  return types.length === paths.length && types.every((type) => TELLING.has(type));
}

function stateOf(facts: Facts | undefined): string | null {
  return facts === undefined ? null : `${facts.rest} @${facts.changed}`;
}

function isAsIn({ tops }: KeptFiles, there: readonly (Facts | undefined)[]): boolean {
  return tops.every(({ state }, index) => stateOf(there[index]) === state);
}

interface Seen {
  readonly tops: readonly Facts[];
  readonly inside: string;
  readonly entries: number;
  /** Of the times of last change. */
  readonly newest: string;
}

async function look(shell: KeepShell, base: string, tops: readonly string[], most: number): Promise<Seen | null> {
  const first: Facts[] = [];
  const lines: string[] = [];
  let newest = "";
  const isSound = await lookAtAll(shell, { base, tops, most }, (facts, top, inside) => {
    if (facts.changed > newest) newest = facts.changed;
    if (inside === "") first[top] = facts;
    else lines.push(`${top}\0${inside}\0${stateOf(facts)}\0`);
  });
  if (!isSound) return null;
  // In which order a directory tells of what is in it may change.
  const hash = createHash("sha256");
  for (const line of lines.sort(compareBytes)) hash.update(line, "latin1");
  return { tops: first, inside: hash.digest("hex"), entries: first.length + lines.length, newest };
}
