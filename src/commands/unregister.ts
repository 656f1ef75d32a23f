import type { EntryReach, RunnerConfig } from "../config/config.ts";
import { removeRunners } from "../config/file/save.ts";
import { loadConfig } from "../config/load.ts";
import { unregister } from "../coordinator/registration.ts";
import { CommandError, problemLine } from "../errors.ts";
import { type CommandContext, configFileOf, loadOptions } from "./context.ts";
import { type FlagValues, textOf } from "./register/runner-flags.ts";
import { describeRunner, selectEntries } from "./verify.ts";

/**
 * Give tokens back to their coordinators and drop their entries. An entry stays unless its coordinator confirmed.
 * @throws {CommandError} some token could not be given back
 */
export async function unregisterCommand(values: FlagValues, context: CommandContext): Promise<void> {
  const file = configFileOf(textOf(values, "config"), context);
  const selected = ["name", "url", "token"].some((flag) => textOf(values, flag) !== undefined);
  if (!selected && values.allRunners !== true) {
    throw new CommandError("say which: --name NAME, --url URL with --token TOKEN, or --all-runners");
  }
  const config = await loadConfig(file, loadOptions(context));
  const { runners, broken } = values.allRunners === true ? config : selectEntries(config, values);
  const failures = broken
    .filter(({ reach }) => reach === null)
    .map(
      ({ name, problems }) =>
        `"${name}" stays in ${file}, as its coordinator is not known: ${problems.map(problemLine).join("; ")}`,
    );
  // An entry that gets no jobs has a token all the same.
  const chosen: readonly Leaving[] = [
    ...runners,
    ...broken.flatMap(({ name, id, reach }) => (reach === null ? [] : [{ ...reach, name, id }])),
  ];
  if (values.allRunners !== true && new Set(chosen.map((runner) => `${runner.url.href} ${runner.token}`)).size > 1) {
    const list = chosen.map((runner) => `  ${describeRunner(runner)}`).join("\n");
    throw new CommandError(`several runners fit:\n${list}\nSay which with --url and --token`);
  }
  for (const runner of chosen) {
    const answer = await unregister(runner, runner.token, context.coordinator, context.signal);
    if (answer.kind === "removed") {
      await removeRunners(
        file,
        (stored) => stored.token === runner.token && stored.url === runner.url.href,
        context.env,
        context.signal,
      );
      context.print(`${describeRunner(runner)} was unregistered and dropped from ${file}`);
    } else {
      const hint = answer.kind === "unknown" ? " Drop such entries: alloy-runner verify --delete" : "";
      failures.push(`${describeRunner(runner)} stays in ${file}: ${answer.message}.${hint}`);
    }
  }
  if (failures.length > 0) throw new CommandError(failures.join("\n"));
  if (chosen.length === 0) context.print(`${file} has no runners`);
}

/** An entry whose token is given back. */
type Leaving = EntryReach & Pick<RunnerConfig, "name" | "id">;
