import { SystemFailure } from "../../../../src/errors.ts";
import { type RemoteCommands, runToEnd } from "../../../remote/index.ts";

/**
 * What an ENTRYPOINT has added to the environment of scripts, for the runner's next process. It may be secret, so it is in the
 * job's private volume and goes with that.
 */
const FILE = "entrypoint-environment";
const MOST_BYTES = 4 * 1024 * 1024;

interface Place {
  /** As the job's user. */
  readonly commands: RemoteCommands;
  readonly tmpDir: string;
}

/** @throws {SystemFailure} it cannot be kept */
export async function keepEnvironment(
  { commands, tmpDir }: Place,
  env: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  if (env.length === 0) return;
  const stdin = Buffer.from(env.map((entry) => `${entry}\0`).join(""));
  const script = `umask 077; cat >"$1/${FILE}"`;
  const { code, stderr } = await runToEnd(commands, { script, args: [tmpDir], stdin }, 1024, signal);
  if (code !== 0) {
    throw new SystemFailure(`What the ENTRYPOINT has set up cannot be kept: ${stderr.trim().slice(-500)}`);
  }
}

/** @throws {SystemFailure} it cannot be read */
export async function keptEnvironment({ commands, tmpDir }: Place, signal: AbortSignal): Promise<string[]> {
  const script = `[ ! -e "$1/${FILE}" ] || cat "$1/${FILE}"`;
  const { code, stdout, stderr } = await runToEnd(commands, { script, args: [tmpDir] }, MOST_BYTES, signal);
  if (code !== 0) {
    throw new SystemFailure(`what the ENTRYPOINT had set up cannot be read: ${stderr.trim().slice(-500)}`);
  }
  return stdout
    .toString("utf8")
    .split("\0")
    .filter((entry) => entry !== "");
}
