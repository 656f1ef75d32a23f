import { readFile } from "node:fs/promises";
import { SystemFailure } from "../../src/errors.ts";
import type { MachineHost } from "../virtual-machine/define.ts";
import type { Base, Condition, Hypervisor, Machine, Source } from "../virtual-machine/hypervisor.ts";
import { type States, settled, switchOff, versionOf } from "../virtual-machine/states.ts";
import { type Call, COPY_MS, createTool, QUICK_MS, STATE_MS } from "../virtual-machine/tool.ts";
import { currentSnapshot, type Listed, leasedAddress, type MachineInfo, parseInfo, parseList } from "./answers.ts";

export interface ParallelsOptions extends MachineHost {
  readonly baseName: string;
  /** Name of the template from which copies of `baseName` are made. */
  readonly templateName: string | undefined;
  /** Of this machine, as Node calls it: on Apple's own processors macOS guests have neither templates nor snapshots. */
  readonly architecture?: string;
  /** Where Parallels writes down which guest has which address. */
  readonly leasesFile?: string;
}

const LEASES = "/Library/Preferences/Parallels/parallels_dhcp_leases";

const OFF: ReadonlySet<string> = new Set(["stopped", "suspended"]);
const BROKEN: ReadonlySet<string> = new Set(["paused", "invalid", "unknown"]);

