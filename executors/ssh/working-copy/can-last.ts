import type { Notes } from "../../../src/executor/prepare.ts";
import { type RemoteCommands, runToEnd } from "../../remote/index.ts";

/** Programs that a script needs which outlives its connection, besides the shell. */
const NEEDED = ["dd", "tail", "wc", "cat", "sleep", "mkdir"] as const;

/**
 * Prints `missing NAME` for each program that is not there, and `killed` where systemd ends all that an account runs when it logs out
 * (`KillUserProcesses`, without lingering).
 */
const PROBE = `for program do command -v "$program" >/dev/null 2>&1 || echo "missing $program"; done
bus="busctl --timeout=2 get-property org.freedesktop.login1"
[ "$($bus /org/freedesktop/login1 org.freedesktop.login1.Manager KillUserProcesses 2>/dev/null)" = "b true" ] || exit 0
[ -e "/var/lib/systemd/linger/$(id -un)" ] || echo killed
`;

/** Why a host lets nothing outlive its connection, and what to do about it. */
interface Obstacle {
  readonly why: string;
  readonly remedy: string;
}

/** @returns `null`: scripts can outlive their connection there */
export async function obstacleToLasting(
  commands: RemoteCommands,
  host: string,
  signal: AbortSignal,
): Promise<Obstacle | null> {
  const { stdout } = await runToEnd(commands, { script: PROBE, args: [...NEEDED] }, 4096, signal);
  const lines = stdout.toString("utf8").split("\n");
  const missing = lines.flatMap((line) => (line.startsWith("missing ") ? line.slice("missing ".length) : []));
  if (missing.length > 0)
    return { why: `${host} has no ${missing.join(", ")}`, remedy: "Install what is missing there" };
  if (!lines.includes("killed")) return null;
  return {
    why: `systemd of ${host} ends what an account runs when it logs out (KillUserProcesses)`,
    remedy: 'Let it go on with "loginctl enable-linger" there',
  };
}

/** Whether scripts on a host can outlive their connection; if not, why is said in the trace. */
export async function canLast(
  commands: RemoteCommands,
  host: string,
  notes: Pick<Notes, "print">,
  signal: AbortSignal,
): Promise<boolean> {
  const obstacle = await obstacleToLasting(commands, host, signal);
  if (obstacle !== null) notes.print(`A lost connection ends this job: ${obstacle.why}. ${obstacle.remedy}`, "warning");
  return obstacle === null;
}
