import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { promisify } from "node:util";

/** A process of this machine that has not ended. */
export interface ListedProcess {
  readonly pid: number;
  readonly group: number;
  /** Its program and arguments, with blanks between them. */
  readonly args: string;
}

/** Linux's own table is read as it is: small systems and containers have no `ps`. */
export async function listProcesses(signal: AbortSignal): Promise<readonly ListedProcess[]> {
  return process.platform === "linux" ? await fromProc(signal) : await fromPs(signal);
}

async function fromProc(signal: AbortSignal): Promise<ListedProcess[]> {
  const found: ListedProcess[] = [];
  for (const name of await readdir("/proc")) {
    signal.throwIfAborted();
    if (!/^\d+$/.test(name)) continue;
    // What ends while it is read is not there.
    const stat = await readFile(`/proc/${name}/stat`, "latin1").catch(() => "");
    // `pid (name) state parent group …`; the name may hold anything.
    const [state = "Z", , group] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (stat === "" || /^[ZXx]$/.test(state)) continue;
    const args = await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "");
    found.push({ pid: Number(name), group: Number(group), args: args.replace(/\0+$/, "").replaceAll("\0", " ") });
  }
  return found;
}

async function fromPs(signal: AbortSignal): Promise<ListedProcess[]> {
  const { stdout } = await promisify(execFile)("ps", ["-axww", "-o", "pid=,pgid=,state=,args="], {
    maxBuffer: 64 * 1024 * 1024,
    signal,
  });
  return stdout.split("\n").flatMap((line) => {
    const [, pid, group, state = "Z", args = ""] = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
    return state.startsWith("Z") ? [] : [{ pid: Number(pid), group: Number(group), args }];
  });
}
