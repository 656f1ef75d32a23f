import type { Config, RunnerConfig } from "../../config/config.ts";
import { CommandError, describeError } from "../../errors.ts";
import type { Diagnosis } from "../../executor/executor.ts";
import { type CommandContext, configFileOf } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";
import { readConfiguration } from "./configuration.ts";
import { checkCoordinator } from "./coordinator.ts";
import { checkDurable } from "./durable.ts";
import { type Note, printNotes, statusOf } from "./finding.ts";
import { checkMachine } from "./machine.ts";
import type { Exec } from "./selftest.ts";

/**
 * Asks the service behind an entry's executor for its state. `null`: there is nothing to ask.
 * @throws why no job could run there
 */
export type Diagnose = (
  entry: RunnerConfig,
  config: Pick<Config, "user">,
  signal: AbortSignal,
) => Promise<Diagnosis | null>;

export interface DoctorMeans {
  readonly diagnose: Diagnose;
  /** What its jobs may have as a service; `null`: its executor knows none, or none that is surely there. */
  readonly serviceImage: (entry: RunnerConfig) => Promise<string | null>;
  readonly exec: Exec;
}

const EXECUTOR_LIMIT_MS = 30_000;

/** Looks at configuration, machine, coordinators and executors, and says what is wrong and what to do. @returns the exit status */
export async function doctorCommand(
  values: FlagValues,
  context: CommandContext,
  { diagnose, serviceImage, exec }: DoctorMeans,
): Promise<number> {
  const file = configFileOf(textOf(values, "config"), context);
  const { config, notes } = await readConfiguration(file, context);
  const all: Note[] = [...notes];
  if (config !== null) {
    const asked = await Promise.all([
      checkMachine(config, context),
      checkDurable(config, context),
      ...config.runners.map((entry) => checkCoordinator(entry, context)),
      ...config.runners.map((entry) => checkExecutor(entry, (one, signal) => diagnose(one, config, signal), context)),
    ]);
    all.push(...asked.flat());
    for (const entry of testedEntries(config, values)) {
      const { selftest } = await import("./selftest.ts");
      all.push(...(await selftest({ entry, file, serviceImage: await serviceImage(entry) }, context, exec)));
    }
  }
  printNotes(all, values.json === true, context);
  return statusOf(all);
}

/**
 * The entries that `--selftest` means: the named one, or all.
 * @throws {CommandError} there is none of that name
 */
function testedEntries({ runners, file }: Config, { selftest }: FlagValues): readonly RunnerConfig[] {
  if (selftest === undefined || selftest === false) return [];
  if (typeof selftest !== "string") return runners;
  const named = runners.filter(({ name }) => name === selftest);
  if (named.length > 0) return named;
  const names = runners.map(({ name }) => `"${name}"`).join(", ") || "none at all";
  throw new CommandError(`${file} has no runner "${selftest}" that can be used; there is ${names}`);
}

async function checkExecutor(
  entry: RunnerConfig,
  diagnose: (entry: RunnerConfig, signal: AbortSignal) => Promise<Diagnosis | null>,
  { signal }: CommandContext,
): Promise<Note[]> {
  const place = { check: `executor ${entry.executor}`, of: entry.name };
  try {
    const found = await diagnose(entry, AbortSignal.any([signal, AbortSignal.timeout(EXECUTOR_LIMIT_MS)]));
    if (found === null) return [];
    const doubts = (found.doubts ?? []).map((doubt): Note => ({ severity: "warning", ...place, ...doubt }));
    return [{ severity: "ok", ...place, cause: found.state }, ...doubts];
  } catch (error) {
    const remedy = "Start what the entry names, or correct its address and rights";
    return [{ severity: "error", ...place, cause: describeError(error), remedy }];
  }
}
