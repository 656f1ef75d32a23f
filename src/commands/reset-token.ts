import { join } from "node:path";
import type { BrokenEntry, Config, RunnerConfig } from "../config/config.ts";
import { whyFixed } from "../config/file/fixed.ts";
import { loadConfig } from "../config/load.ts";
import type { ResetRight } from "../coordinator/registration.ts";
import { CommandError, problemLine } from "../errors.ts";
import { exchangeToken } from "../tokens/exchange.ts";
import { createExchanges } from "../tokens/exchanges.ts";
import { openNotes, TOKEN_NOTES } from "../tokens/notes.ts";
import { plainUrl } from "./arguments.ts";
import { type CommandContext, configFileOf, loadOptions } from "./context.ts";
import { type FlagValues, textOf } from "./register/runner-flags.ts";
import { describeRunner } from "./verify.ts";

/**
 * Exchange tokens for new ones at their coordinator, and put those into the file. A running runner takes them up by itself.
 * @throws {CommandError} some token was not exchanged; or it was, and its file could not be changed
 */
export async function resetTokenCommand(values: FlagValues, context: CommandContext): Promise<void> {
  const file = configFileOf(textOf(values, "config"), context);
  const config = await loadConfig(file, loadOptions(context));
  const { chosen, unusable } = choose(config, values);
  const personalToken = textOf(values, "pat");
  const fixed = await whyFixed(file);
  if (fixed !== null) throw new CommandError(`the new token could not be saved: ${fixed}. Nothing was changed`);
  const deps = {
    file,
    env: context.env,
    notes: openNotes(join(config.stateDir, TOKEN_NOTES)),
    exchanges: createExchanges(),
    coordinator: context.coordinator,
  };
  const failures = unusable.map((entry) => `${whyUnusable(entry)}. Mend it first; its token was not asked for`);
  for (const runner of chosen) {
    if (context.signal.aborted) throw context.signal.reason;
    const right = rightOf(runner, personalToken);
    if (typeof right === "string") {
      failures.push(`${describeRunner(runner)} keeps its token: ${right}`);
      continue;
    }
    const result = await exchangeToken(runner, right, deps);
    if (result.kind !== "exchanged") failures.push(`${describeRunner(runner)} keeps its token: ${result.message}`);
    else if (result.unsaved !== null)
      failures.push(`${describeRunner(runner)} has a new token, which is not in ${file}: ${result.unsaved}`);
    else {
      const until = result.expiresAtMs === null ? "" : `, which expires ${new Date(result.expiresAtMs).toISOString()}`;
      context.print(`${describeRunner(runner)} has a new token${until}`);
    }
  }
  if (failures.length > 0) throw new CommandError(failures.join("\n"));
}

/** By what right its token can be exchanged; text: why it cannot. */
function rightOf(runner: RunnerConfig, personalToken: string | undefined): ResetRight | string {
  if (!runner.tokenLife.written)
    return "the file names a variable in its place, which cannot be changed here. Give the variable a new token";
  if (personalToken === undefined) return { token: runner.token };
  const { runnerId } = runner.tokenLife;
  return runnerId === ""
    ? 'with --pat its entry needs the key "id", the number that the coordinator has given the runner'
    : { runnerId, personalToken };
}

function whyUnusable({ name, problems }: BrokenEntry): string {
  return `"${name}" cannot be used: ${problems.map(problemLine).join("; ")}`;
}

interface Chosen {
  /** Each token once. */
  readonly chosen: readonly RunnerConfig[];
  /** They keep nobody from the others where all are meant. */
  readonly unusable: readonly BrokenEntry[];
}

/**
 * The entries that are meant.
 * @throws {CommandError} there are none, or it is not clear which; nothing is to be changed
 */
function choose({ runners, broken, file }: Config, values: FlagValues): Chosen {
  const [name, url, id] = ["name", "url", "id"].map((flag) => textOf(values, flag));
  const all = values.allRunners === true;
  if (!all && name === undefined && (url === undefined || id === undefined))
    throw new CommandError("say which: --name NAME, --url URL with --id ID, or --all-runners");
  const fits = (runner: RunnerConfig): boolean =>
    all ||
    ((name === undefined || runner.name === name) &&
      (url === undefined || plainUrl(runner.url.href) === plainUrl(url)) &&
      (id === undefined || runner.tokenLife.runnerId === id));
  const tokens = new Map(runners.filter(fits).map((runner) => [`${runner.url.href} ${runner.token}`, runner]));
  const chosen = [...tokens.values()];
  const meant = all ? undefined : broken.find((entry) => name !== undefined && entry.name === name);
  if (meant !== undefined) throw new CommandError(`${whyUnusable(meant)}. Mend it first; nothing was changed`);
  const unusable = all ? broken : [];
  if (chosen.length === 0 && unusable.length === 0) {
    const asked = [name && `--name ${name}`, url && `--url ${url}`, id && `--id ${id}`].filter(Boolean).join(" and ");
    throw new CommandError(
      asked === "" ? `${file} has no runners` : `${file} has no runner with ${asked}. See them all: alloy-runner list`,
    );
  }
  if (!all && chosen.length > 1) {
    const list = chosen.map((runner) => `  ${describeRunner(runner)}`).join("\n");
    throw new CommandError(`several runners fit:\n${list}\nSay which with --url and --id`);
  }
  return { chosen, unusable };
}
