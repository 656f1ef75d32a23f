import { randomBytes } from "node:crypto";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { FileKeeping, FileName, KeptFiles, UnpackReport } from "../../../src/workspace.ts";
import { below, parentOf, pathOf } from "../../common/files/paths.ts";
import { isOfGit } from "../../common/files/placed.ts";
import type { RemoteCommands } from "../commands.ts";
import type { RemotePlace } from "../place.ts";
import { type Facts, type KeepShell, openKeepShell } from "./keep-shell.ts";
import { remove } from "./unpack.ts";

export interface KeptPlace {
  /** They read no profile of the account. */
  readonly commands: RemoteCommands;
  readonly place: RemotePlace;
  /** Tells the place from those of other hosts. */
  readonly host: string;
  /** Where files wait, on the disk of the checkout and outside of it: no other job uses it meanwhile. */
  readonly asideDir: string;
}

/** How it is told that nobody has touched files. `null`: that cannot be told, or is not so. */
export interface Proof {
  /** Of what was just unpacked. `shell` gives one to look with. */
  record(unpacked: Unpacked, shell: WithShell): Promise<KeptFiles | null>;
  /** Whether these, in the order of `kept.tops`, can still be what was recorded: nothing in them is looked at. */
  canBe(kept: KeptFiles, there: readonly (Facts | undefined)[]): boolean;
  /** Looks at all that waits at `paths` in the directory `aside`. @returns what the first ones are */
  look(shell: KeepShell, kept: KeptFiles, aside: string, paths: readonly string[]): Promise<readonly Facts[] | null>;
  /** Being moved is a change of those that were moved. */
  moved(shell: KeepShell, kept: KeptFiles, now: readonly Facts[]): Promise<KeptFiles["tops"] | null>;
}

export type Unpacked = Pick<UnpackReport, "contents"> & Required<Pick<UnpackReport, "placed">>;
export type WithShell = <T>(work: (shell: KeepShell) => Promise<T | null>) => Promise<T | null>;

/** Files of a job from one job to the next where only a POSIX shell is; nothing that is known of them is kept there. */
export function keepingBy(proof: Proof, { commands, place, host, asideDir }: KeptPlace): FileKeeping {
  const root = pathOf(place.root);
  const waiting = pathOf(asideDir);
  let isCleared = false;
  /** What cannot be done leaves nothing that is kept. */
  const within = async <T>(
    signal: AbortSignal,
    aside: string | null,
    work: (shell: KeepShell) => Promise<T | null>,
  ): Promise<T | null> => {
    let done: T | null = null;
    try {
      await using shell = await openKeepShell(commands, place.tools, signal);
      done = await work(shell);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof SystemFailure)) throw new SystemFailure(describeError(error), { cause: error });
    } finally {
      if (done === null && aside !== null) await remove(commands, aside);
    }
    return done;
  };

  return {
    place: `${host}:${place.root}`,
    async record({ placed = [], contents }, signal) {
      if (placed.length === 0 || placed.some(isOfGit)) return null;
      const its = { placed, ...(contents === undefined ? {} : { contents }) };
      return await proof.record(its, (work) => within(signal, null, work));
    },
    async setAside(kept, signal) {
      const aside = below(waiting, randomBytes(8).toString("hex"));
      return await within(signal, aside, async (shell) => {
        // What a job that was killed has left.
        if (!isCleared) shell.clear(waiting);
        isCleared = true;
        const names = kept.tops.map(({ name }) => name);
        const device = await deviceOfWay(shell, root, names);
        const there = await factsAt(
          shell,
          names.map((name) => below(root, name)),
        );
        if (device === null || !proof.canBe(kept, there)) return null;
        // Elsewhere than on their own disk they would be copied.
        if (!(await shell.make(aside)) || (await factsAt(shell, [aside]))[0]?.device !== device) return null;
        const pairs = names.map((name, index) => [below(root, name), asideOf(aside, index)] as const);
        const tops = await move(shell, proof, kept, pairs, there);
        return tops === null ? null : { ...kept, tops, aside };
      });
    },
    async putBack(kept, signal) {
      const { aside } = kept;
      if (aside === null) return null;
      return await within(signal, aside, async (shell) => {
        const there = await proof.look(
          shell,
          kept,
          aside,
          kept.tops.map((_, index) => asideOf(aside, index)),
        );
        if (there === null) return null;
        const names = kept.tops.map(({ name }) => name);
        const targets = names.map((name) => below(root, name));
        if ((await deviceOfWay(shell, root, names)) !== there[0]?.device) return null;
        if ((await factsAt(shell, targets)).some((facts) => facts !== undefined)) return null;
        const pairs = targets.map((target, index) => [asideOf(aside, index), target] as const);
        const tops = await move(shell, proof, kept, pairs, there);
        if (tops === null) return null;
        await shell.leave([aside, waiting]);
        return { ...kept, tops, aside: null };
      });
    },
    async drop({ aside }) {
      if (aside !== null) await remove(commands, aside);
    },
  };
}

/** By number: their names could be anything. */
function asideOf(aside: string, index: number): FileName {
  return below(aside, String(index));
}

/** In this order; `undefined`: not there. */
export async function factsAt(shell: KeepShell, paths: readonly string[]): Promise<readonly (Facts | undefined)[]> {
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

/** What came to its new place is what was to be moved, and nothing else. */
async function move(
  shell: KeepShell,
  proof: Proof,
  kept: KeptFiles,
  pairs: readonly (readonly [from: FileName, to: FileName])[],
  there: readonly (Facts | undefined)[],
): Promise<KeptFiles["tops"] | null> {
  if (!(await shell.move(pairs))) return null;
  const now: Facts[] = [];
  for (const [index, facts] of (
    await factsAt(
      shell,
      pairs.map(([, to]) => to),
    )
  ).entries()) {
    if (facts === undefined || facts.rest !== there[index]?.rest) return null;
    now.push(facts);
  }
  return await proof.moved(shell, kept, now);
}

/**
 * These and all that is in them. `onFacts` hears the index of the first one that each is in, and the rest of its path.
 * @returns `false`: there is something of which that would not be all, such as a file with a second name elsewhere, or what is not
 * of the file system of `base`
 */
export async function lookAtAll(
  shell: KeepShell,
  { base, tops, most }: { readonly base: string; readonly tops: readonly string[]; readonly most: number },
  onFacts: (facts: Facts, top: number, inside: string) => void,
): Promise<boolean> {
  const [ground] = await factsAt(shell, [base]);
  const indices = new Map(tops.map((top, index) => [top, index]));
  const found = new Set<number>();
  let isSound = ground !== undefined;
  let at = "";
  await shell.look("deep", tops, most, (facts) => {
    const { path, kind, device, links } = facts;
    if (indices.has(path)) at = path;
    const top = indices.get(at);
    if (device !== ground?.device || kind === "other" || (kind !== "directory" && links !== "1")) isSound = false;
    // Nothing is believed that was not asked for.
    else if (top === undefined || (path !== at && !path.startsWith(`${at}/`))) isSound = false;
    else {
      found.add(top);
      onFacts(facts, top, path.slice(at.length));
    }
  });
  return isSound && found.size === tops.length;
}
