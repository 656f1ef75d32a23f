import { z } from "zod";
import { defineExecutor, type ExecutorDefinition } from "../../src/executor/executor.ts";
import type { ExecutorWords } from "../../src/executor/words.ts";
import { sshSettings, sshTable } from "../ssh/over-ssh.ts";
import { allowedImages, bootMsOf, bootTimeout, machineNameSchema, patternsOf } from "./choose.ts";
import { createMachineExecutor, loginComplaint, SHELLS } from "./executor.ts";
import type { Hypervisor } from "./hypervisor.ts";

/** Keys that the tables of all hypervisors have: those of the Go runner and of GitLab Runner, and `boot_timeout`. */
export const machineKeys = {
  base_name: machineNameSchema.min(1, "expected the name of a virtual machine: the one that jobs get copies of"),
  disable_snapshots: z.boolean().optional(),
  allowed_images: allowedImages,
  boot_timeout: bootTimeout,
};

type MachineTable = z.output<z.ZodObject<typeof machineKeys>> & { readonly time_server?: string | undefined };

/** What a hypervisor's program needs of this machine, and of the guests. */
export interface MachineHost {
  /** Port of the sshd in the guest. */
  readonly guestPort: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly workingDirectory: string;
}

export interface MachineDefinition<Table extends MachineTable> {
  readonly words: ExecutorWords;
  readonly schema: z.ZodType<Table>;
  /** The hypervisor's program, where it must be found by `PATH`. */
  readonly program: string | null;
  /** @param table `null`: the entry is gone, and only what its jobs have left is looked after */
  open(table: Table | null, host: MachineHost): Hypervisor;
}

/** An executor whose jobs run in copies of a hypervisor's machines. */
export function defineMachineExecutor<Table extends MachineTable>({
  words,
  schema,
  program,
  open,
}: MachineDefinition<Table>): ExecutorDefinition {
  return defineExecutor({
    ...words,
    tables: [
      { name: words.name, required: true, schema },
      { name: "ssh", required: true, schema: sshTable },
    ],
    shells: SHELLS,
    canOutlive: "connection",
    check: ({ ssh }) => {
      const table = sshTable.safeParse(ssh);
      return table.success ? loginComplaint(table.data) : null;
    },
    programs: () => (program === null ? [] : [{ table: words.name, program }]),
    // Without tables for what a job of an entry that is gone has left: what machine it had was written down.
    create: ({ [words.name]: own, ssh }, deps) => {
      const { working, env } = deps.host;
      const table = own === undefined ? null : schema.parse(own);
      const login = sshTable.parse(ssh ?? {});
      const { port } = sshSettings(login, { workingDirectory: working, environment: env });
      const hypervisor = open(table, { guestPort: port, environment: env, workingDirectory: working });
      const settings =
        table === null
          ? null
          : {
              table: words.name,
              baseName: table.base_name,
              allowedImages: patternsOf(table.allowed_images),
              disableSnapshots: table.disable_snapshots ?? false,
              bootMs: bootMsOf(table.boot_timeout),
              timeServer: table.time_server || undefined,
              ssh: login,
            };
      return createMachineExecutor(words, hypervisor, settings, deps);
    },
  });
}
