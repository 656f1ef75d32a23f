import type { CommandContext } from "../commands/context.ts";
import { type Diagnose, type DoctorMeans, doctorCommand } from "../commands/doctor/doctor.ts";
import type { FlagValues } from "../commands/register/runner-flags.ts";
import { noMeter } from "../executor/deps.ts";
import { createLog } from "../log.ts";
import { closeExecutor } from "../poll/close-executor.ts";
import { hostPlaces } from "./surroundings.ts";

/** `doctor`. @returns the exit status */
export async function runDoctor(values: FlagValues, context: CommandContext): Promise<number> {
  const log = createLog({ level: "fatal", format: "text", output: { write: () => {}, flush: async () => {} } });
  const diagnose: Diagnose = async (entry, signal) => {
    const place = context.env.TMPDIR || "/tmp";
    const host = hostPlaces({ path: place, scratchDir: place }, context.cwd, context.env);
    const executor = entry.openExecutor({ log, host, meter: noMeter, user: undefined });
    try {
      return (await executor.diagnose?.(signal)) ?? null;
    } finally {
      await closeExecutor(executor);
    }
  };
  const exec: DoctorMeans["exec"] = async (jobs, flags, around) => {
    const { runExec } = await import("./exec.ts");
    return await runExec(jobs, flags, around, { level: "fatal", format: undefined });
  };
  return await doctorCommand(values, context, { diagnose, exec });
}
