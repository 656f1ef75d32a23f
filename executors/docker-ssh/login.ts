import { createHash } from "node:crypto";
import { describeError, SystemFailure } from "../../src/errors.ts";
import type { Log } from "../../src/log.ts";
import { pause } from "../../src/time.ts";
import { containerCommands, runForText } from "../docker/commands.ts";
import { inspectState } from "../docker/container.ts";
import type { Engine } from "../docker/engine.ts";
import { connectSsh, type SshConnection } from "../ssh/connection.ts";
import type { SshSettings } from "../ssh/settings.ts";

/** How long an image's sshd may take to answer. */
const PATIENCE_MS = 60_000;
const PAUSE_MS = 250;

/**
 * Log in to the sshd of a container that has just been started. Its host keys are read in the container itself, so that what
 * answers is this container and no other machine.
 * @throws {SystemFailure} nothing answers, or the container ended: its image must start sshd
 */
export async function logInToContainer(
  engine: Engine,
  { id, image }: { id: string; image: string },
  settings: SshSettings,
  log: Log,
  signal: AbortSignal,
): Promise<{ readonly connection: SshConnection; readonly settings: SshSettings }> {
  const end = performance.now() + PATIENCE_MS;
  for (;;) {
    await mustRun(engine, { id, image }, signal);
    const known = await withHostKeys(engine, id, settings, signal);
    try {
      return { connection: await connectSsh(known, { log }, signal), settings: known };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof SystemFailure) || !error.retry) throw error;
      if (performance.now() > end) {
        throw new SystemFailure(
          `No sshd answers in the container of the image ${image} within ${PATIENCE_MS / 1000} s: ${describeError(error)}`,
          { retry: true, cause: error },
        );
      }
    }
    await pause(PAUSE_MS, signal);
  }
}

/** @throws {SystemFailure} the container has ended: its image must start sshd */
export async function mustRun(
  engine: Engine,
  { id, image }: { id: string; image: string },
  signal: AbortSignal,
): Promise<void> {
  const state = await inspectState(engine, id, "the build container", signal);
  if (state?.running === true) return;
  throw new SystemFailure(
    `The container of the image ${image} ended${state === null ? "" : ` with status ${state.exitCode}`} before its sshd answered: the image's own command must start sshd in the foreground`,
    { reason: "runner_configuration_error" },
  );
}

/** What an operator has said about host keys counts; else the container's own keys, where they can be read. */
async function withHostKeys(
  engine: Engine,
  id: string,
  settings: SshSettings,
  signal: AbortSignal,
): Promise<SshSettings> {
  if (settings.hostKeys.fingerprints.length > 0) return settings;
  const commands = containerCommands({ engine, container: id, name: "the build container", user: "0" });
  const read = { script: "cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null || :", args: [] };
  const { stdout } = await runForText(commands, read, signal);
  const fingerprints = stdout.split("\n").flatMap((line) => {
    const [, key] = /^\S+ ([A-Za-z0-9+/]+=*)(?: |$)/.exec(line) ?? [];
    if (key === undefined) return [];
    return [`SHA256:${createHash("sha256").update(Buffer.from(key, "base64")).digest("base64").replace(/=+$/, "")}`];
  });
  // An sshd that keeps its keys elsewhere is reached over the job's own network, on this machine.
  const any = fingerprints.length === 0;
  return { ...settings, hostKeys: { fingerprints, knownHostsFiles: [], any } };
}
