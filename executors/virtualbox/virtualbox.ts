import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { SystemFailure } from "../../src/errors.ts";
import { pause } from "../../src/time.ts";
import type { MachineHost } from "../virtual-machine/define.ts";
import type { Address, Condition, Hypervisor, Machine } from "../virtual-machine/hypervisor.ts";
import { type States, settled, switchOff, versionOf } from "../virtual-machine/states.ts";
import { type Call, COPY_MS, createTool, QUICK_MS, STATE_MS } from "../virtual-machine/tool.ts";
import { type MachineInfo, parseInfo, parseMachineList } from "./info.ts";
import { removeLeftovers } from "./leftovers.ts";
import { freePort, isFree } from "./ports.ts";

export interface VirtualBoxOptions extends MachineHost {
  /** `base_snapshot` */
  readonly baseSnapshot: string | undefined;
  readonly baseFolder: string | undefined;
  readonly startType: string;
  /** Copies that go with their job need no snapshot of the base. */
  readonly disableSnapshots: boolean;
}

/** Its name in the settings of a machine, as the Go runner has it. */
const RULE = "guestssh";
const DEFAULT_SNAPSHOT = "Base State";

/** `VBOX_E_INVALID_OBJECT_STATE`: another process has the machine, such as its own, which has not ended yet. */
const BUSY = /\(0x80bb0007\)/i;
const BUSY_MS = 30_000;
const LOOK_MS = 250;

const OFF: ReadonlySet<string> = new Set(["poweroff", "saved", "aborted", "aborted-saved", "teleported"]);
const BROKEN: ReadonlySet<string> = new Set(["paused", "gurumeditation", "stuck", "<inaccessible>"]);

function vboxManage(environment: Readonly<Record<string, string | undefined>>): string {
  // VirtualBox's installer for Windows does not add its folder to PATH.
  const folder = environment.VBOX_MSI_INSTALL_PATH ?? environment.VBOX_INSTALL_PATH;
  return process.platform === "win32" && folder !== undefined ? join(folder, "VBoxManage.exe") : "VBoxManage";
}

