import type { CommandContext } from "../commands/context.ts";
import { type Diagnose, type DoctorMeans, doctorCommand } from "../commands/doctor/doctor.ts";
import type { FlagValues } from "../commands/register/runner-flags.ts";
import type { RunnerConfig } from "../config/config.ts";
import { noMeter } from "../executor/deps.ts";
import type { Executor } from "../executor/executor.ts";
import { createLog } from "../log.ts";
import { closeExecutor } from "../poll/close-executor.ts";
import { hostPlaces } from "./surroundings.ts";

/** `doctor`. @returns the exit status */
export async function runDoctor(values: FlagValues, context: CommandContext): Promise<number> {
  const log = createLog({ level: "fatal", format: "text", output: { write: () => {}, flush: async () => {} } });
  const within = async <T>(
    entry: RunnerConfig,
    user: string | undefined,
    ask: (executor: Executor) => T | Promise<T>,
  ): Promise<T> => {
    const place = context.env.TMPDIR || "/tmp";
    const host = hostPlaces({ path: place, scratchDir: place }, context.cwd, context.env);
    const executor = entry.openExecutor({ log, host, meter: noMeter, user });
    try {
      return await ask(executor);
    } finally {
      await closeExecutor(executor);
    }
  };
  const diagnose: Diagnose = (entry, { user }, signal) =>
    within(entry, user, async (executor) => (await executor.diagnose?.(entry, signal)) ?? null);
  const serviceImage: DoctorMeans["serviceImage"] = (entry) =>
    within(entry, undefined, (executor) => executor.serviceImage ?? null);
  const exec: DoctorMeans["exec"] = async (jobs, flags, around) => {
    const { runExec } = await import("./exec.ts");
    return await runExec(jobs, flags, around, { level: "fatal", format: undefined });
  };
  return await doctorCommand(values, context, { diagnose, serviceImage, exec });
}
