import { createHash, randomBytes } from "node:crypto";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import { type FileKeeping, type FileName, type KeptFiles, MOST_ENTRIES } from "../../../src/workspace.ts";
import { below, compareBytes, parentOf, pathOf } from "../../common/files/paths.ts";
import { isOfGit } from "../../common/files/placed.ts";
import type { RemoteCommands } from "../commands.ts";
import type { RemotePlace } from "../place.ts";
import { type Facts, type KeepShell, openKeepShell } from "./keep-shell.ts";
import { remove } from "./unpack.ts";

/**
 * ext4, XFS and btrfs, as `statfs` has them: whatever changes a file changes its `ctime`, which no account but root can set. Elsewhere
 * that is not so: on tmpfs memory that is mapped is written to without a trace, and others leave it to a server.
 */
const TELLING: ReadonlySet<string> = new Set(["ef53", "58465342", "9123683e"]);

/** What is known of files is in memory while they are looked at. */
const MOST_LOOKED_AT = Math.min(100_000, MOST_ENTRIES);

/**
 * Files of a job from one job to the next where only a POSIX shell is. What is believed is the kernel's word on them, asked for by the
 * system's programs, and compared here; nothing that is known of them is kept there. Whoever could make those programs lie has
 * the account's every later command as well.
 *
 * `commands` read no profile of the account; `host` tells its place from those of others.
 */
