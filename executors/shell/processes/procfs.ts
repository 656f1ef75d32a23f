import { closeSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import { printable } from "../../common/processes/say-ended.ts";
import { entrySearch } from "./marked.ts";
import type { Process, ProcessTable } from "./process-table.ts";
import { createStartTimes } from "./start-times.ts";

/** Processes looked at before others get a turn: about a millisecond. */
const SLICE = 100;

/** Start times are told in hundredths of a second, whatever the kernel's own clock is. */
const TICKS = 100;
/** Of start times, which are cut to whole ticks, and of what `/proc/uptime` says. */
const DOUBT_TICKS = 10;

/** `pid (name) state parent group session …`, the start time as 22nd; `name` may hold anything, `)` too. */
function parseStat(pid: number, stat: string): (Process & { readonly hasEnded: boolean }) | null {
  const open = stat.indexOf("(");
  const close = stat.lastIndexOf(")");
  if (open < 0 || close < open) return null;
  const fields = stat.slice(close + 2).split(" ");
  const [state] = fields;
  return {
    hasEnded: state === "Z" || state === "X" || state === "x",
    pid,
    parent: Number(fields[1]),
    group: Number(fields[2]),
    session: Number(fields[3]),
    startedAt: Number(fields[19]),
    name: printable(stat.slice(open + 1, close)),
  };
}

/** The process table of Linux. What vanishes while it is read, or may not be read, is not there. */
export function createProcfsTable(proc: string): ProcessTable {
  const buffer = Buffer.allocUnsafe(1024);

  /** What a small file begins with. Only for those that the kernel makes without a look at the process's own memory. */
  const head = (path: string): string => {
    try {
      const fd = openSync(path, "r");
      try {
        return buffer.toString("utf8", 0, readSync(fd, buffer, 0, buffer.length, 0));
      } finally {
        closeSync(fd);
      }
    } catch {
      return "";
    }
  };
  const look = (pid: number): ReturnType<typeof parseStat> => parseStat(pid, head(`${proc}/${pid}/stat`));
  const find = (pid: number): Process | null => {
    const found = look(pid);
    return found === null || found.hasEnded ? null : found;
  };

  const startTimes = createStartTimes(proc);
  const scan = async (since: number): Promise<readonly Process[]> => {
    const found: Process[] = [];
    let looked = 0;
    startTimes.refresh();
    for (const name of readdirSync(proc)) {
      const pid = Number(name);
      if (!Number.isInteger(pid) || (startTimes.get(pid) ?? since) < since) continue;
      if (++looked % SLICE === 0) await nextTurn();
      const process = look(pid);
      if (process === null) continue;
      startTimes.set(pid, process.startedAt);
      if (!process.hasEnded) found.push(process);
    }
    return found;
  };

  const ticks = (): number => Math.floor(Number.parseFloat(head(`${proc}/uptime`)) * TICKS);

  let running: Promise<readonly Process[]> | null = null;
  let queued: Promise<readonly Process[]> | null = null;
  let queuedSince = Number.POSITIVE_INFINITY;
  const start = (since: number): Promise<readonly Process[]> => {
    running = scan(since).finally(() => {
      running = null;
    });
    return running;
  };
  /** A scan that is under way may have passed what the caller looks for; the next one serves all that came meanwhile. */
  const list = (since = 0): Promise<readonly Process[]> => {
    if (running === null) return start(since);
    queuedSince = Math.min(queuedSince, since);
    queued ??= running
      .catch(() => {})
      .then(() => {
        const earliest = queuedSince;
        queued = null;
        queuedSince = Number.POSITIVE_INFINITY;
        return start(earliest);
      });
    return queued;
  };

  /** Real, effective, saved or file system id: a program with more rights than the account is still the account's. */
  const isOf = (pid: number, uid: number): boolean => {
    const ids = /^Uid:\t(.*)$/m.exec(head(`${proc}/${pid}/status`))?.[1] ?? "";
    return ids.split("\t").includes(String(uid));
  };

  return {
    list,
    find,
    marked: async (processes, entry, uid) => {
      const found: Process[] = [];
      const holdsEntry = entrySearch(entry);
      for (const [index, process] of processes.entries()) {
        if ((index + 1) % SLICE === 0) await nextTurn();
        if (uid !== null && !isOf(process.pid, uid)) continue;
        if (await holdsEntry(`${proc}/${process.pid}/environ`)) found.push(process);
      }
      return found;
    },
    now: () => Math.max(0, (ticks() || 0) - DOUBT_TICKS),
    byNow: () => (ticks() || Infinity) + DOUBT_TICKS,
    get bootId() {
      try {
        return readFileSync(`${proc}/sys/kernel/random/boot_id`, "latin1").trim();
      } catch {
        return "";
      }
    },
  };
}
