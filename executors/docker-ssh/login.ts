import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { describeError, SystemFailure } from "../../src/errors.ts";
import type { Log } from "../../src/log.ts";
import { pause } from "../../src/time.ts";
import { containerCommands, runForText } from "../docker/commands.ts";
import { inspectState } from "../docker/container.ts";
import type { Engine } from "../docker/engine.ts";
import { connectSsh, type SshConnection } from "../ssh/connection/connection.ts";
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
  let refused: SshSettings | null = null;
  for (;;) {
    await mustRun(engine, { id, image }, signal);
    let known: SshSettings | null = null;
    try {
      known = await withHostKeys(engine, id, settings, signal);
      if (known === null) {
        throw new SystemFailure(
          "its host keys are neither in /etc/ssh, nor where its sshd_config says, nor Dropbear's. Name them in host_key_fingerprint of [runners.ssh], or set disable_strict_host_key_checking",
          { retry: true, reason: "runner_configuration_error" },
        );
      }
      return { connection: await connectSsh(known, { log }, signal), settings: known };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof SystemFailure)) throw error;
      if (!error.retry) {
        // A start script may have replaced the image's keys after they were read.
        if (known?.hostKeys.own !== true || isDeepStrictEqual(refused, known)) throw error;
        refused = known;
      }
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

/**
 * What an operator has said about host keys counts; else the container's own keys. An address alone is no proof: the engine may
 * work on another machine than its socket is on, whose network has the same addresses.
 * @returns `null`: there are no keys that could be read (yet)
 * @throws {SystemFailure} they cannot be looked for, which may be because the container has just ended
 */
async function withHostKeys(
  engine: Engine,
  id: string,
  settings: SshSettings,
  signal: AbortSignal,
): Promise<SshSettings | null> {
  if (settings.hostKeys.any || settings.hostKeys.fingerprints.length > 0) return settings;
  const commands = containerCommands({ engine, container: id, name: "the build container", user: "0" });
  const program = { script: READ_HOST_KEYS, args: [] };
  const { stdout } = await runForText(commands, program, signal).catch((cause: unknown) => {
    signal.throwIfAborted();
    throw new SystemFailure(`its host keys cannot be read: ${describeError(cause)}`, { retry: true, cause });
  });
  const fingerprints = stdout.split("\n").flatMap((line) => {
    const [, key] = /^(?:ssh-|ecdsa-|sk-)\S+ ([A-Za-z0-9+/]+=*)(?: |$)/.exec(line) ?? [];
    if (key === undefined) return [];
    return [`SHA256:${createHash("sha256").update(Buffer.from(key, "base64")).digest("base64").replace(/=+$/, "")}`];
  });
  if (fingerprints.length === 0) return null;
  return { ...settings, hostKeys: { fingerprints, knownHostsFiles: [], any: false, own: true } };
}

/** Public host keys, one a line: of OpenSSH where its configuration says and where they are by default, of Dropbear. */
const READ_HOST_KEYS = `
configured() {
  sed -n 's/^[[:blank:]]*[Hh][Oo][Ss][Tt][Kk][Ee][Yy][[:blank:]]\\{1,\\}"\\{0,1\\}\\([^"]*[^"[:blank:]]\\)"\\{0,1\\}[[:blank:]]*$/\\1/p' \\
    /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf /usr/local/etc/ssh/sshd_config
}
{
  configured | while IFS= read -r key; do cat "$key.pub" || ssh-keygen -y -f "$key" </dev/null; done
  cat /etc/ssh/ssh_host_*_key.pub
  for key in /etc/dropbear/dropbear_*_host_key; do [ ! -f "$key" ] || dropbearkey -y -f "$key"; done
} 2>/dev/null
:
`;
