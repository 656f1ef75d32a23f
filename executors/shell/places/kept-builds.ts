import { execFile } from "node:child_process";
import { lstat } from "node:fs/promises";
import { isAbsolute, sep } from "node:path";
import { promisify } from "node:util";
import { z } from "zod";
import { describeError } from "../../../src/errors.ts";
import type { KeepBudgets, Tidied } from "../../../src/executor/keeping.ts";
import { keptUses } from "../../common/kept/kept-uses.ts";
import { missingRoom } from "../../common/kept/missing-room.ts";
import { type Candidate, chooseOldest } from "../../common/kept/oldest.ts";
import type { Launch } from "../launch/launch.ts";
import type { DirectoryLocks } from "./locks.ts";
import type { Places } from "./places.ts";
import { removeDirectory } from "./remove.ts";

const run = promisify(execFile);

const usesIn = keptUses("shell-builds.json", z.object({ claim: z.string(), usedAt: z.number() }));

/** Checkouts that jobs have left, by path. */
export interface KeptBuilds {
  used(places: Pick<Places, "root" | "claim">): void;
  tidy(options: TidyBuildsOptions, signal: AbortSignal): Promise<Tidied[]>;
  /** Writes down the last uses. */
  close(): Promise<void>;
}

export interface TidyBuildsOptions {
  readonly buildsDir: string;
  readonly budgets: KeepBudgets;
  readonly dry: boolean;
  readonly locks: DirectoryLocks;
  readonly launch: Launch;
}

export function createKeptBuilds(keepDir: string): KeptBuilds {
  const uses = usesIn(keepDir);
  return {
    used: ({ root, claim }) => uses.used(root, { claim, usedAt: Date.now() }),
    close: uses.close,
    async tidy({ buildsDir, budgets, dry, locks, launch }, signal) {
      const missing = await missingRoom(buildsDir, budgets);
      if (budgets.builds === null && missing === null) return [];
      const known = await uses.known();
      const things: (Candidate & { readonly claim: string })[] = [];
      for (const [root, { claim, usedAt }] of Object.entries(known)) {
        if (!isAbsolute(root) || !root.startsWith(buildsDir + sep)) continue;
        signal.throwIfAborted();
        const bytes = await sizeOf(root, signal);
        if (bytes === null) delete known[root];
        else things.push({ kind: "builds", name: root, bytes, usedAt, claim, held: isHeld(locks, claim) });
      }
      const gone: Tidied[] = [];
      for (const { thing, why } of chooseOldest(things, budgets, missing)) {
        const { kind, name, bytes, usedAt, claim } = thing;
        // While it is claimed no job of any runner on this machine gets it.
        using mine = locks.claim(claim);
        if (mine === null) continue;
        const said: Tidied = { kind, name, bytes, usedAt, why, where: "this machine" };
        const problem = dry ? null : await remove(launch, name, signal);
        gone.push(problem === null ? said : { ...said, problem });
        if (!dry && problem === null) delete known[name];
      }
      if (!dry) await uses.save();
      return gone;
    },
  };
}

/** A job works there now. */
function isHeld(locks: DirectoryLocks, claim: string): boolean {
  using mine = locks.claim(claim);
  return mine === null;
}

async function remove(launch: Launch, root: string, signal: AbortSignal): Promise<string | null> {
  try {
    await removeDirectory(launch, root, signal);
    return null;
  } catch (error) {
    signal.throwIfAborted();
    return describeError(error);
  }
}

/** `null`: it is not there. */
async function sizeOf(root: string, signal: AbortSignal): Promise<number | null> {
  const found = await lstat(root).catch(() => null);
  if (found === null) return null;
  try {
    const { stdout } = await run("du", ["-skx", "--", root], { signal, env: { LC_ALL: "C", PATH: process.env.PATH } });
    return Number(/^(\d+)\s/.exec(stdout)?.[1] ?? 0) * 1024;
  } catch (error) {
    signal.throwIfAborted();
    // du says what it counted also where it could not read all of it.
    const said = error instanceof Error && "stdout" in error ? String(error.stdout) : "";
    return Number(/^(\d+)\s/m.exec(said)?.[1] ?? 0) * 1024;
  }
}
