import { resolve } from "node:path";
import { z } from "zod";
import { machineNameSchema } from "../virtual-machine/choose.ts";
import { defineMachineExecutor, machineKeys } from "../virtual-machine/define.ts";
import { openVirtualBox } from "./virtualbox.ts";
import { words } from "./words.ts";

const START_TYPES = ["headless", "gui", "separate"] as const;

/** `[runners.virtualbox]` */
export const virtualBoxTable = z.object({
  ...machineKeys,
  base_snapshot: machineNameSchema.optional(),
  base_folder: z.string().trim().optional(),
  start_type: z.union([z.enum(START_TYPES), z.literal("")]).optional(),
});

export default defineMachineExecutor({
  words,
  schema: virtualBoxTable,
  program: process.platform === "win32" ? null : "VBoxManage",
  open: (table, host) =>
    openVirtualBox({
      ...host,
      baseSnapshot: table?.base_snapshot || undefined,
      baseFolder: table?.base_folder ? resolve(host.workingDirectory, table.base_folder) : undefined,
      startType: table?.start_type || "headless",
      disableSnapshots: table?.disable_snapshots ?? false,
    }),
});
