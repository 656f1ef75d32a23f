import { constants } from "node:os";
import { never, pause } from "../../../src/time.ts";
import type { Ended } from "../../common/processes/say-ended.ts";
import type { Cgroup } from "./cgroup.ts";
import { findProcessHandles, type OpenProcess } from "./pidfd.ts";
import type { Process, ProcessTable } from "./process-table.ts";

/** What tells the processes of one script, or of one job, from all others. */
export interface Belonging {
  readonly table: ProcessTable;
  /** `NAME=value` that stands in the environment of everything the job started. */
  readonly mark: string;
  /** Whose processes are asked for the mark; `null`: root's jobs may be anybody. */
  readonly uid: number | null;
  /** The script's shell, which founded a session of its own; `null`: the mark alone has to do. */
  readonly leader: {
    readonly pid: number;
    readonly startedAt: number;
    /**
     * It has ended, no later than so on the table's clock; `null`: before anybody looked. Its number may be another session's by now:
     * it is not where somebody in that was there already, or is provably the job's.
     */
    readonly endedBy?: number | null;
  } | null;
  /** What started earlier than this, on the table's own clock, belongs to somebody else. */
  readonly since: number;
  readonly cgroup: Cgroup | null;
  /**
   * Shells of other scripts that run now, and all attendants. Nobody joins another's session, so what is in theirs is not asked for
   * the mark: with many jobs it would be most of what is there, and an attendant has to outlive its script.
   */
  readonly others?: Pick<ReadonlySet<number>, "has">;
}

/**
 * Processes that provably belong: in the control group, in the shell's session or group, with the mark in their
 * environment, or descended from one of these. Founders of sessions come first, children after their parents.
 */
export async function findMembers(belonging: Belonging): Promise<Process[]> {
  const { table, mark, uid, leader, since, cgroup, others } = belonging;
  const grouped = new Set(cgroup?.pids());
  // The founder of a session may be older than what it is looked for.
  const all = await table.list(leader === null ? since : undefined);
  const self = process.pid;
  const candidates = all.filter((one) => one.pid !== self && one.pid !== 1 && one.startedAt >= since);
  // The shell's number may have gone to somebody else, who is then the founder of a session of this number.
  const founder = leader === null ? null : all.find((one) => one.pid === leader.pid);
  const isIts = leader !== null && (founder?.startedAt ?? leader.startedAt) === leader.startedAt;
  const holders =
    leader === null ? [] : candidates.filter((one) => one.session === leader.pid || one.group === leader.pid);
  const endedBy = leader?.endedBy;
  const isKnown = isIts && (endedBy === undefined || holders.some((one) => one.startedAt <= (endedBy ?? -1)));

  const members = new Map<number, Process>();
  const add = (one: Process): void => void members.set(one.pid, one);
  for (const one of candidates) {
    if (grouped.has(one.pid)) add(one);
  }
  if (isKnown) holders.forEach(add);
  for (const one of await table.marked(
    candidates.filter((one) => !members.has(one.pid) && others?.has(one.session) !== true),
    mark,
    uid,
  )) {
    add(one);
  }
  // A number is given anew only once nobody has it any more.
  if (isIts && holders.some(({ pid }) => members.has(pid))) holders.forEach(add);
  for (let before = -1; before !== members.size; ) {
    before = members.size;
    for (const one of candidates) {
      if (members.has(one.parent) || members.has(one.session) || members.has(one.group)) add(one);
    }
  }
  return [...members.values()].sort((a, b) => a.startedAt - b.startedAt || a.pid - b.pid);
}

/**
 * What in the session of this number carries `mark`. The number alone proves nothing: whoever founded the session may have ended
 * long ago, in another container even.
 */
export async function markedSession(table: ProcessTable, session: number, mark: string): Promise<readonly Process[]> {
  const all = await table.list();
  return await table.marked(
    all.filter((one) => one.session === session && one.pid !== process.pid),
    mark,
    null,
  );
}

/** Signal what in the session of this number carries `mark`. */
export async function signalSession(
  table: ProcessTable,
  session: number,
  mark: string,
  signal: NodeJS.Signals,
): Promise<void> {
  const open = await findProcessHandles();
  for (const one of await markedSession(table, session, mark)) signalProcess(table, open, one, signal);
}

interface EndOptions {
  readonly belonging: Belonging;
  /** From SIGTERM to SIGKILL, milliseconds. */
  readonly graceMs: number;
  /** From the first SIGKILL until survivors are given up, milliseconds. */
  readonly limitMs: number;
}

/**
 * Signal exactly this process: not one that got its number meanwhile. With a handle, what is looked at is what is signalled;
 * without one there is nothing between the look and the signal that waits.
 */
function signalProcess(table: ProcessTable, open: OpenProcess | null, target: Process, signal: NodeJS.Signals): void {
  using handle = open?.(target.pid) ?? null;
  if (table.find(target.pid)?.startedAt !== target.startedAt) return;
  if (handle !== null) {
    handle.signal(constants.signals[signal]);
    return;
  }
  try {
    process.kill(target.pid, signal);
  } catch {
    // Gone (ESRCH), or another user's (EPERM): whoever stays is reported in the end.
  }
}

/**
 * SIGTERM to all, and to what they start while they end; after the grace SIGKILL. Nothing that belongs is left when this
 * resolves, or `survived` names it.
 */
export async function endMembers({ belonging, graceMs, limitMs }: EndOptions): Promise<Ended<Process>> {
  const { table, cgroup } = belonging;
  const open = await findProcessHandles();
  const seen = new Map<string, Process>();
  const keyOf = (one: Process): string => `${one.pid}:${one.startedAt}`;
  const note = (members: readonly Process[]): Process[] => {
    const fresh = members.filter((one) => !seen.has(keyOf(one)));
    for (const one of fresh) seen.set(keyOf(one), one);
    return fresh;
  };
  const signalAll = (targets: readonly Process[], signal: NodeJS.Signals): void => {
    for (const one of targets) signalProcess(table, open, one, signal);
  };

  let left = await findMembers(belonging);
  const termAt = performance.now();
  for (let waitMs = 5; left.length > 0 && performance.now() - termAt < graceMs; waitMs = Math.min(waitMs * 2, 250)) {
    const fresh = note(left);
    signalAll(fresh, "SIGTERM");
    signalAll(fresh, "SIGCONT"); // a stopped process would not hear of it
    await pause(Math.min(waitMs, graceMs), never);
    left = await findMembers(belonging);
  }

  const killed = new Map<string, Process>();
  const killAt = performance.now();
  for (let waitMs = 2; left.length > 0 && performance.now() - killAt < limitMs; waitMs = Math.min(waitMs * 2, 250)) {
    // They are stopped first: a tree that forks faster than it is counted stands still then, and no shell prints a line
    // about a child's death.
    for (let pass = 0; pass < 20; pass++) {
      const frozen = new Set(left.map(keyOf));
      note(left);
      signalAll(left, "SIGSTOP");
      const now = await findMembers(belonging);
      const stable = now.every((one) => frozen.has(keyOf(one)));
      left = now;
      if (stable) break;
    }
    for (const one of left) killed.set(keyOf(one), one);
    note(left);
    cgroup?.kill();
    signalAll(left, "SIGKILL");
    await pause(waitMs, never);
    left = await findMembers(belonging);
  }

  const survivors = new Set(left.map(keyOf));
  const gone = (one: Process): boolean => !survivors.has(keyOf(one));
  return { ended: [...seen.values()].filter(gone), killed: [...killed.values()].filter(gone), survived: left };
}
