import { closeSync, constants, openSync, renameSync } from "node:fs";
import { uptime } from "node:os";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import type { ScriptKeeping } from "../../../src/executor/environment.ts";
import { never, pause } from "../../../src/time.ts";
import { type AttendantTools, attended } from "../../common/durable/attend.ts";
import { PIECE_READS, READ_BYTES, type Root, readEnd, writeBlankFiles } from "../../common/durable/files.ts";
import { waitingIn } from "../../common/durable/pieces.ts";
import { readScript, type ScriptReader, type Trouble } from "../../common/durable/reader.ts";
import { forward } from "../../common/processes/forward.ts";
import { exitOf } from "../../common/processes/program.ts";
import { sayerOf, sayingTo } from "../../common/processes/say-ended.ts";
import type { ScriptRoom } from "../places/run-rooms.ts";
import type { Cgroup } from "../processes/cgroup.ts";
import type { ProcessTable } from "../processes/process-table.ts";
import { markedSession, signalSession } from "../processes/tree.ts";
import { startSession } from "./attached.ts";
import type { RunningScript, ShellCall } from "./running.ts";

export interface DurableHost {
  readonly tools: AttendantTools;
  readonly table: ProcessTable;
  /** `NAME=value` in the environment of attendants, too. */
  readonly mark: string;
  /** Where attendants are; `null`: there are no control groups. */
  readonly attendants: Cgroup | null;
  /** Sessions that are looked into by their own scripts only. */
  readonly sessions: Pick<Set<number>, "delete"> & { add(pid: number): void };
}

/** A script that has stopped its own attendant waits for its status no longer than this. */
const WAKE_MS = 1000;
const FOUNDING_MS = 2;
const FOUNDING_TRIES = 1000;
const PIPE_BYTES = 1024 * 1024;

/** A script that stood still for less is not worth a word. */
const NOTICED_MS = 1000;

interface Ends {
  readonly pumpFd: number;
  readonly writeFd: number;
  readonly lifeFd: number;
  readonly heldFd: number;
}

/**
 * The shell below an attendant, in a session of its own, with its output in files: it goes on when this process is gone.
 * The room is left with `close`.
 */
export async function startDurable(
  host: DurableHost,
  room: ScriptRoom,
  { argv, environment, cgroup, input }: ShellCall,
  output: Writable,
  keeping: ScriptKeeping | undefined,
): Promise<RunningScript> {
  const { directory, windowBytes } = room;
  const ends = await openEnds(room);
  const read = openRead(room, ends.lifeFd, 0, keeping);
  let pid: number;
  try {
    keeping?.begins({ kind: "shell-script", directory, windowBytes });
    const program = attended(argv, {
      tools: host.tools,
      directory,
      windowBytes,
      scriptDoor: cgroup?.door ?? "/dev/null",
      attendantDoor: host.attendants?.door ?? "/dev/null",
    });
    const stdio = [input, "ignore", "ignore", ends.pumpFd, ends.writeFd, ends.heldFd] as const;
    const started = await startSession(program, environment, stdio);
    started.child.unref();
    pid = started.pid;
  } catch (error) {
    read.reader.close();
    throw error;
  } finally {
    for (const fd of [ends.pumpFd, ends.writeFd, ends.heldFd]) closeSync(fd);
  }
  const attendant = { pid, startedAt: host.table.find(pid)?.startedAt ?? 0 };
  host.sessions.add(pid);
  return follow(host, room, read, attendant, { output, keeping });
}