export function remoteKeeping(commands: RemoteCommands, place: RemotePlace, host: string): FileKeeping | undefined {
  const { tools } = place;
  // Root can set the clock, and with it any time of change.
  if (tools.uid <= 0 || tools.stat === null || tools.stat === "stat -f") return undefined;
  const [root, tmpDir] = [pathOf(place.root), pathOf(place.tmpDir)];
  const probe = below(tmpDir, "kept-clock");
  /** What cannot be done leaves nothing that is kept. */
  const within = async <T>(
    signal: AbortSignal,
    aside: string | null,
    work: (shell: KeepShell) => Promise<T | null>,
  ): Promise<T | null> => {
    let done: T | null = null;
    try {
      await using shell = await openKeepShell(commands, tools, signal);
      done = await work(shell);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof SystemFailure)) throw new SystemFailure(describeError(error), { cause: error });
    } finally {
      if (done === null && aside !== null) await remove(commands, aside);
    }
    return done;
  };
  const asideOf = (aside: string, index: number): FileName => below(aside, String(index));

  return {
    place: `${host}:${place.root}`,
    async record({ placed: names = [] }, signal) {
      if (names.length === 0 || names.some(isOfGit)) return null;
      return await within(signal, null, async (shell) => {
        if (!(await isTelling(shell, [root]))) return null;
        const tops = names.map((name) => below(root, name));
        const seen = await look(shell, root, tops, MOST_LOOKED_AT);
        if (seen === null || !(await shell.isPast(seen.newest, probe))) return null;
        const { states, inside, entries } = seen;
        return {
          tops: names.map((name, index) => ({ name, state: states[index] ?? "" })),
          inside,
          entries,
          aside: null,
        };
      });
    },
    async setAside(kept, signal) {
      const aside = below(tmpDir, `kept-${randomBytes(8).toString("hex")}`);
      return await within(signal, aside, async (shell) => {
        const names = kept.tops.map(({ name }) => name);
        const device = await deviceOfWay(shell, root, names);
        const there = await factsAt(
          shell,
          names.map((name) => below(root, name)),
        );
        if (device === null || kept.tops.some(({ state }, index) => stateOf(there[index]) !== state)) return null;
        // Elsewhere than on their own disk they would be copied.
        if (!(await shell.make(aside)) || (await factsAt(shell, [aside]))[0]?.device !== device) return null;
        const pairs = names.map((name, index) => [below(root, name), asideOf(aside, index)] as const);
        return await moved(shell, { kept, pairs, there, aside, probe });
      });
    },
    async putBack(kept, signal) {
      const { aside } = kept;
      if (aside === null) return null;
      return await within(signal, aside, async (shell) => {
        if (!(await isTelling(shell, [root, aside]))) return null;
        const waiting = kept.tops.map((_, index) => asideOf(aside, index));
        const seen = await look(shell, aside, waiting, kept.entries);
        if (seen === null || seen.inside !== kept.inside || seen.entries !== kept.entries) return null;
        if (kept.tops.some(({ state }, index) => seen.states[index] !== state)) return null;
        const names = kept.tops.map(({ name }) => name);
        const targets = names.map((name) => below(root, name));
        if ((await deviceOfWay(shell, root, names)) !== seen.device) return null;
        if ((await factsAt(shell, targets)).some((facts) => facts !== undefined)) return null;
        const pairs = targets.map((target, index) => [asideOf(aside, index), target] as const);
        const back = await moved(shell, { kept, pairs, there: seen.tops, aside: null, probe });
        if (back !== null) shell.leave(aside);
        return back;
      });
    },
    async drop({ aside }) {
      if (aside !== null) await remove(commands, aside);
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

/** In this order; `undefined`: not there. */
async function factsAt(shell: KeepShell, paths: readonly string[]): Promise<readonly (Facts | undefined)[]> {
  const found = new Map<string, Facts>();
  await shell.look("flat", paths, paths.length, (facts) => found.set(facts.path, facts));
  return paths.map((path) => found.get(path));
}

/** Of the file system of the checkout, if no part of the way to any of these leads elsewhere. */
async function deviceOfWay(shell: KeepShell, root: string, names: readonly string[]): Promise<string | null> {
  const ways = new Set<string>([root]);
  for (const name of names) {
    for (let above = parentOf(name); above !== ""; above = parentOf(above)) ways.add(below(root, above));
  }
  const all = await factsAt(shell, [...ways]);
  const device = all[0]?.device ?? null;
  return all.every((facts) => facts?.kind === "directory" && facts.device === device) ? device : null;
}

interface Moving {
  readonly kept: KeptFiles;
  readonly pairs: readonly (readonly [from: FileName, to: FileName])[];
  /** What is moved, before that. */
  readonly there: readonly (Facts | undefined)[];
  readonly aside: string | null;
  readonly probe: string;
}

/** Being moved is a change of when it was changed last, for what is moved, and of nothing in it. */
async function moved(shell: KeepShell, { kept, pairs, there, aside, probe }: Moving): Promise<KeptFiles | null> {
  if (!(await shell.move(pairs))) return null;
  const now = await factsAt(
    shell,
    pairs.map(([, to]) => to),
  );
  if (now.some((facts, index) => facts === undefined || facts.rest !== there[index]?.rest)) return null;
  const newest =
    now
      .map((facts) => facts?.changed ?? "")
      .sort(compareBytes)
      .at(-1) ?? "";
  if (!(await shell.isPast(newest, probe))) return null;
  return { ...kept, tops: kept.tops.map(({ name }, index) => ({ name, state: stateOf(now[index]) ?? "" })), aside };
}

interface Seen {
  readonly tops: readonly Facts[];
  readonly states: readonly string[];
  readonly inside: string;
  readonly entries: number;
  readonly device: string;
  /** Of the times of last change. */
  readonly newest: string;
}

/**
 * These and all that is in them. `null`: there is something of which that would not be all, such as a file with a second name
 * elsewhere, or what is not of the file system of `base`.
 */
async function look(shell: KeepShell, base: string, tops: readonly string[], most: number): Promise<Seen | null> {
  const [ground] = await factsAt(shell, [base]);
  if (ground === undefined) return null;
  const indices = new Map(tops.map((top, index) => [top, index]));
  const found: Facts[] = [];
  const inside: string[] = [];
  let newest = "";
  let isSound = true;
  let at = "";
  let entries = 0;
  await shell.look("deep", tops, most, (facts) => {
    const { path, kind, device, links, changed } = facts;
    entries++;
    if (changed > newest) newest = changed;
    if (device !== ground.device || kind === "other" || (kind !== "directory" && links !== "1")) isSound = false;
    const index = indices.get(path);
    if (index !== undefined) {
      at = path;
      found[index] = facts;
    } else if (path.startsWith(`${at}/`)) {
      inside.push(`${indices.get(at)}\0${path.slice(at.length)}\0${stateOf(facts)}\0`);
    } else isSound = false; // nothing is believed that was not asked for
  });
  if (!isSound || tops.some((_, index) => found[index] === undefined)) return null;
  // In which order a directory tells of what is in it may change.
  const hash = createHash("sha256");
  for (const line of inside.sort(compareBytes)) hash.update(line, "latin1");
  const states = found.map((facts) => stateOf(facts) ?? "");
  return { tops: found, states, inside: hash.digest("hex"), entries, device: ground.device, newest };
}
