import { z } from "zod";
import { SystemFailure } from "../../src/errors.ts";
import type { Note } from "../../src/executor/prepare.ts";
import type { ShellName } from "../../src/shell.ts";
import { inRoot } from "./places/chosen.ts";
import type { DirectoryLocks } from "./places/locks.ts";
import type { Slot, Slots } from "./places/slots.ts";
import { type JobNote, noteSchema } from "./recover.ts";

/** How a later process of the runner finds a job of this machine again, which goes on meanwhile. */
const handleSchema = noteSchema.extend({
  shell: z.enum(["bash", "sh", "pwsh"]),
  buildsDir: z.string(),
  projectSlot: z.number().int().nonnegative(),
  claim: z.string(),
  root: z.string(),
  /** Where its sources would be, had it not chosen another directory. */
  usualRoot: z.string(),
  since: z.number().nonnegative(),
});
type Handle = z.infer<typeof handleSchema>;

export interface Prepared {
  readonly slot: Slot;
  /** The same before the job chose a directory. */
  readonly free: Slot;
  readonly shell: ShellName;
  readonly buildsDir: string;
  readonly since: number;
}

export function handleOf(note: JobNote, { slot, free, shell, buildsDir, since }: Prepared): Note {
  const { claim, root } = slot.places;
  const place = { claim, root, usualRoot: free.places.root, projectSlot: slot.number };
  const { user = null, ...known } = note;
  return { ...known, user, ...place, shell, buildsDir, since };
}

/** @throws {SystemFailure} nobody can go on with it */
export function readHandle(handle: Note, now: { readonly bootId: string; readonly user: string | null }): Handle {
  const { data } = handleSchema.safeParse(handle);
  if (data === undefined) throw new SystemFailure("what was noted of its place cannot be read");
  if (data.bootId !== now.bootId) throw new SystemFailure("the machine was restarted");
  if (data.user !== now.user) {
    const nameOf = (user: string | null | undefined): string => (user ? `user "${user}"` : "the runner's own account");
    throw new SystemFailure(`it ran as ${nameOf(data.user)}, and jobs run as ${nameOf(now.user)} by now`);
  }
  return data;
}

/** The job's directories, for it alone as before. @throws {SystemFailure} somebody else has them */
export function retake(
  slots: Slots,
  locks: DirectoryLocks,
  { claim, root, usualRoot, tmpDir, projectSlot: number }: Handle,
  rooms: readonly string[],
): { readonly slot: Slot; readonly free: Slot } {
  const taken = (path: string): SystemFailure => new SystemFailure(`another job works in ${path} by now`);
  const free = slots.retake({ number, places: { claim, root: usualRoot, tmpDir } }, rooms);
  if (free === null) throw taken(usualRoot);
  if (root === usualRoot) return { slot: free, free };
  const chosen = locks.claim(root, rooms);
  if (chosen !== null) return { slot: inRoot(free, root, chosen), free };
  free[Symbol.dispose]();
  throw taken(root);
}