/** Goes on with a script that was begun before, perhaps by another process. `null`: its shell never was there. */
export async function resumeDurable(
  host: DurableHost,
  room: ScriptRoom,
  output: Writable,
  keeping: ScriptKeeping,
  from: number,
): Promise<RunningScript | null> {
  let lifeFd: number;
  try {
    lifeFd = openSync(join(room.directory, "life"), constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new SystemFailure("How the script ended is not known: somebody removed the runner's files", { cause });
  }
  const waiting = readEnd(room.directory) === null ? waitingIn(room.directory) : null;
  const stoodMs = waiting !== null && waiting.bytes >= room.windowBytes ? Date.now() - waiting.since : 0;
  const read = openRead(room, lifeFd, from, keeping);
  // Where one is about to come, it is there in a moment.
  const root = await read.reader.root;
  if (root === null) {
    read.reader.close();
    return null;
  }
  const carriers = await markedSession(host.table, root.attendant, host.mark);
  // Where none is left its number may be that of another job's.
  if (carriers.length > 0) host.sessions.add(root.attendant);
  const startedAt = carriers.find(({ pid }) => pid === root.attendant)?.startedAt ?? 0;
  const attendant = { pid: root.attendant, startedAt, isGone: carriers.length === 0 };
  if (stoodMs >= NOTICED_MS) {
    // A clock that was set tells nothing.
    const about = stoodMs <= uptime() * 1000 ? `for about ${roughly(stoodMs / 1000)} ` : "";
    const say = keeping.aside ?? keeping.say;
    say(`The script stood still ${about}while nobody read its output`, "warning");
  }
  const hadEnded = host.table.find(root.pid)?.startedAt !== root.startedAt;
  return follow(host, room, read, attendant, { output, keeping, hadEnded });
}

interface Read {
  readonly reader: ScriptReader;
  /** Called with what went wrong, also before it was set. */
  onTrouble(tell: (trouble: Trouble) => void): void;
}

function openRead({ directory }: ScriptRoom, lifeFd: number, from: number, keeping: ScriptKeeping | undefined): Read {
  const early: Trouble[] = [];
  let tell = (one: Trouble): void => void early.push(one);
  const reader = readScript({
    directory,
    lifeFd,
    from,
    ...(keeping === undefined ? {} : { settled: () => keeping.settled() }),
    onTrouble: (one) => tell(one),
  });
  return {
    reader,
    onTrouble(listener) {
      tell = listener;
      for (const one of early.splice(0)) listener(one);
    },
  };
}

interface Attendant {
  readonly pid: number;
  /** 0: it is not known. */
  readonly startedAt: number;
  /** Nothing is left of it and what it started to move output. */
  readonly isGone?: boolean;
}

interface Told {
  readonly output: Writable;
  readonly keeping: ScriptKeeping | undefined;
  /** Its shell had when it was found. */
  readonly hadEnded?: boolean;
}

/** Hands on what a script prints, as `RunningScript` has it. */
function follow(
  { table, mark, sessions }: DurableHost,
  room: ScriptRoom,
  { reader, onTrouble }: Read,
  attendant: Attendant,
  { output, keeping, hadEnded = false }: Told,
): RunningScript {
  const forwarding = forward(reader.output, output);
  const say = sayerOf(keeping, sayingTo(output, forwarding));
  onTrouble((one) => say("warning", inWords(one, room)));
  const waker = setInterval(() => {
    if (root !== null && table.find(root.pid)?.startedAt !== root.startedAt) {
      void signalSession(table, attendant.pid, mark, "SIGCONT");
    }
  }, WAKE_MS);
  waker.unref();
  let root: Root | null = null;
  void reader.root.then((found) => {
    root = found;
  });
  void reader.code.then(() => clearInterval(waker));
  const leave = (): void => {
    clearInterval(waker);
    forwarding.close();
    reader.close();
    if (attendant.isGone !== true) sessions.delete(attendant.pid);
  };

  return {
    reader: forwarding,
    leader: reader.root.then(async (found) => {
      const shell = await foundedBy(table, found);
      return shell === null ? null : { ...shell, ...(hadEnded && { endedBy: null }) };
    }),
    since: attendant.startedAt,
    exited: reader.code.then((code) => (code === null ? null : exitOf(code))),
    capacityBytes: room.windowBytes + PIECE_READS * READ_BYTES + PIPE_BYTES,
    lost: () =>
      reader.isThere() ? "the process that waited for it was killed" : "somebody removed the runner's files",
    close: async () => {
      // What still moves output has nobody to move it to.
      if (!reader.complete) await signalSession(table, attendant.pid, mark, "SIGKILL");
      leave();
    },
    leave,
  };
}

/** The shell, once it has founded its session: before that nobody can tell what it starts. */
async function foundedBy(table: ProcessTable, root: Root | null): Promise<Root | null> {
  for (let tries = 0; root !== null && tries < FOUNDING_TRIES; tries++) {
    const now = table.find(root.pid);
    if (now === null || now.startedAt !== root.startedAt || now.session === root.pid) break;
    await pause(FOUNDING_MS, never);
  }
  return root;
}

/** The files that are there before anything starts, and both pipes. */
async function openEnds({ directory, pipes }: ScriptRoom): Promise<Ends> {
  const lifePath = await pipes.takeNamed();
  const { readFd, writeFd } = await pipes.take();
  const fds = [readFd, writeFd];
  const opened = (path: string, flags: number): number => {
    const fd = openSync(path, flags);
    fds.push(fd);
    return fd;
  };
  try {
    writeBlankFiles(directory);
    const life = join(directory, "life");
    renameSync(lifePath, life);
    const lifeFd = opened(life, constants.O_RDONLY | constants.O_NONBLOCK);
    const heldFd = opened(life, constants.O_WRONLY);
    // The runner's end does not block; the pump's has to, so it is opened anew.
    const pumpFd = opened(`/proc/self/fd/${readFd}`, constants.O_RDONLY);
    closeSync(readFd);
    return { pumpFd, writeFd, lifeFd, heldFd };
  } catch (cause) {
    for (const fd of fds) closeSync(fd);
    throw new SystemFailure(`Cannot make the files of a script in ${directory}`, { cause, retry: true });
  }
}

function roughly(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

function inWords(trouble: Trouble, { where }: ScriptRoom): string {
  switch (trouble.kind) {
    case "lost": {
      const bytes = trouble.reads * READ_BYTES;
      return trouble.why === "full"
        ? `[at most ${bytes} bytes of output were lost: no space in ${where}]`
        : `[at most ${bytes} bytes of output may be lost: what saves it was killed]`;
    }
    case "removed":
      return `[${trouble.bytes} bytes of output were lost: somebody removed the runner's files]`;
    case "unended":
      return "The end of the output may be missing: its writer was killed";
  }
}
