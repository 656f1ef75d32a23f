import { defineExecutor } from "../../src/executor/executor.ts";
import type { ShellName } from "../../src/shell.ts";
import { checkedTable, createDockerExecutor, settingsOf } from "../docker/index.ts";
import { sshComplaint, sshTable } from "../ssh/over-ssh.ts";
import { prepareSshJob } from "./prepare.ts";
import { words } from "./words.ts";

export { prepareSshJob } from "./prepare.ts";

const SHELLS = ["bash", "sh", "pwsh"] as const satisfies readonly ShellName[];

export default defineExecutor({
  ...words,
  tables: [
    { name: "docker", required: true, schema: checkedTable },
    { name: "ssh", required: true, schema: sshTable },
  ],
  shells: SHELLS,
  canOutlive: "connection",
  check: ({ ssh }) => {
    const table = sshTable.safeParse(ssh);
    return table.success ? sshComplaint(table.data) : null;
  },
  create: ({ docker, ssh }, deps) => {
    const table = sshTable.parse(ssh ?? {});
    return createDockerExecutor(settingsOf(docker), deps, {
      ...words,
      prepare: (options, notes, signal) => prepareSshJob(table, options, notes, signal),
    });
  },
});
