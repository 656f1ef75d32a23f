import type { BrokenEntry, Config, RunnerConfig } from "../config/config.ts";
import { removeRunners } from "../config/file/save.ts";
import { loadConfig } from "../config/load.ts";
import { verifyToken } from "../coordinator/registration.ts";
import { CommandError, problemLine } from "../errors.ts";
import { plainUrl } from "./arguments.ts";
import { type CommandContext, configFileOf, loadOptions } from "./context.ts";
import { type FlagValues, textOf } from "./register/runner-flags.ts";
import { runnerInfoOf } from "./runner-info.ts";

/**
 * Ask each coordinator whether it still knows the token. With `--delete`, entries that it does not know are dropped; what
 * could not be found out, or cannot be used as it stands in the file, is never dropped.
 * @throws {CommandError} some entry is not known to be alive (and was not dropped)
 */
export async function verifyCommand(values: FlagValues, context: CommandContext): Promise<void> {
  const file = configFileOf(textOf(values, "config"), context);
  const { runners: chosen, broken } = selectEntries(await loadConfig(file, loadOptions(context)), values);
  const answers = await Promise.all(
    chosen.map(async (runner) => ({
      runner,
      answer: await verifyToken(
        runner,
        runner.token,
        await runnerInfoOf(runner, context),
        context.coordinator,
        context.signal,
      ),
    })),
  );
  for (const { runner, answer } of answers) {
    const state =
      answer.kind === "valid"
        ? "is alive"
        : answer.kind === "unknown"
          ? "is not known there (any more)"
          : `unclear: ${answer.message}`;
    context.print(`${describeRunner(runner)} ${state}`);
  }
  for (const { name, problems } of broken)
    context.print(`"${name}" cannot be used: ${problems.map(problemLine).join("; ")}`);
  const unusable = broken.length === 0 ? [] : [`${count(broken.length)} cannot be used: mend the file`];
  const gone = answers.flatMap(({ runner, answer }) => (answer.kind === "unknown" ? [runner] : []));
  if (gone.length > 0 && values.delete === true) {
    const removed = await removeRunners(
      file,
      (stored) => gone.some((runner) => runner.token === stored.token && runner.url.href === stored.url),
      context.env,
      context.signal,
    );
    context.print(`dropped from ${file}: ${removed.map((stored) => `"${stored.name}"`).join(", ")}`);
  } else if (gone.length > 0) {
    const what = `${count(gone.length)} not known any more: drop with --delete, or register again`;
    throw new CommandError([what, ...unusable].join("\n"));
  }
  const unclear = answers.filter(({ answer }) => answer.kind === "trouble").length;
  if (unclear > 0) {
    const kept = values.delete === true ? "; nothing was dropped for that" : "";
    throw new CommandError([`${count(unclear)} could not be checked${kept}`, ...unusable].join("\n"));
  }
  if (unusable.length > 0) throw new CommandError(unusable.join("\n"));
}

function count(runners: number): string {
  return runners === 1 ? "1 runner" : `${runners} runners`;
}

export function describeRunner(runner: Pick<RunnerConfig, "name" | "id" | "url">): string {
  return `"${runner.name}" (${runner.id}) at ${runner.url.origin}${runner.url.pathname.replace(/\/$/, "")}`;
}

/**
 * The entries that `--name`, `--url` and `--token` pick; all of them when none is given. What is given must all fit.
 * @throws {CommandError} none does
 */
export function selectEntries(
  { runners, broken, file }: Pick<Config, "runners" | "broken" | "file">,
  values: FlagValues,
): { readonly runners: readonly RunnerConfig[]; readonly broken: readonly BrokenEntry[] } {
  const [name, url, token] = ["name", "url", "token"].map((flag) => textOf(values, flag));
  const fits = (entryName: string, reach: BrokenEntry["reach"]): boolean =>
    (name === undefined || entryName === name) &&
    (url === undefined || (reach !== null && plainUrl(reach.url.href) === plainUrl(url))) &&
    (token === undefined || reach?.token === token);
  const chosen = {
    runners: runners.filter((runner) => fits(runner.name, runner)),
    broken: broken.filter((entry) => fits(entry.name, entry.reach)),
  };
  if (chosen.runners.length + chosen.broken.length > 0) return chosen;
  const asked = [name && `--name ${name}`, url && `--url ${url}`, token && "this --token"].filter(Boolean);
  if (asked.length === 0) throw new CommandError(`${file} has no runners. Add one: alloy-runner register`);
  throw new CommandError(`${file} has no runner with ${asked.join(" and ")}. See them all: alloy-runner list`);
}
