import { closeSync, existsSync } from "node:fs";
import type { Writable } from "node:stream";
import { handsOver, SystemFailure } from "../../../src/errors.ts";
import type { Exit, Script, ScriptKeeping } from "../../../src/executor/environment.ts";
import type { Argv } from "../../../src/shell.ts";
import { never, pause } from "../../../src/time.ts";
import { notesOn } from "../../common/notes.ts";
import { beforeAbort, DRAIN_MS, drain } from "../../common/processes/forward.ts";
import { groupOf, groupUsage } from "../../common/processes/group-usage.ts";
import { type Ended, sayEnded, sayerOf, sayingTo } from "../../common/processes/say-ended.ts";
import type { Launch } from "../launch/launch.ts";
import type { Profile } from "../launch/profile.ts";
import type { RunRooms, ScriptRoom } from "../places/run-rooms.ts";
import type { Cgroup, Cgroups } from "../processes/cgroup.ts";
import type { JobMeter } from "../processes/job-meter.ts";
import { killedForMemory, outOfMemoryNote } from "../processes/out-of-memory.ts";
import type { ProcessTable } from "../processes/process-table.ts";
import { type Belonging, endMembers, findMembers } from "../processes/tree.ts";
import { startAttached } from "./attached.ts";
import { type DurableHost, resumeDurable, startDurable } from "./durable.ts";
import type { PipePool } from "./fifo.ts";
import type { RunningScript } from "./running.ts";
import { openScript } from "./script-file.ts";

/** What scripts are run with, the same for all of a job. */
export interface ScriptHost {
  readonly launch: Launch;
  readonly profile: Profile;
  readonly pipes: PipePool;
  readonly table: ProcessTable;
  readonly cgroups: Cgroups | null;
  readonly scratchDir: string;
  /** Starts this program again. */
  readonly ownProgram: Argv;
  /** `NAME=value` in the environment of everything the job starts. */
  readonly mark: string;
  /** Names of control groups of this job begin with this, and those of no other job. */
  readonly groupPrefix: string;
  /** A number for the next control group, unique for the job. */
  nextGroup(): number;
  readonly meter: JobMeter;
  readonly killLeftovers: boolean;
  readonly killGraceMs: number;
  /** Shells and attendants that run now, of all jobs, with the mark of each one's job. */
  readonly shells: Map<number, string>;
  /** How scripts outlive the runner; `null`: they end with it. */
  readonly durable: (DurableHost & { readonly rooms: RunRooms; readonly jobKey: string }) | null;
  /** See `FilesHost`. */
  readonly keepsFiles: boolean;
}

/** What is still there that long after the end of the output, stays. */
const SETTLE_MS = 30;
/** From SIGKILL until a process is reported as one that cannot be ended. */
const STUCK_MS = 10_000;
/** After a stop: how long a start that is under way may still take. */
const LATE_START_MS = 5000;

/** The place of a script that runs as a child of the runner's. */
const ATTACHED = "shell-attached";

/** `Environment.run` on this host. */
export async function runScript(
  host: ScriptHost,
  script: Script,
  output: Writable,
  signal: AbortSignal,
): Promise<Exit> {
  const { launch } = host;
  const { keeping } = script;
  // What is begun anew by whoever comes next needs no attendant.
  const durable = script.repeatable === true ? null : host.durable;
  if (keeping?.resume?.place.kind === ATTACHED) {
    await endAttached(host);
  } else if (durable !== null && keeping?.resume !== undefined) {
    const exit = await goOn(host, durable, keeping, keeping.resume, { output, signal });
    if (exit !== null) return exit;
  }
  signal.throwIfAborted();
  if (script.command.scriptOn !== "stdin") {
    throw new SystemFailure(`The shell executor hands scripts to "${script.command.argv[0]}" on stdin only here`);
  }
  const equals = host.mark.indexOf("=");
  const learned = script.login ? {} : await host.profile.current();
  const argv = launch.command(script.command.argv, learned.PATH);
  const environment = {
    ...script.command.hastening,
    ...launch.environment,
    ...learned,
    [host.mark.slice(0, equals)]: host.mark.slice(equals + 1),
  };
  const killedBefore = killedForMemory();
  let number = String(host.nextGroup());
  // One that an earlier process has begun.
  while (
    host.durable?.rooms.has(host.durable.jobKey, number) === true ||
    host.cgroups?.find(`${host.groupPrefix}${number}`)
  ) {
    number = String(host.nextGroup());
  }
  const cgroup = host.cgroups?.create(`${host.groupPrefix}${number}`) ?? null;
  if (cgroup !== null) host.meter.group(cgroup);
  try {
    await using room = durable?.rooms.enter(durable.jobKey, number) ?? null;
    // A file system in memory makes and forgets a file in a tenth of the time.
    const input = await openScript(room?.directory ?? host.scratchDir, script.text);
    let running: RunningScript;
    try {
      const call = { argv, environment, cgroup, input };
      if (durable === null || room === null) {
        keeping?.begins({ kind: ATTACHED });
        running = await startAttached(host, call, output, keeping?.resume?.from ?? 0);
      } else running = await startDurable(durable, room, call, output, keeping);
    } finally {
      closeSync(input);
    }
    return await stayWith(host, { running, room, cgroup }, { output, keeping, killedBefore }, signal);
  } finally {
    if (cgroup !== null) leaveGroup(host, cgroup);
  }
}

/**
 * With a script that was begun before, or with its end where that is wanted by now. `null`: nothing of it ever ran, or it was
 * ended before.
 */
