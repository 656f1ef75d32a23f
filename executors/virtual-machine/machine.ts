import { basename } from "node:path";
import { describeError, ScriptFailure, SystemFailure } from "../../src/errors.ts";
import type { HostPlaces } from "../../src/executor/deps.ts";
import type { Notes, PrepareRequest } from "../../src/executor/prepare.ts";
import type { Log } from "../../src/log.ts";
import { type SshSettings, sshCommands } from "../ssh/over-ssh.ts";
import { lookAtGuest, mustBeIt, setClock } from "./guest.ts";
import { openHostKeys } from "./host-key.ts";
import type { Address, Base, Hypervisor, Machine, Source } from "./hypervisor.ts";
import {
  forget,
  isMachineName,
  type KeptMachine,
  keep,
  keptFile,
  machineName,
  ofSlot,
  readKept,
  setAside,
} from "./kept.ts";
import { type Login, logInToMachine } from "./login.ts";
import { endOrphans } from "./orphans.ts";
import { type Held, type Places, within } from "./places.ts";

export interface MachineOptions {
  readonly hypervisor: Hypervisor;
  readonly places: Places;
  readonly host: HostPlaces;
  readonly log: Log;
  /** How to log in, but for host and port. */
  readonly ssh: SshSettings;
  readonly bootMs: number;
  readonly timeServer: string | undefined;
  /** Machines stay for the next job, which begins with the snapshot of the running machine. */
  readonly keeps: boolean;
}

/** A machine that is one job's: it runs, and somebody has logged in. */
export interface OpenMachine {
  readonly machine: Machine;
  readonly base: Base;
  readonly login: Login;
  /**
   * Switches the machine off, and resets it for the next job or removes it; its place is free then.
   * @throws {SystemFailure} it could not be done
   */
  leave(): Promise<void>;
}

/** Name of the snapshot of a machine that is ready for jobs. */
const SNAPSHOT = "Started";
/** Limit for letting a machine go, whatever has become of the job. */
export const LEAVE_MS = 5 * 60_000;

/**
 * @throws {ScriptFailure} the base is another job's
 * @throws {SystemFailure} there is no such base, or no copy of it that runs and answers; nothing half-made is left then
 */
export async function openMachine(
  options: MachineOptions,
  { request, baseName }: { readonly request: PrepareRequest; readonly baseName: string },
  notes: Notes,
  signal: AbortSignal,
): Promise<OpenMachine> {
  const { hypervisor, places, host, log, keeps } = options;
  const { jobKey, runnerId } = request;
  const base = await hypervisor.findBase(baseName, signal);
  // Hypervisors also find a machine by its identifier.
  if (base.name !== baseName && isMachineName(base.name)) {
    throw new ScriptFailure(`The virtual machine "${baseName}" is another job's: it can be nobody's image`);
  }
  const source = base.source ?? (await sourceOf(options, base, notes, signal));
  const slot = await places.take(`${hypervisor.name}-${runnerId}`, signal);
  const at = { hypervisor: hypervisor.name, runnerId, slot: slot.number, base: base.id };
  const file = keptFile(host.keepDir, at);
  let held: Held | null = null;
  let kept: KeptMachine | null = null;
  const note = async (next: KeptMachine): Promise<void> => {
    await keep(file, next);
    kept = next;
  };
  const settle = async (): Promise<void> => {
    const last = kept;
    if (last === null) return;
    await within(LEAVE_MS, `Letting the virtual machine "${last.name}" go`, (until) =>
      last.snapshot === null
        ? discardMachine(hypervisor, file, last, until)
        : hypervisor.powerOff(last, until).then(() => keep(file, { ...last, jobKey: null })),
    );
  };

  const leave = async (): Promise<void> => {
    const settling = settle().finally(() => held?.free());
    await slot.leave(settling);
    await settling;
  };

  try {
    held = await places.hold(basename(file), signal);
    await request.remember({ kind: "vm-job", file: basename(file) });
    const before = await readOrSetAside(file, { runnerId, slot: slot.number }, log);
    const job = { options, base, source, notes, note };
    let login: Login | null = null;
    if (before !== null) {
      const mine = { ...before, jobKey, usedAt: Date.now() };
      await note(mine);
      login = keeps ? await useAgain(job, mine, signal) : null;
      if (login === null) {
        await discardMachine(hypervisor, file, mine, signal);
        kept = null;
      }
    }
    if (login === null) {
      const machine = await hypervisor.introduce(machineName(base.name, runnerId, slot.number), signal);
      const { name, id, folder } = machine;
      const fresh = { name, id, folder, base: base.id, source: source.identity, snapshot: null };
      await note({ ...fresh, jobKey, usedAt: Date.now() });
      login = await makeNew(job, { ...fresh, jobKey, usedAt: Date.now() }, signal);
    }
    const opened = kept ?? before;
    if (opened === null) throw new Error("a machine that is open was written down");
    return {
      machine: opened,
      base,
      login,
      leave,
    };
  } catch (error) {
    await leave().catch((problem: unknown) => {
      const text = describeError(problem);
      log.error("cannot let a virtual machine go; the next job in its place tries again", { problem: text });
      notes.print(`What was made for the job is still there: ${text}`, "warning");
    });
    throw error;
  }
}

