import { posix } from "node:path";
import { Readable } from "node:stream";
import { z } from "zod";
import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { KeepBudgets, Tidied } from "../../../src/executor/keeping.ts";
import { keptUses } from "../../common/kept/kept-uses.ts";
import { roomMissing } from "../../common/kept/missing-room.ts";
import { type Candidate, chooseOldest } from "../../common/kept/oldest.ts";
import { type RemoteCommands, runToEnd } from "../../remote/index.ts";
import type { Claim } from "./claim.ts";
import { TIDY_PROGRAM } from "./tidy-program.ts";

const usesIn = keptUses(
  "ssh-builds.json",
  z.object({
    /** `ci@far.example:2222` */
    host: z.string(),
    buildsDir: z.string(),
    /** Below `buildsDir`, with the runner's id. */
    base: z.string(),
    /** As claims name it. */
    place: z.string(),
    root: z.string(),
    usedAt: z.number(),
  }),
);

const MOST_ANSWER_BYTES = 1 << 20;

/** Working copies that jobs have left on one host, as one account. */
export interface KeptCopies {
  used(runnerId: string, claim: Claim): void;
  /**
   * A host that cannot be asked is named as what stays.
   * @param within runs something with programs of the host
   */
  tidy(options: TidyCopiesOptions, signal: AbortSignal): Promise<Tidied[]>;
  /** The host is gone, and all that was there with it. */
  forget(): Promise<void>;
  /** Writes down the last uses. */
  close(): Promise<void>;
}

export interface TidyCopiesOptions {
  readonly budgets: KeepBudgets;
  readonly dry: boolean;
  readonly within: (work: (commands: RemoteCommands) => Promise<Tidied[]>) => Promise<Tidied[]>;
}

/** Names of one copy that the program on the host reads. */
interface Names {
  readonly base: string;
  readonly place: string;
  readonly root: string;
}

interface Copy extends Candidate, Names {}

/** Hosts of which something is known, as they were given to `createKeptCopies`. */
export async function hostsWithCopies(keepDir: string): Promise<string[]> {
  const known = await usesIn(keepDir).known();
  return [...new Set(Object.values(known).map(({ host }) => host))];
}

/**
 * @param host tells it from all others
 * @param where for people
 */
export function createKeptCopies(keepDir: string, host: string, where = `host ${host}`): KeptCopies {
  const uses = usesIn(keepDir);
  const keyOf = (root: string): string => `${host} ${root}`;

  /** Removes them one by one, so that one which takes long does not hold the others. */
  const remove = async (commands: RemoteCommands, buildsDir: string, copy: Copy, signal: AbortSignal) => {
    const [said = ""] = await ask(commands, "remove", buildsDir, [copy], signal);
    return said === "removed" || said === "gone" ? "removed" : said;
  };

  const tidyBelow = async (
    buildsDir: string,
    { budgets, dry }: TidyCopiesOptions,
    commands: RemoteCommands,
    signal: AbortSignal,
  ): Promise<Tidied[]> => {
    const known = await uses.known();
    const listed = Object.values(known).filter((one) => one.host === host && one.buildsDir === buildsDir);
    const lines = await ask(commands, "measure", buildsDir, listed, signal);
    const copies: Copy[] = [];
    for (const [at, { root, base, place, usedAt }] of listed.entries()) {
      const [, held, kib] = /^(held )?(\d+)$/.exec(lines[at] ?? "") ?? [];
      if (kib !== undefined) {
        const bytes = Number(kib) * 1024;
        copies.push({ kind: "builds", name: root, bytes, usedAt, held: held !== undefined, base, place, root });
      } else if (lines[at] === "gone") delete known[keyOf(root)];
    }
    const [, blocks, free] = /^disk (\d+) (\d+)$/.exec(lines.at(-1) ?? "") ?? [];
    const disk = { bytes: Number(blocks ?? 0) * 1024, free: Number(free ?? 0) * 1024 };
    const missing = disk.bytes > 0 ? roomMissing(disk, budgets) : null;
    const gone: Tidied[] = [];
    for (const { thing, why } of chooseOldest(copies, budgets, missing)) {
      const { kind, name, bytes, usedAt } = thing;
      const said: Tidied = { kind, name, bytes, usedAt, why, where };
      const outcome = dry ? "removed" : await remove(commands, buildsDir, thing, signal);
      // A job has come in between.
      if (outcome === "held") continue;
      gone.push(outcome === "removed" ? said : { ...said, problem: outcome.replace(/^failed /, "") });
      if (!dry && outcome === "removed") delete known[keyOf(name)];
    }
    if (!dry) await uses.save();
    return gone;
  };

  return {
    used(runnerId, { root, slot, buildsDir }) {
      const base = posix.join(buildsDir, runnerId);
      const [, ...path] = posix.relative(base, root).split("/");
      const place = `${slot}/${path.join("/")}`;
      // The program on the host reads lines.
      if (root.includes("\n") || !root.startsWith(`${base}/`) || path.length === 0) return;
      uses.used(keyOf(root), { host, buildsDir, base, place, root, usedAt: Date.now() });
    },
    close: uses.close,
    async forget() {
      const known = await uses.known();
      for (const [key, one] of Object.entries(known)) if (one.host === host) delete known[key];
      await uses.save();
    },
    async tidy(options, signal) {
      const { budgets, within } = options;
      if (budgets.builds === null && budgets.free === null) return [];
      const ours = Object.values(await uses.known()).filter((one) => one.host === host);
      const places = [...new Set(ours.map(({ buildsDir }) => buildsDir))];
      if (places.length === 0) return [];
      try {
        return await within(async (commands) => {
          const gone: Tidied[] = [];
          for (const buildsDir of places) gone.push(...(await tidyBelow(buildsDir, options, commands, signal)));
          return gone;
        });
      } catch (error) {
        signal.throwIfAborted();
        const usedAt = Math.max(...ours.map((one) => one.usedAt));
        const problem = describeError(error);
        return places.map((name) => ({ kind: "builds", name, bytes: 0, usedAt, why: "", where, problem }));
      }
    },
  };
}

/** @returns a line for each of `copies`, and one of their disk */
async function ask(
  commands: RemoteCommands,
  what: "measure" | "remove",
  buildsDir: string,
  copies: readonly Names[],
  signal: AbortSignal,
): Promise<string[]> {
  const lines = copies.map(({ base, place, root }) => `${base}\n${place}\n${root}\n`).join("");
  const args = [what, Buffer.from(buildsDir).toString("latin1")];
  const program = { script: TIDY_PROGRAM, args, stdin: Readable.from([Buffer.from(lines)]) };
  const { code, stdout, stderr } = await runToEnd(commands, program, MOST_ANSWER_BYTES, signal);
  const said = stdout.toString("utf8").trimEnd().split("\n");
  if (code !== 0 || said.length !== copies.length + 1) {
    throw new SystemFailure(`its answer makes no sense: ${stderr.trim().slice(0, 500) || `exit status ${code}`}`);
  }
  return said;
}
