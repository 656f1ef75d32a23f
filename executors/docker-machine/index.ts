import { defineExecutor } from "../../src/executor/executor.ts";
import type { ShellName } from "../../src/shell.ts";
import { buildDirsAreApart, checkedTable, settingsOf } from "../docker/index.ts";
import { createMachineExecutor } from "./executor.ts";
import { machineTable } from "./settings/settings.ts";
import { words } from "./words.ts";

export { createMachineExecutor } from "./executor.ts";
export type { MachineConnection } from "./provider/ping.ts";
export { machineTable } from "./settings/settings.ts";

const SHELLS = ["bash", "sh", "pwsh"] as const satisfies readonly ShellName[];

export default defineExecutor({
  ...words,
  tables: [
    { name: "docker", required: true, schema: checkedTable },
    { name: "machine", required: true, schema: machineTable },
  ],
  shells: SHELLS,
  makesMachines: true,
  buildDirsAreApart: ({ docker }, buildsDir) => buildDirsAreApart(settingsOf(docker), buildsDir),
  programs: () => [{ table: "machine", program: "docker-machine" }],
  create: (tables, deps) => createMachineExecutor(tables, deps, { ...words, metrics: "ci_docker_machines" }),
});
