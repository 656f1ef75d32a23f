import { execFile, execFileSync } from "node:child_process";
import { platform } from "node:process";
import { promisify } from "node:util";
import { printable } from "../common/say-ended.ts";
import type { Process, ProcessTable } from "./process-table.ts";

const run = promisify(execFile);
const OPTIONS = {
  encoding: "utf8",
  maxBuffer: 64 * 1024 * 1024,
  env: { LC_ALL: "C", PATH: "/bin:/usr/bin:/sbin:/usr/sbin" },
} as const;
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

/** The process table of macOS and the BSDs, through `ps`. Start times are whole seconds there. */
export function createPsTable(): ProcessTable {
  return {
    list: async () => parseLines((await run("ps", ["-axww", "-o", COLUMNS], OPTIONS)).stdout),
    find: (pid) => {
      try {
        return parseLines(execFileSync("ps", ["-ww", "-o", COLUMNS, "-p", String(pid)], OPTIONS))[0] ?? null;
      } catch {
        return null; // ps ends with status 1 when there is no such process
      }
    },
    marked: async (processes, entry) => {
      const showEnvironment = platform === "darwin" ? "-axwwE" : "-axwwe";
      const { stdout } = await run("ps", [showEnvironment, "-o", "pid=,command="], OPTIONS);
      const pids = new Set(
        stdout.split("\n").flatMap((line) => (` ${line} `.includes(` ${entry} `) ? Number.parseInt(line, 10) : [])),
      );
      return processes.filter((process) => pids.has(process.pid));
    },
    get bootId() {
      try {
        return execFileSync("sysctl", ["-n", "kern.boottime"], OPTIONS).trim();
      } catch {
        return "";
      }
    },
  };
}
