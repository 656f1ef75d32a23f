import { z } from "zod";
import { machineNameSchema } from "../virtual-machine/choose.ts";
import { defineMachineExecutor, machineKeys } from "../virtual-machine/define.ts";
import { openParallels } from "./parallels.ts";
import { words } from "./words.ts";

/** `[runners.parallels]` */
export const parallelsTable = z.object({
  ...machineKeys,
  template_name: machineNameSchema.optional(),
  time_server: machineNameSchema.optional(),
});

export default defineMachineExecutor({
  words,
  schema: parallelsTable,
  program: "prlctl",
  open: (table, host) =>
    openParallels({
      ...host,
      baseName: table?.base_name ?? "",
      templateName: table?.template_name || undefined,
    }),
});
