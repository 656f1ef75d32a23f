import { lstat, rm } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import { describeError, SystemFailure } from "../../src/errors.ts";
import type { Recovered } from "../../src/executor/executor.ts";
import { followTrusted } from "../../src/files/trusted-path.ts";
import type { Launch } from "./launch/launch.ts";
import { removeDirectory } from "./places/remove.ts";
import { MEMORY, runPlaces } from "./places/run-rooms.ts";
import { type Cgroup, openCgroups, removeSoon } from "./processes/cgroup.ts";
import type { ProcessTable } from "./processes/process-table.ts";
import { endMembers } from "./processes/tree.ts";
import { terminalMark } from "./script/terminal.ts";

/** Stands in the environment of all that a job starts, so that it can be found again. */
export const MARK = "ALLOY_RUNNER_JOB_KEY";

/** Ends the name of the control group of a job's attendants, which outlives those of its scripts. */
export const ATTENDANTS = "a";

/** What a dead runner's job has left behind. */
export const noteSchema = z.object({
  kind: z.literal("shell-job"),
  tmpDir: z.string(),
  bootId: z.string(),
  cgroups: z.string().nullable(),
  group: z.string(),
  /** Account that it ran as; `null`: the runner's own. Notes of older runners do not say. */
  user: z.string().nullable().optional(),
});
export type JobNote = z.infer<typeof noteSchema>;

export interface RecoverHost {
  readonly table: ProcessTable;
  readonly stateDir: string;
  readonly killGraceMs: number;
  /** With the rights that the job had; where its note does not say, with those of today's jobs. */
  launchAs(user: string | null | undefined): Promise<Launch>;
}

async function clearRooms(stateDir: string, jobKey: string): Promise<void> {
  const places = runPlaces(stateDir, MEMORY);
  await Promise.all(places.map((place) => rm(join(place, jobKey), { recursive: true, force: true })));
}

/** End and remove what the note of one dead job names. */
export async function recoverJob(
  { table, stateDir, killGraceMs, launchAs }: RecoverHost,
  jobKey: string,
  note: JobNote,
  signal: AbortSignal,
): Promise<Recovered> {
  const done: string[] = [];
  const left: string[] = [];
  // With the rights that the job had, whatever the configuration says today.
  const launch = await launchAs(note.user).catch((error: unknown) => describeError(error));
  // After another start of the machine no process is left, and the numbers mean others.
  if (note.bootId === table.bootId) {
    const groups = note.cgroups === null ? [] : openCgroups(note.cgroups).existing(note.group);
    const isOfAttendants = ({ dir }: Cgroup): boolean => dir.endsWith(`/${note.group}${ATTENDANTS}`);
    const attendants = groups.filter(isOfAttendants);
    // They are not the job's, and end with its scripts once nobody is to read what these have printed.
    const others = new Set(attendants.flatMap((cgroup) => cgroup.pids()));
    await clearRooms(stateDir, jobKey);
    const own = `${MARK}=${jobKey}`;
    const all = [
      ...groups.filter((one) => !isOfAttendants(one)).map((cgroup) => ({ mark: own, cgroup })),
      ...[own, terminalMark(own)].map((mark) => ({ mark, cgroup: null })),
    ];
    for (const { mark, cgroup } of all) {
      const uid = typeof launch === "string" ? null : launch.uid;
      const belonging = { table, mark, uid, leader: null, since: 0, cgroup, others };
      const { ended, survived } = await endMembers({ belonging, graceMs: killGraceMs, limitMs: killGraceMs });
      if (cgroup !== null) await removeSoon(cgroup);
      if (ended.length > 0) done.push(`ended ${ended.length === 1 ? "1 process" : `${ended.length} processes`}`);
      if (survived.length > 0) left.push(`could not end ${survived.length} of its processes`);
    }
    for (const cgroup of attendants) {
      if (!(await removeSoon(cgroup))) cgroup.kill();
      await removeSoon(cgroup);
    }
  }
  await clearRooms(stateDir, jobKey);
  signal.throwIfAborted();
  const { tmpDir } = note;
  if (!isAbsolute(tmpDir)) throw new SystemFailure(`A journal names "${tmpDir}" for removal: not absolute`);
  const objection = typeof launch === "string" ? launch : await objectionTo(note, launch);
  if (typeof launch === "string" || objection !== undefined) {
    if ((await lstat(tmpDir).catch(() => null)) !== null)
      left.push(`could not remove its temporary files in ${tmpDir}: ${objection}`);
  } else if (await removeDirectory(launch, tmpDir, signal)) done.push("removed its temporary files");
  return { done, left };
}

/** Root removes nothing by a path that an account controls whose job it may have been. */
async function objectionTo({ user, tmpDir }: JobNote, { account }: Launch): Promise<string | undefined> {
  if (user !== undefined || account !== null || process.geteuid?.() !== 0) return undefined;
  const { doubt } = await followTrusted(tmpDir);
  return doubt === undefined ? undefined : `root does not reach through what others can change (${doubt})`;
}
