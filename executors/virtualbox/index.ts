import { resolve } from "node:path";
import { z } from "zod";
import { defineExecutor } from "../../src/executor.ts";
import { sshSettings, sshTable } from "../ssh/over-ssh.ts";
import { allowedImages, bootMsOf, bootTimeout, machineNameSchema, patternsOf } from "../virtual-machine/choose.ts";
import { createMachineExecutor, loginComplaint, SHELLS } from "../virtual-machine/executor.ts";
import { openVirtualBox } from "./virtualbox.ts";
import { words } from "./words.ts";

const START_TYPES = ["headless", "gui", "separate"] as const;

/** `[runners.virtualbox]`: keys of the Go runner and of GitLab Runner, and `boot_timeout`. */
export const virtualBoxTable = z.object({
  base_name: machineNameSchema.min(1, "expected the name of a virtual machine: the one that jobs get copies of"),
  base_snapshot: machineNameSchema.optional(),
  base_folder: z.string().trim().optional(),
  disable_snapshots: z.boolean().optional(),
  allowed_images: allowedImages,
  start_type: z.union([z.enum(START_TYPES), z.literal("")]).optional(),
  boot_timeout: bootTimeout,
});

export default defineExecutor({
  ...words,
  tables: [
    { name: "virtualbox", required: true, schema: virtualBoxTable },
    { name: "ssh", required: true, schema: sshTable },
  ],
  shells: SHELLS,
  check: ({ ssh }) => {
    const table = sshTable.safeParse(ssh);
    return table.success ? loginComplaint(table.data) : null;
  },
  programs: () => (process.platform === "win32" ? [] : [{ table: "virtualbox", program: "VBoxManage" }]),
  // Without tables for what a job of an entry that is gone has left: what machine it had was written down.
  create: ({ virtualbox, ssh }, deps) => {
    const { working, env } = deps.host;
    const table = virtualbox === undefined ? null : virtualBoxTable.parse(virtualbox);
    const login = sshTable.parse(ssh ?? {});
    const { port } = sshSettings(login, { workingDirectory: working, environment: env });
    const hypervisor = openVirtualBox({
      baseSnapshot: table?.base_snapshot || undefined,
      baseFolder: table?.base_folder ? resolve(working, table.base_folder) : undefined,
      startType: table?.start_type || "headless",
      disableSnapshots: table?.disable_snapshots ?? false,
      guestPort: port,
      environment: env,
      workingDirectory: working,
    });
    const settings =
      table === null
        ? null
        : {
            table: words.name,
            baseName: table.base_name,
            allowedImages: patternsOf(table.allowed_images),
            disableSnapshots: table.disable_snapshots ?? false,
            bootMs: bootMsOf(table.boot_timeout),
            ssh: login,
          };
    return createMachineExecutor(words, hypervisor, settings, deps);
  },
});