/** A file that cannot be read costs no job, but its machine is named: nobody else knows that it is the runner's. */
async function readOrSetAside(
  file: string,
  { runnerId, slot }: { readonly runnerId: string; readonly slot: number },
  log: Log,
): Promise<KeptMachine | null> {
  const kept = await readKept(file);
  if (kept !== "unreadable") return kept;
  log.error(
    `what was written down of a virtual machine cannot be read: it may still be there, and its name holds "${ofSlot(runnerId, slot)}". Remove it, then the file`,
    { file: await setAside(file) },
  );
  return null;
}

/** One caller at a time: a second snapshot or template of the same base would be one too many. */
async function sourceOf(
  { hypervisor, places }: MachineOptions,
  { id, name }: Base,
  notes: Notes,
  signal: AbortSignal,
): Promise<Source> {
  const make = async (): Promise<Source> => {
    const base = await hypervisor.findBase(name, signal);
    return base.source ?? (await hypervisor.makeSource(base, notes, signal));
  };
  return await places.alone(hypervisor.name, { id, name, source: null }, notes, make, signal);
}

interface JobMachine {
  readonly options: MachineOptions;
  readonly base: Base;
  readonly source: Source;
  readonly notes: Notes;
  note(next: KeptMachine): Promise<void>;
}

/** @returns `null`: it cannot be used again */
async function useAgain(job: JobMachine, machine: KeptMachine, signal: AbortSignal): Promise<Login | null> {
  const { options, base, source, notes } = job;
  const { hypervisor } = options;
  if (machine.snapshot === null) return null;
  if (machine.source !== source.identity) {
    notes.print(`"${base.name}" has changed: the virtual machine ${machine.name} is made anew`);
    return null;
  }
  try {
    const condition = await hypervisor.condition(machine, signal);
    if (condition.is === "absent") return null;
    if (condition.is !== "off") await hypervisor.powerOff(machine, signal);
    await hypervisor.restore(machine, machine.snapshot, signal);
    const at = await hypervisor.start(machine, signal);
    return await logIn(job, { machine, at }, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof SystemFailure) || !error.retry) throw error;
    notes.print(
      `The virtual machine ${machine.name} cannot be used again, and is made anew: ${describeError(error)}`,
      "warning",
    );
    return null;
  }
}

async function makeNew(job: JobMachine, planned: KeptMachine, signal: AbortSignal): Promise<Login> {
  const { options, base, source, notes, note } = job;
  const { hypervisor, places, log, keeps } = options;
  const clone = (): Promise<Machine> => hypervisor.clone(base, source, planned, signal);
  const cloned = await places.alone(hypervisor.name, base, notes, clone, signal);
  const made: KeptMachine = { ...planned, id: cloned.id, folder: cloned.folder };
  await note(made);
  notes.print(`Made the virtual machine ${made.name} of ${source.name}`);
  log.info("made a virtual machine", { machine: made.name, base: base.name });
  const at = await hypervisor.start(made, signal);
  const login = await logIn(job, { machine: made, at }, signal);
  if (!keeps) return login;
  // The connection cannot outlast the reset of its machine.
  login.connection.close();
  const snapshot = await hypervisor.snapshot(made, SNAPSHOT, signal);
  await note({ ...made, snapshot });
  return await logIn(job, { machine: made, at: login.address }, signal);
}

/** Logs in, makes sure that it is this machine, and sets its clock. */
async function logIn(
  { options, base, source, notes }: JobMachine,
  { machine, at }: { readonly machine: Machine; readonly at: Address | null },
  signal: AbortSignal,
): Promise<Login> {
  const { hypervisor, host, log, ssh, bootMs, timeServer } = options;
  const { keepDir } = host;
  const hostKeys = await openHostKeys(ssh.hostKeys, { keepDir, hypervisor: hypervisor.name, base, source });
  const login = await logInToMachine(
    {
      hypervisor,
      machine,
      at,
      bootMs,
      log,
      settingsAt: ({ host: name, port }) => ({ ...ssh, host: name, port, jump: null, hostKeys: hostKeys.policy }),
    },
    signal,
  );
  try {
    await hostKeys.remember();
    const commands = sshCommands(login.connection);
    const guest = await lookAtGuest(commands, signal);
    mustBeIt(guest, login.address.macs, machine);
    await setClock(guest, { hypervisor, machine, commands, timeServer }, notes, signal);
    return login;
  } catch (error) {
    login.connection.close();
    throw error;
  }
}

/** Removes the machine for good, and ends what a dead runner was still doing to it. */
export async function discardMachine(
  hypervisor: Hypervisor,
  file: string,
  machine: KeptMachine,
  signal: AbortSignal,
): Promise<void> {
  await endOrphans(hypervisor, machine, signal);
  await hypervisor.remove(machine, signal);
  await forget(file);
}
