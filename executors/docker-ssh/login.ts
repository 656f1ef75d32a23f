import { isDeepStrictEqual } from "node:util";
import { describeError, SystemFailure } from "../../src/errors.ts";
import type { Notes } from "../../src/executor/prepare.ts";
import type { Log } from "../../src/log.ts";
import { pause } from "../../src/time.ts";
import { passOn } from "../common/notes.ts";
import type { ContainerView } from "../docker/own-command.ts";
import { connectSsh, type SshConnection, type SshSettings } from "../ssh/over-ssh.ts";
import { hostKeyFingerprints } from "./host-keys.ts";

/** How long an image's sshd may take to answer. */
const PATIENCE_MS = 60_000;
const PAUSE_MS = 250;

/** A container of the job's image that was started. */
export interface Started {
  readonly container: ContainerView;
  /** The trace. */
  readonly notes: Notes;
}

/**
 * Log in to the sshd of a container that has just been started. Its host keys are read in the container itself, so that what
 * answers is this container and no other machine.
 * @throws {SystemFailure} nothing answers, or the container ended: its image must start sshd
 */
export async function logInToContainer(
  started: Started,
  settings: SshSettings,
  { log, patienceMs = PATIENCE_MS }: { readonly log: Log; readonly patienceMs?: number },
  signal: AbortSignal,
): Promise<{ readonly connection: SshConnection; readonly settings: SshSettings }> {
  const { container } = started;
  const end = performance.now() + patienceMs;
  let refused: SshSettings | null = null;
  for (;;) {
    await mustRun(started, signal);
    let known: SshSettings | null = null;
    try {
      known = await withHostKeys(container, settings, signal);
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
          `No sshd answers in the container of the image ${container.image} within ${patienceMs / 1000} s: ${describeError(error)}${await showOutput(started, signal)}`,
          // What an image starts is the same each time.
          { retry: false, reason: "runner_configuration_error", cause: error },
        );
      }
    }
    await pause(PAUSE_MS, signal);
  }
}

/** @throws {SystemFailure} the container has ended: its image must start sshd */
export async function mustRun(started: Started, signal: AbortSignal): Promise<void> {
  const { container } = started;
  const state = await container.state(signal);
  if (state?.running === true) return;
  const status = state === null ? "" : ` with status ${state.exitCode}`;
  const output = state === null ? "" : await showOutput(started, signal);
  throw new SystemFailure(
    `The container of the image ${container.image} ended${status} before its sshd answered: the image's own command must start sshd in the foreground${output}`,
    { reason: "runner_configuration_error" },
  );
}

/**
 * Whoever cannot log in to a job's container any more does not try for long where that has ended.
 * @throws {SystemFailure} that it has ended, or what was wrong with the login
 */
export async function failAsEnded(
  { container }: Pick<Started, "container">,
  error: unknown,
  signal: AbortSignal,
): Promise<never> {
  signal.throwIfAborted();
  // An engine that does not answer says nothing of its containers.
  const state = await container.state(signal).catch(() => undefined);
  if (!(error instanceof SystemFailure) || state === undefined || state?.running === true) throw error;
  throw new SystemFailure(
    `The container of the image ${container.image} ${state === null ? "was removed" : `ended with status ${state.exitCode}`} in mid-job, and its sshd with it`,
    { reason: "runner_external_dependency_failure", cause: error },
  );
}

/** Shows what a container printed at last. @returns the end of a sentence that says so */
async function showOutput({ container, notes }: Started, signal: AbortSignal): Promise<string> {
  const log = await container.log(signal).catch((error: unknown) => {
    signal.throwIfAborted();
    return describeError(error);
  });
  if (log.trim() === "") return "; it printed nothing";
  passOn(notes, `${log.trimEnd()}\n`);
  return "; its last output is above";
}

/**
 * What an operator has said about host keys counts; else the container's own keys. An address alone is no proof: the engine may
 * work on another machine than its socket is on, whose network has the same addresses.
 * @returns `null`: there are no keys that could be read (yet)
 * @throws {SystemFailure} they cannot be looked for, which may be because the container has just ended
 */
async function withHostKeys(
  container: ContainerView,
  settings: SshSettings,
  signal: AbortSignal,
): Promise<SshSettings | null> {
  if (settings.hostKeys.any || settings.hostKeys.fingerprints.length > 0) return settings;
  const fingerprints = await hostKeyFingerprints(container, signal).catch((cause: unknown) => {
    signal.throwIfAborted();
    throw new SystemFailure(`its host keys cannot be read: ${describeError(cause)}`, { retry: true, cause });
  });
  if (fingerprints.length === 0) return null;
  return { ...settings, hostKeys: { fingerprints, knownHostsFiles: [], any: false, own: true } };
}
