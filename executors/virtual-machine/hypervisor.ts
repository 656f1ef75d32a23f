import type { Notes } from "../../src/executor/prepare.ts";

/** A machine of the operator's that is copied. Nothing of it is changed but that a snapshot or a template is made of it. */
export interface Base {
  /** The hypervisor's identifier, which never changes. */
  readonly id: string;
  /** The name that people give it. */
  readonly name: string;
  /** What copies are made from: a snapshot, a template, or the machine itself. `null`: it has to be made first. */
  readonly source: Source | null;
}

export interface Source {
  /** Changes with the base: copies of another identity are of no use. */
  readonly identity: string;
  /** For the trace: `its snapshot "Base State"`. */
  readonly name: string;
}

/** A copy that this runner made. Part of its name is random, so that nobody else's machine is taken for it. */
export interface Machine {
  readonly name: string;
  /** The hypervisor's identifier, which never changes; `null` while it is not known. */
  readonly id: string | null;
  /** The directory of its files, for hypervisors that may leave some behind. */
  readonly folder: string | null;
}

export type Condition =
  /** The hypervisor knows no such machine. */
  | { readonly is: "absent" }
  /** `how`: in its words. */
  | { readonly is: "off" | "running" | "changing" | "broken"; readonly how: string };

/** Where a machine's sshd can be reached from here. */
export interface Address {
  readonly host: string;
  readonly port: number;
  /** Hardware addresses of its network adapters, 12 hex digits each, lower case: the guest is recognized by them. */
  readonly macs: readonly string[];
}

/** Everything that takes long obeys its signal, and says in its failures which machine, which command, and what to do. */
export interface Hypervisor {
  /** Name of the executor and its table: `virtualbox`. */
  readonly name: string;
  /** `VirtualBox` */
  readonly title: string;
  /** Name of the hypervisor's program, as its processes are called. */
  readonly program: string;
  /**
   * The version, for the log.
   * @throws {SystemFailure} the program is not there, or says nothing
   */
  version(signal: AbortSignal): Promise<string>;
  /** @throws {SystemFailure} there is none of this name */
  findBase(name: string, signal: AbortSignal): Promise<Base>;
  /** Makes what `findBase` did not find. Nobody else does so for the same base at the same time. */
  makeSource(base: Base, notes: Notes, signal: AbortSignal): Promise<Source>;
  /** What is known of a machine before it exists, so that it can be written down. */
  introduce(name: string, signal: AbortSignal): Promise<Machine>;
  /**
   * Copies the base, which nobody else copies at the same time.
   * @returns the machine, with what is known of it now
   */
  clone(base: Base, source: Source, machine: Machine, signal: AbortSignal): Promise<Machine>;
  condition(machine: Machine, signal: AbortSignal): Promise<Condition>;
  /**
   * The machine runs when this resolves.
   * @returns its address, where that is known by then
   */
  start(machine: Machine, signal: AbortSignal): Promise<Address | null>;
  /** `null`: it has no address yet. */
  address(machine: Machine, signal: AbortSignal): Promise<Address | null>;
  /**
   * Takes a snapshot of the running machine.
   * @returns its id
   */
  snapshot(machine: Machine, name: string, signal: AbortSignal): Promise<string>;
  /** Resets a machine, running or not, to a snapshot; it may run afterwards, or not. */
  restore(machine: Machine, snapshot: string, signal: AbortSignal): Promise<void>;
  /**
   * Switches the machine off at once, as if by pulling the plug; it is off when this resolves. It may be off or absent
   * before.
   */
  powerOff(machine: Machine, signal: AbortSignal): Promise<void>;
  /** Removes the machine with its disks and all that a broken-off copy has left. It may run or be absent. */
  remove(machine: Machine, signal: AbortSignal): Promise<void>;
  /** Run a small program in the guest as its administrator, where the hypervisor has a way of its own. @returns whether it succeeded */
  asRoot?(machine: Machine, script: string, signal: AbortSignal): Promise<boolean>;
}
