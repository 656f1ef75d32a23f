import type { Duplex } from "node:stream";
import { Stop, SystemFailure } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import { backoff, deadline, pause } from "../../../src/time.ts";
import type { SshHost, SshSettings } from "../settings.ts";
import { dial } from "./dial.ts";
import { type Credentials, type LoginFailure, logIn, readCredentials } from "./handshake.ts";
import { type SshConnection, serve } from "./served.ts";

export type { SshConnection } from "./served.ts";

export interface ConnectOptions {
  readonly log: Log;
  /** How long to go on trying while the host cannot be reached; 0 is one attempt. */
  readonly patienceMs?: number;
  /** How long where the host answers and hangs up, at least; by default a minute, for it is busy with others then. */
  readonly busyMs?: number;
}

/** A host that answers and hangs up has too many logins under way (`MaxStartups`): that passes. */
const BUSY_PATIENCE_MS = 60_000;

/**
 * Log in to the host, by way of `jump` if there is one. Host keys are checked before anything secret is sent.
 * @throws {SystemFailure} `retry` tells a host that is away from a key or a password that is wrong
 */
export async function connectSsh(
  settings: SshSettings,
  { log, patienceMs = 0, busyMs = BUSY_PATIENCE_MS }: ConnectOptions,
  signal: AbortSignal,
): Promise<SshConnection> {
  const startMs = performance.now();
  const waits = backoff({ firstMs: 500, maxMs: 5000 });
  for (;;) {
    const result = await attempt(settings, log, signal);
    if (!("failure" in result)) return result;
    const { failure, busy } = result;
    const waitMs = waits.next();
    const endMs = startMs + (busy ? Math.max(busyMs, patienceMs) : patienceMs);
    if (!failure.retry || performance.now() + waitMs > endMs) throw failure;
    log.debug("Logging in again", { error: failure, waitMs: Math.round(waitMs) });
    await pause(waitMs, signal);
  }
}

export function nameOf({ user, host, port }: SshHost): string {
  return `${user}@${host}${port === 22 ? "" : `:${port}`}`;
}

async function attempt(settings: SshSettings, log: Log, signal: AbortSignal): Promise<SshConnection | LoginFailure> {
  const { connectTimeoutMs, jump } = settings;
  const name = nameOf(settings);
  const tooLong = new Stop("timed_out", `Cannot log in to ${name}: no answer within ${connectTimeoutMs / 1000} s`);
  using limit = deadline(signal, connectTimeoutMs, tooLong);
  let before: Open | null = null;
  try {
    const credentials = await readCredentials(settings);
    if (jump !== null) {
      const first = await readCredentials(jump);
      const line = await dial(jump, limit.signal);
      const way = await open({ target: jump, credentials: first, line }, settings, log, limit.signal);
      if ("failure" in way) return way;
      before = way;
    }
    const line =
      before === null
        ? await dial(settings, limit.signal)
        : await before.connection.forward(settings.host, settings.port, limit.signal);
    const opened = await open({ target: settings, credentials, line }, settings, log, limit.signal);
    if ("failure" in opened) {
      before?.connection.close();
      return opened;
    }
    const way = before?.connection;
    if (way !== undefined) opened.connection.lost.addEventListener("abort", () => way.close(), { once: true });
    return opened.connection;
  } catch (error) {
    before?.connection.close();
    if (signal.aborted) throw signal.reason;
    if (limit.signal.aborted) {
      const failure = new SystemFailure(tooLong.message, { retry: true, reason: "runner_external_dependency_failure" });
      return { failure, busy: false };
    }
    if (error instanceof SystemFailure) return { failure: error, busy: false };
    throw error;
  }
}

interface Open {
  readonly connection: SshConnection;
}

async function open(
  { target, credentials, line }: { target: SshHost; credentials: Credentials; line: Duplex },
  { keepAliveMs, maxSessions }: SshSettings,
  log: Log,
  signal: AbortSignal,
): Promise<Open | LoginFailure> {
  const name = nameOf(target);
  const login = await logIn(target, credentials, line, { name, keepAliveMs }, signal);
  if ("failure" in login) return login;
  if (login.unchecked) {
    log.warn(`The host key of ${name} was not checked, as disable_strict_host_key_checking says: it may be anybody`);
  }
  return { connection: serve(login.client, line, { name, keepAliveMs, maxSessions }) };
}
