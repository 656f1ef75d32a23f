import { lstatSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { SystemFailure } from "../../../src/errors.ts";

/** Directories above one that may be made with it: `.local/state` in a new home. */
const MOST_MADE = 2;

/** Not Node's own `recursive`, which tries for ever in a home that an automounter does not know. */
function makePrivate(dir: string, above: number): void {
  try {
    mkdirSync(dir, { mode: 0o700 });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EEXIST") return;
    if (code !== "ENOENT" || above === 0) throw error;
    makePrivate(dirname(dir), above - 1);
    makePrivate(dir, 0);
  }
}

/**
 * First of `candidates` that is, or can be made, a directory of ours that nobody else can touch.
 * @param failed what cannot be done without one
 * @throws {SystemFailure} none is
 */
export function privateDirectory(candidates: readonly string[], failed: string): string {
  const problems: string[] = [];
  for (const dir of candidates) {
    try {
      makePrivate(dir, MOST_MADE);
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
      continue;
    }
    const found = lstatSync(dir);
    const uid = process.geteuid?.();
    // Windows knows no such owners and modes: there it is the account's own directory that keeps others out.
    const isOurs = uid === undefined || (found.uid === uid && (found.mode & 0o077) === 0);
    if (found.isDirectory() && isOurs) return dir;
    problems.push(`${dir} is not a directory of mode 0700 that belongs to the runner's user: remove it`);
  }
  throw new SystemFailure(`${failed}: ${problems.join("; ")}`, { retry: false });
}
