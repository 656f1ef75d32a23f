import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { platform } from "node:process";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { printable } from "../../common/processes/say-ended.ts";
import type { Process, ProcessTable } from "./process-table.ts";

const run = promisify(execFile);
const env = { LC_ALL: "C", PATH: "/bin:/usr/bin:/sbin:/usr/sbin" };
/** A table of 100,000 processes has a tenth of it. */
const MOST_BYTES = 64 * 1024 * 1024;
/** For an answer of one line: it holds everything up. */
const ONE = { encoding: "utf8", maxBuffer: 64 * 1024, timeout: 5000, env } as const;
const ALL = { encoding: "utf8", maxBuffer: MOST_BYTES, timeout: 30_000, env } as const;
/** More than the system gives any program to start with. */
const LONGEST_LINE = 2 * 1024 * 1024;
const COLUMNS = "pid=,ppid=,pgid=,state=,lstart=,ucomm=";

/** `12 1 12 S Sun Nov 22 14:37:01 2026 name`. What stands for a session is a kernel address on some, so it stays out. */
function parseLine(line: string): Process | null {
  const match = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(\S+\s+\S+\s+\d+\s+\S+\s+\d+)\s+(.*)$/.exec(line);
  if (match === null) return null;
  const [, pid, parent, group, state = "", started = "", name = ""] = match;
  if (state.startsWith("Z")) return null;
  return {
    pid: Number(pid),
    parent: Number(parent),
    group: Number(group),
    session: 0,
    startedAt: Date.parse(started),
    name: printable(name),
  };
}

function parseLines(text: string): Process[] {
  return text.split("\n").flatMap((line) => parseLine(line) ?? []);
}

/**
 * Numbers of the processes whose environment holds `entry`. It is read as it comes and nothing of it is kept: with many processes
 * it is large.
 */
async function markedPids(entry: string, uid: number | null): Promise<Set<number>> {
  const show = platform === "darwin" ? "-wwE" : "-wwe";
  const whose = uid === null ? ["-ax"] : ["-x", "-U", String(uid)];
  const ps = spawn("ps", [...whose, show, "-o", "pid=,command="], {
    stdio: ["ignore", "pipe", "ignore"],
    timeout: ALL.timeout,
    killSignal: "SIGKILL",
    env,
  });
  const ended = once(ps, "close");
  const found = new Set<number>();
  for await (const line of createInterface({ input: ps.stdout })) {
    if (line.length <= LONGEST_LINE && ` ${line} `.includes(` ${entry} `)) found.add(Number.parseInt(line, 10));
  }
  await ended;
  return found;
}

/** The process table of macOS and the BSDs, through `ps`. Start times are whole seconds there. */
export function createPsTable(): ProcessTable {
  return {
    list: async () => parseLines((await run("ps", ["-axww", "-o", COLUMNS], ALL)).stdout),
    find: (pid) => {
      try {
        return parseLines(execFileSync("ps", ["-ww", "-o", COLUMNS, "-p", String(pid)], ONE))[0] ?? null;
      } catch {
        return null; // ps ends with status 1 when there is no such process
      }
    },
    marked: async (processes, entry, uid) => {
      if (processes.length === 0) return [];
      const pids = await markedPids(entry, uid);
      return processes.filter((process) => pids.has(process.pid));
    },
    // Start times are told by a clock that can be set back.
    now: () => 0,
    byNow: () => Infinity,
    get bootId() {
      try {
        return execFileSync("sysctl", ["-n", "kern.boottime"], ONE).trim();
      } catch {
        return "";
      }
    },
  };
}
