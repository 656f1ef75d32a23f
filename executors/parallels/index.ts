import { z } from "zod";
import { defineExecutor } from "../../src/executor.ts";
import { sshSettings, sshTable } from "../ssh/over-ssh.ts";
import { allowedImages, bootMsOf, bootTimeout, machineNameSchema, patternsOf } from "../virtual-machine/choose.ts";
import { createMachineExecutor, loginComplaint, SHELLS } from "../virtual-machine/executor.ts";
import { openParallels } from "./parallels.ts";
import { words } from "./words.ts";

/** `[runners.parallels]`: keys of the Go runner and of GitLab Runner, and `boot_timeout`. */
export const parallelsTable = z.object({
  base_name: machineNameSchema.min(1, "expected the name of a virtual machine: the one that jobs get copies of"),
  template_name: machineNameSchema.optional(),
  disable_snapshots: z.boolean().optional(),
  time_server: machineNameSchema.optional(),
  allowed_images: allowedImages,
  boot_timeout: bootTimeout,
});

export default defineExecutor({
  ...words,
  tables: [
    { name: "parallels", required: true, schema: parallelsTable },
    { name: "ssh", required: true, schema: sshTable },
  ],
  shells: SHELLS,
  check: ({ ssh }) => {
    const table = sshTable.safeParse(ssh);
    return table.success ? loginComplaint(table.data) : null;
  },
  programs: () => [{ table: "parallels", program: "prlctl" }],
  // Without tables for what a job of an entry that is gone has left: what machine it had was written down.
  create: ({ parallels, ssh }, deps) => {
    const { working, env } = deps.host;
    const table = parallels === undefined ? null : parallelsTable.parse(parallels);
    const login = sshTable.parse(ssh ?? {});
    const { port } = sshSettings(login, { workingDirectory: working, environment: env });
    const hypervisor = openParallels({
      baseName: table?.base_name ?? "",
      templateName: table?.template_name || undefined,
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
            timeServer: table.time_server || undefined,
            ssh: login,
          };
    return createMachineExecutor(words, hypervisor, settings, deps);
  },
});