/** Parallels Desktop on this machine, by its own command line. */
export function openParallels(options: ParallelsOptions): Hypervisor {
  const { baseName, templateName, guestPort, environment, workingDirectory } = options;
  const { architecture = process.arch, leasesFile = LEASES } = options;
  const tool = createTool({ name: "prlctl", program: "prlctl", environment, workingDirectory });

  const list = async (what: readonly string[], signal: AbortSignal): Promise<Listed[]> => {
    const task = "list the virtual machines";
    const args = ["list", "--all", ...what, "--json"];
    const found = parseList(await tool.run({ args, task, limitMs: QUICK_MS }, signal));
    if (found === null) throw tool.nonsense({ task });
    return found;
  };
  const machines = (signal: AbortSignal): Promise<Listed[]> => list(["--full"], signal);

  const isIt = ({ name, id }: Machine, one: Listed): boolean => one.name === name && (id === null || one.id === id);
  const find = async (machine: Machine, signal: AbortSignal): Promise<Listed | null> =>
    (await machines(signal)).find((one) => isIt(machine, one)) ?? null;

  const infoOf = async (name: string, signal: AbortSignal): Promise<MachineInfo> => {
    const task = `look at the virtual machine "${name}"`;
    const args = ["list", "--info", "--json", name];
    const info = parseInfo(await tool.run({ args, task, limitMs: QUICK_MS }, signal));
    if (info === null || info.name !== name) throw tool.nonsense({ task });
    return info;
  };

  const mustBeThere = async (machine: Machine, signal: AbortSignal): Promise<Listed> => {
    const found = await find(machine, signal);
    if (found !== null) return found;
    throw new SystemFailure(`The virtual machine "${machine.name}" is not there: somebody has removed it`, {
      retry: true,
    });
  };

  const states: States<Listed> = { find, stateOf: ({ status }) => status };

  const templateOf = (base: string): string =>
    base === baseName && templateName !== undefined ? templateName : `${base}-template`;

  const sourceOf = (base: string, template: Listed): Source => ({
    identity: template.id,
    name: `the template "${template.name}" of "${base}"`,
  });

  const isCopiedWhole = ({ os }: MachineInfo): boolean => architecture === "arm64" && /^mac/i.test(os);

  const findTemplate = async (base: string, signal: AbortSignal): Promise<Listed | null> => {
    const name = templateOf(base);
    const found = (await list(["--template"], signal)).find((one) => one.name === name);
    if (found === undefined) {
      if ((await machines(signal)).some((one) => one.name === name)) {
        throw new SystemFailure(
          `The virtual machine "${name}" is no template, and that of "${base}" should be called so. Name another one: template_name in [runners.parallels]`,
          { reason: "runner_configuration_error" },
        );
      }
      return null;
    }
    if (found.status !== "invalid") return found;
    throw new SystemFailure(
      `The template "${name}" of "${base}" is invalid: its files are not where they were. Bring them back, or forget it: prlctl unregister "${name}"`,
      { reason: "runner_configuration_error" },
    );
  };

  const powerOff = (machine: Machine, signal: AbortSignal): Promise<void> =>
    switchOff(
      // A machine whose files are not there does not run.
      { tool, ...states, isOff: (status) => OFF.has(status) || status === "invalid" },
      machine,
      ["stop", machine.name, "--kill"],
      signal,
    );

  return {
    name: "parallels",
    title: "Parallels",
    program: tool.name,
    version: (signal) => versionOf(tool, "Parallels Desktop", /\d+\.\d+\.\d+/, signal),
    findBase: async (name, signal): Promise<Base> => {
      const found = (await machines(signal)).find((one) => one.name === name);
      if (found === undefined) {
        throw new SystemFailure(
          `There is no virtual machine "${name}" in Parallels Desktop. "prlctl list --all" shows those that the account of the runner has`,
          { reason: "runner_configuration_error" },
        );
      }
      if (isCopiedWhole(await infoOf(name, signal))) {
        return { id: found.id, name, source: { identity: "", name: `"${name}"` } };
      }
      const template = await findTemplate(name, signal);
      return { id: found.id, name, source: template === null ? null : sourceOf(name, template) };
    },
    makeSource: async ({ name }, notes, signal) => {
      const template = templateOf(name);
      notes.print(`Making the template "${template}" of "${name}", which copies are made of from now on`);
      await tool.run(
        {
          args: ["clone", name, "--name", template, "--template", "--linked"],
          task: `make a template of the virtual machine "${name}"`,
          limitMs: COPY_MS,
          advice: "See whether the machine is off",
        },
        signal,
      );
      const made = await findTemplate(name, signal);
      if (made !== null) return sourceOf(name, made);
      throw new SystemFailure(`The template "${template}" was made and is not there`, { retry: true });
    },
    introduce: async (name) => ({ name, id: null, folder: null }),
    clone: async (base, source, machine, signal) => {
      const args =
        source.identity === ""
          ? ["clone", base.name, "--name", machine.name]
          : ["create", machine.name, "--ostemplate", templateOf(base.name)];
      await tool.run(
        {
          args,
          task: `copy the virtual machine "${base.name}"`,
          limitMs: COPY_MS,
          advice: "See whether the machine is off, and whether its disk has room",
        },
        signal,
      );
      return { ...machine, id: (await mustBeThere(machine, signal)).id };
    },
    condition: async (machine, signal): Promise<Condition> => {
      const found = await find(machine, signal);
      if (found === null) return { is: "absent" };
      const how = found.status;
      if (how === "running") return { is: "running", how };
      return { is: OFF.has(how) ? "off" : BROKEN.has(how) ? "broken" : "changing", how };
    },
    start: async (machine, signal) => {
      if (OFF.has((await mustBeThere(machine, signal)).status)) {
        await tool.run(
          {
            args: ["start", machine.name],
            task: `start the virtual machine "${machine.name}"`,
            limitMs: STATE_MS,
            advice: "See in Parallels Desktop why, and whether this host has memory for it",
          },
          signal,
        );
      }
      await settled(
        states,
        machine,
        { done: (status) => status === "running" || OFF.has(status), task: "start" },
        signal,
      );
      return null;
    },
    address: async (machine, signal) => {
      const found = await mustBeThere(machine, signal);
      const { macs } = await infoOf(machine.name, signal);
      const leases = found.address === null ? await readFile(leasesFile, "utf8").catch(() => "") : "";
      const host = found.address ?? leasedAddress(leases, macs);
      return host === null ? null : { host, port: guestPort, macs };
    },
    snapshot: async (machine, name, signal) => {
      const task = `make a snapshot of the virtual machine "${machine.name}"`;
      await tool.run(
        {
          args: ["snapshot", machine.name, "--name", name],
          task,
          limitMs: STATE_MS,
          advice:
            "See whether its disk has room for what it has in memory; where guests can have none, set disable_snapshots",
        },
        signal,
      );
      const args = ["snapshot-list", machine.name, "--json"];
      const made = currentSnapshot(await tool.run({ args, task, limitMs: QUICK_MS }, signal), name);
      if (made !== null) return made;
      throw new SystemFailure(`The snapshot of the virtual machine "${machine.name}" was made and is not there`, {
        retry: true,
      });
    },
    restore: async (machine, snapshot, signal) => {
      await tool.run(
        {
          args: ["snapshot-switch", machine.name, "--id", snapshot],
          task: `take the virtual machine "${machine.name}" back to its snapshot`,
          limitMs: STATE_MS,
        },
        signal,
      );
    },
    powerOff,
    remove: async (machine, signal) => {
      await powerOff(machine, signal);
      if ((await find(machine, signal)) === null) return;
      const call: Call = {
        args: ["delete", machine.name],
        task: `remove the virtual machine "${machine.name}"`,
        limitMs: STATE_MS,
        advice: "Remove it by hand",
      };
      const answer = await tool.ask(call, signal);
      if (answer.code === 0 || (await find(machine, signal)) === null) return;
      // A machine whose files are not whole cannot be deleted, but it can be forgotten.
      if ((await tool.ask({ ...call, args: ["unregister", machine.name] }, signal)).code !== 0) {
        throw tool.failure(call, answer);
      }
    },
    asRoot: async (machine, script, signal) => {
      const task = `run a program in the virtual machine "${machine.name}"`;
      const args = ["exec", machine.name, "sh", "-c", script];
      return (await tool.ask({ args, task, limitMs: QUICK_MS }, signal)).code === 0;
    },
  };
}