async function goOn(
  host: ScriptHost,
  durable: NonNullable<ScriptHost["durable"]>,
  keeping: ScriptKeeping,
  { place, from }: NonNullable<ScriptKeeping["resume"]>,
  { output, signal }: { readonly output: Writable; readonly signal: AbortSignal },
): Promise<Exit | null> {
  await using room = durable.rooms.reenter(durable.jobKey, place);
  if (signal.aborted && !existsSync(room.directory)) return null;
  const running = await resumeDurable(durable, room, output, keeping, from);
  if (running === null) return null;
  const cgroup = host.cgroups?.find(`${host.groupPrefix}${room.script}`) ?? null;
  if (cgroup !== null) host.meter.group(cgroup);
  try {
    return await stayWith(host, { running, room, cgroup }, { output, keeping }, signal);
  } finally {
    if (cgroup !== null) leaveGroup(host, cgroup);
  }
}

/** What is left of a script that ended with an earlier process: none of the job's runs but this one. */
async function endAttached({ table, mark, launch, shells, killGraceMs }: ScriptHost): Promise<void> {
  const belonging = { table, mark, uid: launch.uid, leader: null, since: 0, cgroup: null, others: shells };
  await endMembers({ belonging, graceMs: killGraceMs, limitMs: STUCK_MS });
}

/** It is removed, unless the script that is in it was left to another process. */
function leaveGroup({ meter }: ScriptHost, cgroup: Cgroup): void {
  meter.groupEnded(cgroup);
  if (cgroup.pids().length === 0) cgroup.remove();
}

/** Where what comes of it goes. */
interface Told {
  readonly output: Writable;
  readonly keeping: ScriptKeeping | undefined;
  /** Processes that were ended for want of memory before it began, where that is known. */
  readonly killedBefore?: ReturnType<typeof killedForMemory>;
}

interface Started {
  readonly running: RunningScript;
  readonly room: ScriptRoom | null;
  readonly cgroup: Cgroup | null;
}

/** Until nothing of the script is left, or until it is left as it is to another process. */
async function stayWith(
  host: ScriptHost,
  { running, room, cgroup }: Started,
  told: Told,
  signal: AbortSignal,
): Promise<Exit> {
  const { output, keeping, killedBefore } = told;
  let isLeft = false;
  try {
    const exit = await watch(host, running, cgroup, told, signal);
    const note = exit.code === 0 || killedBefore === undefined ? null : outOfMemoryNote(killedBefore);
    if (note !== null && keeping !== undefined) keeping.say(note, "error");
    else if (note !== null) notesOn(output).print(note, "error");
    await keeping?.ended(exit, cgroup === null ? undefined : groupUsage(groupOf(cgroup.dir)));
    return exit;
  } catch (error) {
    isLeft = isToLeave(running, signal);
    throw error;
  } finally {
    if (isLeft) {
      running.leave?.();
      room?.keep();
    } else await running.close();
  }
}

function isToLeave({ leave }: Pick<RunningScript, "leave">, signal: AbortSignal): boolean {
  return leave !== undefined && handsOver(signal);
}

/** From the shell's start until nothing of it is left. */
async function watch(
  { launch, table, mark, killGraceMs, killLeftovers, shells, meter }: ScriptHost,
  { reader, exited, since, capacityBytes, ...running }: RunningScript,
  cgroup: Cgroup | null,
  { output, keeping }: Told,
  signal: AbortSignal,
): Promise<Exit> {
  const say = sayerOf(keeping, sayingTo(output, reader));
  let leader: Belonging["leader"] = null;
  const known = running.leader.then((found) => {
    leader = found;
    if (found === null || found.endedBy === null) return;
    shells.set(found.pid, mark);
    meter.shell(found.pid);
    void exited.then(() => {
      // Its number may go to another process from then on.
      leader = { ...found, endedBy: table.byNow() };
      shells.delete(found.pid);
      meter.shellEnded(found.pid);
    });
  });
  const belongingNow = async (): Promise<Belonging> => {
    await Promise.race([known, exited, pause(LATE_START_MS, never)]);
    return { table, mark, uid: launch.uid, leader, since, cgroup, others: shells };
  };
  const end = async (): Promise<Ended> =>
    await endMembers({ belonging: await belongingNow(), graceMs: killGraceMs, limitMs: STUCK_MS });
  const flow = capacityBytes === undefined ? {} : { capacityBytes };

  const exit = await beforeAbort(exited, signal);
  if (exit === "aborted" && isToLeave(running, signal)) throw signal.reason;
  if (exit === "aborted") {
    const result = await end();
    await drain(reader, DRAIN_MS);
    sayEnded(say, result, killGraceMs, false);
    throw signal.reason;
  }
  if (exit === null) {
    const { ended } = await end();
    await drain(reader, DRAIN_MS);
    const and = ended.length === 0 ? "" : `; ended ${ended.length === 1 ? "1 process" : `${ended.length} processes`}`;
    throw new SystemFailure(`How the script ended is not known: ${running.lost()}${and}`);
  }
  await beforeAbort(drain(reader, Infinity, flow), signal);
  if (isToLeave(running, signal)) throw signal.reason;
  // An empty control group answers without a look at all processes of the machine.
  if (killLeftovers && cgroup?.pids().length !== 0 && (await findMembers(await belongingNow())).length > 0) {
    // What has just closed its output may be on its way out: that is no leftover.
    await pause(SETTLE_MS, never);
    const result = await end();
    if (result.ended.length > 0) await beforeAbort(drain(reader, Infinity, { ...flow, patienceMs: 0 }), signal);
    // Who could have printed more has been ended.
    if (isToLeave(running, signal)) await drain(reader, DRAIN_MS, { ...flow, patienceMs: 0 });
    sayEnded(say, result, killGraceMs, true);
  }
  return exit;
}
