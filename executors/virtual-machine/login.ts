import { describeError, SystemFailure } from "../../src/errors.ts";
import type { Log } from "../../src/log.ts";
import { deadline, pause } from "../../src/time.ts";
import { connectSsh, type SshConnection, type SshSettings } from "../ssh/over-ssh.ts";
import type { Address, Hypervisor, Machine } from "./hypervisor.ts";

/** A login in a machine, and a way to get another one. */
export interface Login {
  readonly connection: SshConnection;
  readonly address: Address;
  connect(signal: AbortSignal): Promise<SshConnection>;
}

export interface LoginOptions {
  readonly hypervisor: Hypervisor;
  readonly machine: Machine;
  /** The address that starting the machine gave; `null`: it has to be asked for. */
  readonly at: Address | null;
  /** The settings for the host and the port that the machine turns out to have. */
  readonly settingsAt: (address: Address) => SshSettings;
  readonly bootMs: number;
  readonly log: Log;
}

const ADDRESS_PAUSE_MS = 500;
const WATCH_MS = 2000;
/** A forwarded port accepts connections before anything listens behind it. */
const CONNECT_MS = 10_000;

/**
 * Logs in to a machine that has been started, as soon as its sshd answers, and notices if the machine goes off
 * meanwhile.
 * @throws {SystemFailure} it has no address or no sshd in time, went off, or takes no such login
 */
export async function logInToMachine(options: LoginOptions, signal: AbortSignal): Promise<Login> {
  const { hypervisor, machine, at, settingsAt, bootMs, log } = options;
  const limit = `${bootMs / 1000} s (boot_timeout in [runners.${hypervisor.name}])`;
  const tooLong = new SystemFailure(
    `The virtual machine "${machine.name}" has no address after ${limit}. See on its screen whether it boots, and whether it gets one`,
    { retry: true },
  );
  const end = performance.now() + bootMs;
  using clock = deadline(signal, bootMs, tooLong);
  const gone = new AbortController();
  const life = AbortSignal.any([clock.signal, gone.signal]);
  const over = new AbortController();
  const watching = watch(options, gone, AbortSignal.any([life, over.signal]));
  try {
    let address = at ?? (await hypervisor.address(machine, life));
    while (address === null) {
      await pause(ADDRESS_PAUSE_MS, life);
      address = await hypervisor.address(machine, life);
    }
    const found = address;
    const settings = settingsAt(found);
    const quick = { ...settings, connectTimeoutMs: Math.min(settings.connectTimeoutMs, CONNECT_MS) };
    try {
      const patienceMs = Math.max(0, end - performance.now() - 50);
      // A forwarded port answers and hangs up while no sshd listens behind it.
      const connection = await connectSsh(
        quick,
        { log, patienceMs, busyMs: 0 },
        AbortSignal.any([signal, gone.signal]),
      );
      return { connection, address: found, connect: (until) => connectSsh(settings, { log }, until) };
    } catch (error) {
      signal.throwIfAborted();
      if (gone.signal.aborted || !(error instanceof SystemFailure) || !error.retry) throw error;
      throw new SystemFailure(
        `No sshd answers in the virtual machine "${machine.name}" within ${limit}: ${describeError(error)}. See on its screen whether it boots; its base must start sshd by itself, on the port of [runners.ssh]`,
        { cause: error, retry: true },
      );
    }
  } catch (error) {
    throw gone.signal.aborted && !signal.aborted ? gone.signal.reason : error;
  } finally {
    over.abort(new Error("there is a login"));
    await watching;
  }
}

/** Fails once the machine is off, as it will not boot any more. */
async function watch(
  { hypervisor, machine, log }: LoginOptions,
  gone: AbortController,
  signal: AbortSignal,
): Promise<void> {
  try {
    for (;;) {
      await pause(WATCH_MS, signal);
      const condition = await hypervisor.condition(machine, signal);
      if (condition.is === "running" || condition.is === "changing") continue;
      const how = condition.is === "absent" ? "is not there any more" : `is ${condition.how}`;
      gone.abort(
        new SystemFailure(
          `The virtual machine "${machine.name}" ${how}, while its sshd was waited for. See in ${hypervisor.title}'s log why`,
          { retry: true },
        ),
      );
      return;
    }
  } catch (error) {
    if (!signal.aborted) log.debug("cannot look at a virtual machine", { problem: describeError(error) });
  }
}
