import { describeError, SystemFailure } from "../../../src/errors.ts";
import type { Log } from "../../../src/log.ts";
import { deadline, pause } from "../../../src/time.ts";
import { lastLine } from "../../remote/index.ts";
import type { Provider } from "../../scaler/index.ts";
import { connectSsh, createSessionLimit, type SshConnection, sshCommands } from "../../ssh/over-ssh.ts";
import type { Cloud, InstanceConnection } from "../providers/instance.ts";
import type { Connector } from "../settings/table.ts";
import { knock } from "./knock.ts";
import type { KnownInstances } from "./known.ts";
import { addressOf, loginSettings, MAX_STARTUPS } from "./login.ts";

/** An instance as jobs come to it. */
export interface Reached {
  readonly id: string;
  /** For traces: `i-0abc`, with its addresses where they are wanted there. */
  describe(): string;
  /** What its provider says of it now. */
  connection(signal: AbortSignal): Promise<InstanceConnection>;
  /** @throws {SystemFailure} it lets nobody in */
  logIn(patienceMs: number, signal: AbortSignal): Promise<SshConnection>;
}

export interface ReachSettings {
  readonly connector: Connector;
  readonly readyCommand: string;
  /** Longest that it may run. */
  readonly readyMs: number;
  readonly logInternal: boolean;
  readonly logExternal: boolean;
}

export interface ReachOptions {
  readonly cloud: Cloud;
  readonly known: KnownInstances;
  /** Asked for at each login. */
  readonly settings: () => ReachSettings;
  readonly workingDirectory: string;
  readonly log: Log;
}

const PAUSE_MS = 2_000;
/** How long a new instance's address is believed in, while nobody answers there. */
const ASK_AGAIN_MS = 30_000;

/** Instances of a cloud as somebody who logs in to them has them. */
export interface ReachableCloud extends Provider<Reached> {
  /** One that may be nobody's, such as that of a dead job. `null`: it is gone. */
  find(id: string, signal: AbortSignal): Promise<Reached | null>;
}

export function reachable({ cloud, known, settings, workingDirectory, log }: ReachOptions): ReachableCloud {
  const open = (id: string): OpenInstance => {
    const logins = createSessionLimit(MAX_STARTUPS);
    let connection: InstanceConnection | null = null;
    const current = async (signal: AbortSignal): Promise<InstanceConnection> => {
      if (connection === null || (connection.expires !== undefined && Date.now() >= connection.expires)) {
        connection = await cloud.connect(id, signal);
      }
      return connection;
    };
    return {
      id,
      forget: () => {
        connection = null;
      },
      connection: current,
      describe: () => {
        const { logInternal, logExternal } = settings();
        const shown = [
          logInternal ? connection?.internal?.host : undefined,
          logExternal ? connection?.external?.host : undefined,
        ].filter((one) => one !== undefined);
        return shown.length === 0 ? id : `${id} (${shown.join(", ")})`;
      },
      async logIn(patienceMs, signal) {
        const login = await logins.take(signal);
        try {
          let seen: string | null = null;
          const firstUse = (fingerprint: string): void => {
            seen = fingerprint;
          };
          const { connector } = settings();
          const { hostKey } = known.of(id);
          const to = { id, connection: await current(signal), connector, hostKey, firstUse, workingDirectory };
          const made = await connectSsh(loginSettings(to), { log, patienceMs }, signal);
          if (seen !== null) await known.learn(id, { hostKey: seen });
          return made;
        } finally {
          login.free();
        }
      },
    };
  };

  /** A new one may let nobody in for a while, whatever the reason: its system makes accounts and keys while it boots. */
  const firstLogin = async (instance: OpenInstance, signal: AbortSignal): Promise<SshConnection> => {
    const { patienceMs } = settings().connector;
    const begin = performance.now();
    let askedAt = begin;
    let said = false;
    for (;;) {
      try {
        return await instance.logIn(0, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof SystemFailure)) throw error;
        const now = performance.now();
        if (now - begin > patienceMs) {
          const message = `nobody could log in within ${Math.round(patienceMs / 1000)} s: ${describeError(error)}`;
          throw new SystemFailure(message, { cause: error });
        }
        if (!error.retry && !said)
          log.warn("an instance lets nobody in yet", { instance: instance.id, problem: describeError(error) });
        said ||= !error.retry;
        if (now - askedAt > ASK_AGAIN_MS) {
          instance.forget();
          askedAt = now;
        }
      }
      await pause(PAUSE_MS, signal);
    }
  };

  const makeReady = async ({ id }: Reached, connection: SshConnection, signal: AbortSignal): Promise<void> => {
    const { readyCommand, readyMs } = settings();
    if (readyCommand.trim() !== "") {
      const tooLong = new SystemFailure(`instance_ready_command takes longer than ${Math.round(readyMs / 1000)} s`);
      using limit = deadline(signal, readyMs, tooLong);
      const command = { script: readyCommand, args: [] };
      const { stdout, exit } = await sshCommands(connection).start(command, limit.signal);
      stdout.resume();
      const { code, stderr } = await exit;
      const line = lastLine(stderr);
      if (code !== 0) {
        throw new SystemFailure(`instance_ready_command ended with status ${code}${line === "" ? "" : `: ${line}`}`);
      }
    }
    await known.learn(id, { ready: true });
  };

  return {
    async init(signal) {
      await known.load();
      await cloud.init(signal);
    },
    async list(signal) {
      const seen = await cloud.list(signal);
      await known.keepOnly(new Set(seen.map(({ id }) => id)));
      return seen;
    },
    grow: (count, signal) => cloud.grow(count, signal),
    shrink: (ids, signal) => cloud.shrink(ids, signal),
    async connect(id, signal) {
      const instance = open(id);
      const connection = await firstLogin(instance, signal);
      try {
        if (!known.of(id).ready) await makeReady(instance, connection, signal);
      } finally {
        connection.close();
      }
      return instance;
    },
    async check(id, instance, signal) {
      const connection = await instance.connection(signal);
      await cloud.check(id, connection, signal);
      await knock(addressOf(id, connection, settings().connector), signal);
    },
    async find(id, signal) {
      await known.load();
      return (await cloud.exists(id, signal)) ? open(id) : null;
    },
    close: (signal) => cloud.close(signal),
  };
}

interface OpenInstance extends Reached {
  /** What is known of its address and logins is asked for anew. */
  forget(): void;
}
