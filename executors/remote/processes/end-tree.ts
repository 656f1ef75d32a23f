import { SystemFailure } from "../../../src/errors.ts";
import { deadline } from "../../../src/time.ts";
import { type Ended, type NamedProcess, printable } from "../../common/processes/say-ended.ts";
import type { RemoteCommands } from "../commands.ts";
import { lastLine, runToEnd } from "../run-to-end.ts";
import { END_TREE } from "./process-programs.ts";

/** What waits for the shell of a script, in the script's session, as it introduced itself. */
export interface ScriptRoot {
  readonly pid: number;
  /** Process group and session; 0 where unknown. */
  readonly group: number;
  readonly session: number;
  /** When it started, in the place's own unit: with `pid` it names a process for good. */
  readonly startedAt: string;
}

export interface EndTreeOptions {
  /** `jobMark(jobKey)`, or one of its scripts' that begins with it: stands in the environment of all that was started. */
  readonly mark: string;
  /** `null`: the mark alone has to do, as at the end of a job or after a crash. */
  readonly root: ScriptRoot | null;
  /** From SIGTERM to SIGKILL, milliseconds. */
  readonly graceMs: number;
  /** From SIGKILL until survivors are given up, milliseconds. */
  readonly limitMs: number;
}

const MOST_ANSWER_BYTES = 4 * 1024 * 1024;
/** For finding and signalling, besides the waits that were asked for. */
const MARGIN_MS = 30_000;

/** How `NAME=value` in the environment of all that a job starts begins. The dot ends the key: no key begins another. */
export function jobMark(jobKey: string): string {
  return `ALLOY_RUNNER_JOB_KEY=${jobKey}.`;
}

function parseEnded(text: string): Ended | null {
  const found: Record<"E" | "K" | "S", NamedProcess[]> = { E: [], K: [], S: [] };
  const lines = text.split("\n");
  if (lines.at(-2) !== "end") return null;
  for (const line of lines) {
    const match = /^([EKS]) (\d{1,10})(?: (.*))?$/.exec(line);
    const [, kind, pid, name = ""] = match ?? [];
    if (kind !== "E" && kind !== "K" && kind !== "S") continue;
    found[kind].push({ pid: Number(pid), name: printable(name.slice(0, 64)) || "?" });
  }
  return { ended: found.E, killed: found.K, survived: found.S };
}

/**
 * End all processes of a job, or of one of its scripts: SIGTERM, grace, SIGKILL. Nothing that belongs is left when this
 * resolves, or `survived` names it. Never itself, what it was started by, PID 1, or a stranger.
 * @throws {SystemFailure} it is not known what became of them
 */
export async function endTree(commands: RemoteCommands, options: EndTreeOptions, signal: AbortSignal): Promise<Ended> {
  const { mark, root, graceMs, limitMs } = options;
  const patienceMs = graceMs + limitMs + MARGIN_MS;
  const late = new SystemFailure(`The job's processes were not ended within ${patienceMs / 1000} s`);
  using limit = deadline(signal, patienceMs, late);
  const its = root === null ? ["", "", "", ""] : [root.pid, root.group, root.session, root.startedAt].map(String);
  const args = [mark, ...its, String(Math.ceil(graceMs)), String(Math.ceil(limitMs))];
  const { stdout, stderr } = await runToEnd(commands, { script: END_TREE, args }, MOST_ANSWER_BYTES, limit.signal);
  const ended = parseEnded(stdout.toString("utf8"));
  if (ended === null) {
    throw new SystemFailure(`Whether the job's processes have ended is not known: ${lastLine(stderr) || "no answer"}`);
  }
  return ended;
}