/** VirtualBox on this machine, by its own command line. */
export function openVirtualBox(options: VirtualBoxOptions): Hypervisor {
  const { baseSnapshot, baseFolder, startType, disableSnapshots, guestPort, environment, workingDirectory } = options;
  const tool = createTool({ name: "VBoxManage", program: vboxManage(environment), environment, workingDirectory });

  /** VirtualBox lets a machine go a moment after it is off, so a call that finds it busy is tried again. */
  const patient = async (call: Call, signal: AbortSignal): Promise<string> => {
    const end = performance.now() + BUSY_MS;
    for (;;) {
      const answer = await tool.ask(call, signal);
      if (answer.code === 0) return answer.stdout;
      if (!BUSY.test(answer.stderr) || performance.now() > end) throw tool.failure(call, answer);
      await pause(LOOK_MS, signal);
    }
  };

  const listed = async (signal: AbortSignal) =>
    parseMachineList(
      await tool.run({ args: ["list", "vms"], task: "list the virtual machines", limitMs: QUICK_MS }, signal),
    );

  /** `null`: there is none. @param handle a name or an identifier */
  const infoOf = async (handle: string, shown: string, signal: AbortSignal): Promise<MachineInfo | null> => {
    const call: Call = {
      args: ["showvminfo", handle, "--machinereadable"],
      task: `look at the virtual machine "${shown}"`,
      limitMs: QUICK_MS,
    };
    const answer = await tool.ask(call, signal);
    if (answer.code === 0) {
      const info = parseInfo(answer.stdout);
      if (info !== null) return info;
    }
    const known = (await listed(signal)).some(({ id, name }) => id === handle || name === handle);
    if (!known) return null;
    throw answer.code === 0 ? tool.nonsense(call) : tool.failure(call, answer);
  };

  const mustBeThere = async (machine: Machine, signal: AbortSignal): Promise<MachineInfo> => {
    const info = await infoOf(handleOf(machine), machine.name, signal);
    if (info !== null) return info;
    throw new SystemFailure(`The virtual machine "${machine.name}" is not there any more: somebody has removed it`, {
      retry: true,
    });
  };

  const forward = async (machine: Machine, info: MachineInfo, verb: "modifyvm" | "controlvm", signal: AbortSignal) => {
    const [adapter] = info.natAdapters;
    if (adapter === undefined) {
      throw new SystemFailure(
        `The virtual machine "${machine.name}" has no network adapter that is attached to NAT, by which its sshd could be reached. Attach one of its base's: VBoxManage modifyvm NAME --nic1 nat`,
        { reason: "runner_configuration_error" },
      );
    }
    const task = `lead a port of this machine to the sshd of "${machine.name}"`;
    // A rule that was copied from the base leads to the base's port, so it is replaced.
    const option = verb === "modifyvm" ? `--natpf${adapter}` : `natpf${adapter}`;
    const change = (...args: string[]): Promise<string> =>
      patient({ args: [verb, handleOf(machine), option, ...args], task, limitMs: QUICK_MS }, signal);
    if (info.forwardings.some(({ name }) => name === RULE)) await change("delete", RULE);
    await change(`${RULE},tcp,127.0.0.1,${await freePort()},,${guestPort}`);
  };

  const states: States<MachineInfo> = {
    find: (machine, signal) => infoOf(handleOf(machine), machine.name, signal),
    stateOf: ({ state }) => state,
  };

  const powerOff = (machine: Machine, signal: AbortSignal): Promise<void> =>
    switchOff(
      { tool, ...states, isOff: (state) => OFF.has(state) },
      machine,
      ["controlvm", handleOf(machine), "poweroff"],
      signal,
    );

  return {
    name: "virtualbox",
    title: "VirtualBox",
    program: tool.name,
    version: (signal) => versionOf(tool, "VirtualBox", /^\d+\.\d+\.\d+\S*$/m, signal),
    findBase: async (name, signal) => {
      const info = await infoOf(name, name, signal);
      if (info === null || (info.name !== name && info.id !== name)) {
        throw new SystemFailure(
          `There is no virtual machine "${name}" in VirtualBox. "VBoxManage list vms" shows those that the account of the runner has: machines of other accounts are not among them`,
          { reason: "runner_configuration_error" },
        );
      }
      const wanted = info.snapshots.find(({ id, name: own }) => own === baseSnapshot || id === baseSnapshot);
      const snapshot = baseSnapshot === undefined ? info.currentSnapshot : (wanted ?? null);
      const source =
        snapshot !== null
          ? { identity: snapshot.id, name: `the snapshot "${snapshot.name}" of "${info.name}"` }
          : disableSnapshots
            ? { identity: "", name: `"${info.name}"` }
            : null;
      return { id: info.id, name: info.name, source };
    },
    makeSource: async (base, notes, signal) => {
      const info = await infoOf(base.id, base.name, signal);
      if (info !== null && !OFF.has(info.state)) {
        throw new SystemFailure(
          `The virtual machine "${base.name}" is ${info.state} and has no snapshot that copies could be made of. Shut it down, or make one of a state that jobs may begin with`,
          { reason: "runner_configuration_error", retry: true },
        );
      }
      const name = baseSnapshot ?? DEFAULT_SNAPSHOT;
      notes.print(`Making the snapshot "${name}" of "${base.name}", which copies are made of from now on`);
      await patient(
        {
          args: ["snapshot", base.id, "take", name],
          task: `make a snapshot of the virtual machine "${base.name}"`,
          limitMs: STATE_MS,
        },
        signal,
      );
      const made = (await infoOf(base.id, base.name, signal))?.snapshots.find(({ name: own }) => own === name);
      if (made === undefined) {
        throw new SystemFailure(`The snapshot "${name}" of "${base.name}" was made and is not there`, { retry: true });
      }
      return { identity: made.id, name: `the snapshot "${name}" of "${base.name}"` };
    },
    introduce: async (name, signal) => {
      const folder = baseFolder ?? (await defaultFolder(signal));
      return { name, id: randomUUID(), folder };
    },
    clone: async (base, source, machine, signal) => {
      const linked = source.identity === "" ? [] : ["--snapshot", source.identity, "--options", "link"];
      const folder = baseFolder === undefined ? [] : ["--basefolder", baseFolder];
      await patient(
        {
          args: [
            "clonevm",
            base.id,
            "--mode",
            "machine",
            "--name",
            machine.name,
            "--uuid",
            handleOf(machine),
            ...folder,
            "--register",
            ...linked,
          ],
          task: `copy the virtual machine "${base.name}"`,
          limitMs: COPY_MS,
          advice: "See whether the machine is off, and whether its disks have room",
        },
        signal,
      );
      await forward(machine, await mustBeThere(machine, signal), "modifyvm", signal);
      return machine;
    },
    condition: async (machine, signal): Promise<Condition> => {
      const info = await infoOf(handleOf(machine), machine.name, signal);
      if (info === null) return { is: "absent" };
      if (info.state === "running") return { is: "running", how: info.state };
      const is = OFF.has(info.state) ? "off" : BROKEN.has(info.state) ? "broken" : "changing";
      return { is, how: info.state };
    },
    start: async (machine, signal) => {
      const before = await mustBeThere(machine, signal);
      const port = addressIn(before)?.port;
      // Another program may have taken the port between two jobs.
      const taken = port === undefined || !(await isFree(port));
      await patient(
        {
          args: ["startvm", handleOf(machine), "--type", startType],
          task: `start the virtual machine "${machine.name}"`,
          limitMs: STATE_MS,
          advice: "See in VirtualBox's log of the machine why, and whether this host has memory for it",
        },
        signal,
      );
      const done = (state: string): boolean => state === "running" || OFF.has(state);
      const after = await settled(states, machine, { done, task: "start" }, signal);
      if (!taken) return after === null ? null : addressIn(after);
      await forward(machine, before, "controlvm", signal);
      return null;
    },
    address: async (machine, signal) => {
      return addressIn(await mustBeThere(machine, signal));
    },
    snapshot: async (machine, name, signal) => {
      await patient(
        {
          args: ["snapshot", handleOf(machine), "take", name],
          task: `make a snapshot of the virtual machine "${machine.name}"`,
          limitMs: STATE_MS,
          advice: "See whether its disks have room for what it has in memory, or set disable_snapshots",
        },
        signal,
      );
      const made = (await mustBeThere(machine, signal)).currentSnapshot;
      if (made?.name === name) return made.id;
      throw new SystemFailure(`The snapshot of the virtual machine "${machine.name}" was made and is not there`, {
        retry: true,
      });
    },
    restore: async (machine, snapshot, signal) => {
      await patient(
        {
          args: ["snapshot", handleOf(machine), "restore", snapshot],
          task: `take the virtual machine "${machine.name}" back to its snapshot`,
          limitMs: STATE_MS,
        },
        signal,
      );
    },
    powerOff,
    remove: async (machine, signal) => {
      await powerOff(machine, signal);
      const unregister = (...more: string[]): Call => ({
        args: ["unregistervm", handleOf(machine), ...more],
        task: `remove the virtual machine "${machine.name}"`,
        limitMs: STATE_MS,
        advice: "Remove it by hand",
      });
      const isListed = async (): Promise<boolean> => (await listed(signal)).some(({ id }) => id === handleOf(machine));
      if (await isListed()) {
        await patient(unregister("--delete"), signal).catch(async (error: unknown) => {
          signal.throwIfAborted();
          // A machine whose files are not whole cannot be deleted, but it can be forgotten.
          if (!(await isListed())) return;
          if ((await tool.ask(unregister(), signal)).code !== 0) throw error;
        });
      }
      if (machine.folder !== null) await removeLeftovers(tool, { folder: machine.folder, name: machine.name }, signal);
    },
  };

  async function defaultFolder(signal: AbortSignal): Promise<string | null> {
    const call: Call = {
      args: ["list", "systemproperties"],
      task: "look at the settings of VirtualBox",
      limitMs: QUICK_MS,
    };
    return /^Default machine folder:\s+(.+?)\s*$/m.exec(await tool.run(call, signal))?.[1] ?? null;
  }
}

function addressIn({ forwardings, macs }: MachineInfo): Address | null {
  const port = forwardings.find(({ name }) => name === RULE)?.hostPort;
  return port === undefined ? null : { host: "127.0.0.1", port, macs };
}

function handleOf({ id, name }: Machine): string {
  return id ?? name;
}
