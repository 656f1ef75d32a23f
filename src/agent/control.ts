import type { LocalContext } from "../commands/context.ts";
import type { ControlCommand } from "../commands/control/flags.ts";
import { jobsCommand } from "../commands/control/jobs.ts";
import { logsCommand } from "../commands/control/logs.ts";
import { cancelCommand, drainCommand, pauseCommand, reloadCommand } from "../commands/control/steer.ts";
import type { FlagValues } from "../commands/register/runner-flags.ts";

/** Commands that speak to a running runner. */
export async function control(
  name: ControlCommand,
  args: readonly string[],
  values: FlagValues,
  context: LocalContext,
): Promise<void> {
  const [first] = args;
  switch (name) {
    case "jobs":
      return await jobsCommand(values, context);
    case "logs": {
      const terminal = process.stdout.isTTY === true;
      const output = { stream: context.output, terminal, colors: terminal && !context.env.NO_COLOR };
      return await logsCommand(first ?? "", values, context, output);
    }
    case "cancel":
      return await cancelCommand(first ?? "", values, context);
    case "top": {
      // Whoever closes the terminal has seen enough.
      process.stdout.on("error", () => {});
      const { topCommand } = await import("../commands/top/top.ts");
      return await topCommand(values, context, { input: process.stdin, output: process.stdout });
    }
    case "gc": {
      const { runGc } = await import("./gc.ts");
      return await runGc(values, context);
    }
    case "pause":
    case "resume":
      return await pauseCommand(name, first, values, context);
    case "drain":
      return await drainCommand(values, context);
    case "reload":
      return await reloadCommand(values, context);
  }
}
