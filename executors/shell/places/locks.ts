import { createHash, randomUUID } from "node:crypto";
import {
  closeSync,
  constants,
  existsSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";
import type { ProcessTable } from "../processes/process-table.ts";
import { overlap } from "./places.ts";
import { privateDirectory } from "./private-directory.ts";

const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

const claimSchema = z.object({
  root: z.string(),
  pid: z.number(),
  startedAt: z.number(),
  bootId: z.string(),
  /** Of a job that may outlive its process: as long as one of these directories is there, it has. */
  rooms: z.array(z.string()).optional(),
});
type Claim = z.infer<typeof claimSchema>;

export interface DirectoryLocks {
  /**
   * Claim `root` for this process; `null`: it, something above it or something in it is claimed already.
   * @param rooms directories of this job alone, by which it outlives this process: whoever names the same ones takes the claim over
   */
  claim(root: string, rooms?: readonly string[]): Disposable | null;
}

/** Whoever gives up the last claim removes the directory, perhaps just now. */
const ATTEMPTS = 5;
const UNLOCKED = "Cannot lock working directories";

function writeDraft(candidates: readonly string[], text: string): string {
  for (let attempt = 1; ; attempt++) {
    try {
      const draft = join(privateDirectory(candidates, UNLOCKED), `.${randomUUID()}`);
      writeFileSync(draft, text, { mode: 0o600, flag: "wx" });
      return draft;
    } catch (error) {
      if (error instanceof SystemFailure) throw error;
      if (attempt === ATTEMPTS) throw new SystemFailure(UNLOCKED, { cause: error, retry: true });
    }
  }
}

/**
 * Claims on directories of this host, known to all runner processes of one user: two of them with the same token and
 * `builds_dir` must not work in one checkout. A claim ends with the process that made it, also without `dispose`.
 */
export function createDirectoryLocks(candidates: readonly string[], table: ProcessTable): DirectoryLocks {
  const bootId = table.bootId;
  const startedAt = table.find(process.pid)?.startedAt ?? 0;

  const read = (file: string): Claim | null => {
    try {
      // Jobs of the runner's own account may have put a pipe here, and this waits for nobody.
      const fd = openSync(file, READ);
      try {
        return claimSchema.parse(JSON.parse(readFileSync(fd, "utf8")));
      } finally {
        closeSync(fd);
      }
    } catch {
      return null; // gone, or nothing that we wrote
    }
  };
  const hasProcess = (claim: Claim): boolean =>
    claim.bootId === bootId && table.find(claim.pid)?.startedAt === claim.startedAt;
  const isAlive = (claim: Claim): boolean =>
    hasProcess(claim) || (claim.bootId === bootId && claim.rooms?.some((room) => existsSync(room)) === true);
  /** Left by the process that had this job before. */
  const isOfJob = (claim: Claim, rooms: readonly string[]): boolean =>
    rooms.length > 0 && claim.rooms?.join("\n") === rooms.join("\n") && !hasProcess(claim);

  /** Take a dead claim away. By renaming it first, so that what is removed is what was looked at. */
  const sweep = (dir: string, name: string): void => {
    const aside = join(dir, `.${randomUUID()}`);
    try {
      renameSync(join(dir, name), aside);
      const moved = read(aside);
      if (moved !== null && isAlive(moved)) linkSync(aside, join(dir, name));
      unlinkSync(aside);
    } catch {
      // Somebody else was quicker.
    }
  };

  return {
    claim: (root, rooms = []) => {
      const mine: Claim = { root, pid: process.pid, startedAt, bootId, ...(rooms.length > 0 && { rooms: [...rooms] }) };
      // Complete before it has its name: nobody ever reads half a claim.
      const draft = writeDraft(candidates, JSON.stringify(mine));
      const dir = dirname(draft);
      const name = createHash("sha256").update(root).digest("hex").slice(0, 32);
      const file = join(dir, name);
      try {
        for (let attempt = 0; ; attempt++) {
          try {
            linkSync(draft, file);
            break;
          } catch (error) {
            if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
            const holder = read(file);
            if (holder !== null && isOfJob(holder, rooms)) {
              renameSync(draft, file);
              break;
            }
            if (attempt > 0 || (holder !== null && isAlive(holder))) return null;
            sweep(dir, name);
          }
        }
      } catch (cause) {
        throw new SystemFailure(`Cannot lock the directory ${root} in ${dir}`, { cause, retry: true });
      } finally {
        rmSync(draft, { force: true });
      }
      const release = (): void => {
        rmSync(file, { force: true });
        try {
          rmdirSync(dir);
        } catch {
          // Others have claims there.
        }
      };
      // Ours stands before we look: of two that nest and come at the same time, at least one sees the other.
      for (const other of readdirSync(dir)) {
        if (other === name || other.startsWith(".")) continue;
        const claim = read(join(dir, other));
        if (claim === null) continue;
        if (!isAlive(claim)) sweep(dir, other);
        else if (overlap(claim.root, root)) {
          release();
          return null;
        }
      }
      return { [Symbol.dispose]: release };
    },
  };
}
