import { closeSync, constants, openSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { SystemFailure } from "../../../src/errors.ts";
import type { ScriptKeeping } from "../../../src/executor.ts";
import { type AttendantTools, attended } from "../../common/durable/attend.ts";
import { BLANK_FILES, OUTPUT_FORMAT, PIECE_READS, READ_BYTES, type Root } from "../../common/durable/files.ts";
import { readScript, type Trouble } from "../../common/durable/reader.ts";
import { forward } from "../../common/processes/forward.ts";
import { exitOf } from "../../common/processes/program.ts";
import { say } from "../../common/processes/say-ended.ts";
import type { ScriptRoom } from "../places/run-rooms.ts";
import type { Cgroup } from "../processes/cgroup.ts";
import type { ProcessTable } from "../processes/process-table.ts";
import { signalSession } from "../processes/tree.ts";
import { startSession } from "./attached.ts";
import type { RunningScript, ShellCall } from "./running.ts";

export interface DurableHost {
  readonly tools: AttendantTools;
  readonly table: ProcessTable;
  /** Where attendants are; `null`: there are no control groups. */
  readonly attendants: Cgroup | null;
  /** Sessions that are looked into by their own scripts only. */
  readonly sessions: Set<number>;
}

/** A script that has stopped its own attendant waits for its status no longer than this. */
const WAKE_MS = 1000;
const PIPE_BYTES = 1024 * 1024;

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
  const { table, sessions } = host;
  const ends = await openEnds(room);
  const trouble: Trouble[] = [];
  let tell = (one: Trouble): void => void trouble.push(one);
  const reader = readScript({
    directory,
    lifeFd: ends.lifeFd,
    from: 0,
    ...(keeping === undefined ? {} : { settled: () => keeping.settled() }),
    onTrouble: (one) => tell(one),
  });
  let pid: number;
  try {
    keeping?.begins({ kind: "shell-script", directory });
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
    reader.close();
    throw error;
  } finally {
    for (const fd of [ends.pumpFd, ends.writeFd, ends.heldFd]) closeSync(fd);
  }
  const attendant = { pid, startedAt: table.find(pid)?.startedAt ?? 0 };
  sessions.add(pid);
  const forwarding = forward(reader.output, output);
  tell = (one) => say(output, forwarding, "warning", inWords(one, room));
  for (const one of trouble) tell(one);
  const waker = setInterval(() => {
    if (root !== null && table.find(root.pid)?.startedAt !== root.startedAt) {
      void signalSession(table, attendant, "SIGCONT");
    }
  }, WAKE_MS);
  waker.unref();
  let root: Root | null = null;
  void reader.root.then((found) => {
    root = found;
  });
  void reader.code.then(() => clearInterval(waker));

  return {
    reader: forwarding,
    leader: reader.root,
    since: attendant.startedAt,
    exited: reader.code.then((code) => (code === null ? null : exitOf(code))),
    capacityBytes: windowBytes + PIECE_READS * READ_BYTES + PIPE_BYTES,
    lost: () =>
      reader.isThere() ? "the process that waited for it was killed" : "somebody removed the runner's files",
    close: async () => {
      clearInterval(waker);
      forwarding.close();
      // What still moves output has nobody to move it to.
      if (!reader.complete) await signalSession(table, attendant, "SIGKILL");
      reader.close();
      sessions.delete(pid);
    },
  };
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
    for (const [name, bytes] of Object.entries(BLANK_FILES)) {
      writeFileSync(join(directory, name), " ".repeat(bytes), { mode: 0o600, flag: "wx" });
    }
    writeFileSync(join(directory, "v"), `${OUTPUT_FORMAT}\n`, { mode: 0o600, flag: "wx" });
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
