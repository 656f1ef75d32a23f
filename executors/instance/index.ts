import { z } from "zod";
import { defineExecutor } from "../../src/executor/executor.ts";
import type { ShellName } from "../../src/shell.ts";
import { autoscalerTable, programsOf } from "../autoscaler/index.ts";
import { createInstanceExecutor } from "./executor.ts";
import { words } from "./words.ts";

const SHELLS = ["bash", "sh", "pwsh"] as const satisfies readonly ShellName[];

export default defineExecutor({
  ...words,
  tables: [
    { name: "autoscaler", required: true, schema: autoscalerTable },
    // Its keys are about virtual machines inside instances, and have no effect.
    { name: "instance", required: false, schema: z.object({}) },
  ],
  shells: SHELLS,
  makesMachines: true,
  canOutlive: "connection",
  programs: programsOf,
  create: createInstanceExecutor,
});
