import { defineExecutor } from "../../src/executor/executor.ts";
import type { ShellName } from "../../src/shell.ts";
import { checkedTable } from "../docker/index.ts";
import { createMachineExecutor, machineTable } from "../docker-machine/index.ts";
import { prepareSshJob } from "../docker-ssh/index.ts";
import { sshComplaint, sshTable } from "../ssh/over-ssh.ts";
import { wayThrough } from "./way.ts";
import { words } from "./words.ts";

const SHELLS = ["bash", "sh", "pwsh"] as const satisfies readonly ShellName[];

export default defineExecutor({
  ...words,
  tables: [
    { name: "docker", required: true, schema: checkedTable },
    { name: "machine", required: true, schema: machineTable },
    { name: "ssh", required: true, schema: sshTable },
  ],
  shells: SHELLS,
  makesMachines: true,
  canOutlive: "connection",
  check: ({ ssh }) => {
    const table = sshTable.safeParse(ssh);
    return table.success ? sshComplaint(table.data) : null;
  },
  programs: () => [{ table: "machine", program: "docker-machine" }],
  create: (tables, deps) =>
    createMachineExecutor(tables, deps, {
      ...words,
      metrics: "ci_ssh_docker_machines",
      preparing: ({ ssh }) => {
        const table = sshTable.parse(ssh ?? {});
        return (machine, options, notes, signal) =>
          prepareSshJob(wayThrough(machine, table, options.engine.local), options, notes, signal);
      },
    }),
});
