import type { Config } from "../../config/config.ts";
import { createControlClient } from "../../control/client.ts";
import { statusSchema } from "../../control/protocol.ts";
import type { CommandContext } from "../context.ts";
import { managerFor } from "../service/managers.ts";
import { readServiceName } from "../service/options.ts";
import { toolRunner } from "../service/perform.ts";
import { type Note, ok } from "./finding.ts";

/** Whether the service that starts this configuration's runner does so. Services of other configurations are not looked at. */
export async function checkService({ file, stateDir }: Config, context: CommandContext): Promise<Note[]> {
  const { env, uid, signal } = context;
  const name = readServiceName({}, context);
  const run = toolRunner(env);
  try {
    const manager = managerFor(undefined, context, { platform: process.platform, program: [process.execPath] });
    const defined = await manager.definition(name, run, signal);
    if (defined?.text.includes(file) !== true) return [];
    const { running, detail } = await manager.state(name, run, signal);
    if (running) return [ok("service", name.name, detail)];
    const client = createControlClient({ stateDir, named: file, uid });
    const other = await client.get("status", statusSchema).catch(() => null);
    if (other !== null) return [ok("service", name.name, `does not run, but somebody started process ${other.pid}`)];
    return [
      {
        severity: "warning",
        check: "service",
        of: name.name,
        cause: `is installed and does not run: ${detail}`,
        remedy: 'Run "alloy-runner start"; its log tells why it ended',
      },
    ];
  } catch {
    signal.throwIfAborted();
    // This platform has no services that are known, or its manager does not run, as in a container.
    return [];
  }
}
