import { defineExecutor } from "../../src/executor/executor.ts";
import type { ShellName } from "../../src/shell.ts";
import { autoscalerTable, programsOf } from "../autoscaler/index.ts";
import { buildDirsAreApart, checkedTable, settingsOf } from "../docker/index.ts";
import { createDockerAutoscaler } from "./executor.ts";
import { words } from "./words.ts";

const SHELLS = ["bash", "sh", "pwsh"] as const satisfies readonly ShellName[];

export default defineExecutor({
  ...words,
  tables: [
    { name: "docker", required: true, schema: checkedTable },
    { name: "autoscaler", required: true, schema: autoscalerTable },
  ],
  shells: SHELLS,
  makesMachines: true,
  buildDirsAreApart: ({ docker }, buildsDir) => buildDirsAreApart(settingsOf(docker), buildsDir),
  programs: programsOf,
  create: createDockerAutoscaler,
});
