import { access, constants } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import type { RunnerConfig } from "../../config/config.ts";
import { addRunner, type NewRunner, readRunners } from "../../config/file/save.ts";
import { runnerId } from "../../config/identity.ts";
import { certsDirOf } from "../../config/load.ts";
import type { CoordinatorTarget } from "../../coordinator/calls.ts";
import { register, unregister, verifyToken } from "../../coordinator/registration.ts";
import { CommandError, describeError, Stop } from "../../errors.ts";
import type { EntryTable } from "../../executor/words.ts";
import { deadline, never } from "../../time.ts";
import { plainUrl } from "../arguments.ts";
import { type CommandContext, configFileOf, loadOptions } from "../context.ts";
import { withoutUser } from "../list.ts";
import { runnerInfoOf } from "../runner-info.ts";
import { typedConfig } from "../typed-entry.ts";
import type { Ask } from "./ask.ts";
import { attributeOf, entryKeys, type FlagValues, questionsFor, textOf } from "./runner-flags.ts";
import { readServerSide, serverSideFlags } from "./server-side.ts";
import { onlyOf, readTemplate, withTemplateFlags } from "./template.ts";

/** GitLab's tokens of runners that were made in its web pages: they are runner tokens, not registration tokens. */
const MADE_IN_WEB_PAGES = "glrt-";
const GIVE_BACK_MS = 15_000;

interface Answers {
  readonly url: URL;
  readonly name: string;
  readonly executor: string;
  /** A registration token, or the token of a runner that exists already. */
  readonly credential: { readonly kind: "registration" | "runner"; readonly token: string };
  readonly tags: readonly string[];
  readonly runUntagged: boolean;
  readonly locked: boolean;
  /** Answers to the executor's questions, in the form of flags. */
  readonly more: FlagValues;
}

/**
 * Gets a token and adds a `[[runners]]` entry. All questions and checks that this machine can answer come before the
 * coordinator is asked; a token that could not be saved is given back.
 * @param ask `null` with `--non-interactive`
 * @throws {CommandError | ConfigError} nothing was changed, or the message says what was
 */
export async function registerCommand(given: FlagValues, ask: Ask | null, context: CommandContext): Promise<void> {
  const file = configFileOf(textOf(given, "config"), context);
  const existing = await readRunners(file, context.env);
  await mustBeWritable(file);
  const templateFile = textOf(given, "template-config");
  const whole = templateFile === undefined ? {} : await readTemplate(templateFile, context);
  const values = withTemplateFlags(given, whole, context);
  const serverSide = readServerSide(values);
  const answers = await gather(values, ask, context);
  const template = await onlyOf(whole, answers.executor, context);
  const entry = (token: string, { id = "", expiresAtMs = null }: Partial<Granted> = {}): NewRunner => ({
    name: answers.name,
    url: answers.url.href,
    ...(/^[1-9]\d*$/.test(id) ? { id: Number.isSafeInteger(Number(id)) ? Number(id) : id } : {}),
    token,
    ...tokenTimes(expiresAtMs),
    executor: answers.executor,
    ...entryKeys({ ...values, ...answers.more }, context.catalog.words, answers.executor, template),
  });
  const checked = await checkedEntry(entry("placeholder"), file, context);
  const { url, tlsCaFile, tlsCertFile, tlsKeyFile, certsDir } = checked;
  const target: CoordinatorTarget = { url, tlsCaFile, tlsCertFile, tlsKeyFile, certsDir };
  const { credential } = answers;
  if (
    credential.kind === "runner" &&
    existing.some((one) => one.token === credential.token && plainUrl(one.url) === plainUrl(answers.url.href))
  ) {
    context.say(`${file} has an entry with this url and token already: nothing to do`);
    return;
  }
  const { signal } = context;
  if (credential.kind === "runner") {
    const known = await mustBeValid(checked, credential.token, context);
    await addRunner(file, entry(credential.token, known), signal);
  } else {
    const answer = await register(
      target,
      {
        token: credential.token,
        description: answers.name,
        tags: answers.tags,
        runUntagged: answers.runUntagged,
        locked: answers.locked,
        ...serverSide,
      },
      await runnerInfoOf(checked, context),
      context.coordinator,
      signal,
    );
    if (answer.kind === "refused" && (answer.why === "unauthorized" || answer.why === "refused")) {
      throw new CommandError(`${answer.message}. Check the registration token`);
    }
    if (answer.kind === "refused" && answer.why === "missing")
      throw new CommandError(`${answer.message}. Check the url`);
    if (answer.kind === "refused" && answer.why === "gone") {
      throw new CommandError(
        `${answer.message}. Create the runner in the coordinator's web pages and register it with --token glrt-…`,
      );
    }
    if (answer.kind !== "registered") throw new CommandError(answer.message);
    try {
      signal.throwIfAborted();
      await addRunner(file, entry(answer.token, answer), signal);
    } catch (cause) {
      const what = `the runner was registered, but its entry could not be saved: ${describeError(cause)}`;
      if (values.leaveRunner === true) {
        throw new CommandError(`${what}. As --leave-runner says, runner ${answer.id} stays at the coordinator`, {
          cause,
        });
      }
      throw new CommandError(`${what}. ${await giveBack(target, answer.token, answer.id, context)}`, { cause });
    }
    context.say(`registered "${answers.name}" at ${withoutUser(answers.url.href)} as ${runnerId(answer.token)}`);
  }
  context.say(`saved in ${file}. A running alloy-runner takes it up by itself; otherwise start one: alloy-runner run`);
}

async function gather(values: FlagValues, ask: Ask | null, context: CommandContext): Promise<Answers> {
  const answer = async (
    flag: string,
    message: string,
    question: Partial<Parameters<Ask["text"]>[0]> = {},
  ): Promise<string> => {
    const given = textOf(values, flag) ?? question.initial;
    if (ask !== null)
      return await ask.text({
        message,
        required: true,
        ...question,
        ...(given === undefined ? {} : { initial: given }),
      });
    if (given === undefined) throw new CommandError(`--${flag} is needed together with --non-interactive`);
    const wrong = question.check?.(given) ?? null;
    if (wrong !== null) throw new CommandError(`--${flag}: ${wrong}`);
    return given;
  };
  const url = await answer("url", "Coordinator URL", { check: urlComplaint });
  const given = textOf(values, "token");
  const token = given ?? (await answer("registration-token", "Registration token", { secret: true }));
  const isRunnerToken = given !== undefined || token.startsWith(MADE_IN_WEB_PAGES);
  const name = await answer("name", "Name of this runner", { initial: hostname() });
  let [tags, runUntagged, locked]: [string[], boolean, boolean] = [[], true, true];
  if (isRunnerToken) {
    const useless = serverSideFlags(values);
    if (useless.length > 0) {
      const what = `${useless.join(", ")}: belongs to the runner at the coordinator, which exists already. Set it there`;
      // As in GitLab Runner: command lines from before such tokens go on working.
      if (given !== undefined) throw new CommandError(what);
      context.say(`warning: ${what}; it has no effect here`);
    }
    if (given === undefined)
      context.say("this is the token of an existing runner: it is checked and saved, nothing is registered");
  } else {
    const wanted = textOf(values, "tag-list");
    const text =
      ask === null
        ? (wanted ?? "")
        : await ask.text({
            message: "Tags, separated by commas",
            ...(wanted === undefined ? {} : { initial: wanted }),
          });
    tags = text
      .split(",")
      .map((tag) => tag.trim())
      .filter((tag) => tag !== "");
    const untagged = tags.length === 0 || values.runUntagged === true;
    runUntagged =
      ask === null || tags.length === 0 ? untagged : await ask.confirm("Take jobs without tags, too?", untagged);
    locked =
      ask === null
        ? values.locked !== false
        : await ask.confirm("Lock to the current project?", values.locked !== false);
  }
  const executors = context.catalog.names;
  const wanted = textOf(values, "executor");
  const executor =
    ask === null
      ? wanted
      : await ask.choose("Executor", executors, wanted ?? (executors.length === 1 ? executors[0] : undefined));
  if (executor === undefined)
    throw new CommandError(`--executor is needed together with --non-interactive: ${executors.join(", ")}`);
  if (!executors.includes(executor))
    throw new CommandError(`--executor: there is no executor "${executor}". There is: ${executors.join(", ")}`);
  const more: Record<string, string> = {};
  for (const { flag, message, required = false, secret = false } of questionsFor(executor, context.catalog.words)) {
    if (ask === null && !required) continue;
    const text = await answer(flag, message, { required, secret });
    if (text !== "") more[attributeOf(flag)] = text;
  }
  return {
    url: new URL(url),
    name,
    executor,
    credential: { kind: isRunnerToken ? "runner" : "registration", token },
    tags,
    runUntagged,
    locked,
    more,
  };
}

/** What is wrong with the text of a URL, or null. */
function urlComplaint(text: string): string | null {
  if (!URL.canParse(text)) return `"${text}" is no URL. Give it with its scheme: https://ci.example.com`;
  const { protocol } = new URL(text);
  return protocol === "https:" || protocol === "http:"
    ? null
    : `must begin with https:// or http://, not ${protocol}//`;
}

/** The new entry by itself, checked as `run` will check it. Problems name the key instead of a line that is not written. */
async function checkedEntry(entry: NewRunner, configFile: string, context: CommandContext): Promise<RunnerConfig> {
  const usual = loadOptions(context);
  const options = { ...usual, certsDir: await certsDirOf(configFile, usual.certsDir) };
  const { runners } = await typedConfig({ entry, options, file: "new entry" });
  const [runner] = runners;
  if (runner === undefined) throw new CommandError("the new entry cannot be used");
  return runner;
}

/** The file, or the nearest directory above it that exists, can be written: known before a token is asked for. */
async function mustBeWritable(file: string): Promise<void> {
  for (let path = file; ; path = dirname(path)) {
    try {
      await access(path, constants.W_OK);
      return;
    } catch (error) {
      const missing = error instanceof Error && "code" in error && error.code === "ENOENT";
      if (missing && dirname(path) !== path) continue;
      throw new CommandError(
        `${file} cannot be written (${describeError(error)}). Run as its owner or as root, or name another file with --config`,
        { cause: error },
      );
    }
  }
}

/** What the coordinator says of a runner beside its token. */
interface Granted {
  readonly id: string;
  /** `null`: never. */
  readonly expiresAtMs: number | null;
}

/** Keys for a token that expires; none for one that does not. */
function tokenTimes(expiresAtMs: number | null): EntryTable {
  if (expiresAtMs === null) return {};
  return { token_obtained_at: new Date(), token_expires_at: new Date(expiresAtMs) };
}

async function mustBeValid(entry: RunnerConfig, token: string, context: CommandContext): Promise<Granted> {
  const info = await runnerInfoOf(entry, context);
  const answer = await verifyToken(entry, token, info, context.coordinator, context.signal);
  if (answer.kind === "valid") {
    if (!token.startsWith(MADE_IN_WEB_PAGES) || /^[1-9]/.test(answer.id)) return answer;
    throw new CommandError(
      `${entry.url.origin} took the token, but did not say whose it is, as GitLab does. Nothing was saved: check the url`,
    );
  }
  const hint = answer.kind === "unknown" ? ". If it is a registration token, give it with --registration-token" : "";
  throw new CommandError(`${answer.message}${hint}`);
}

/** @returns what became of it, as a sentence */
async function giveBack(
  target: CoordinatorTarget,
  token: string,
  id: string,
  { coordinator }: CommandContext,
): Promise<string> {
  using limit = deadline(never, GIVE_BACK_MS, new Stop("timed_out", "the coordinator did not answer in time"));
  try {
    const answer = await unregister(target, token, coordinator, limit.signal);
    if (answer.kind === "removed") return "Its token was given back: nothing is left at the coordinator";
    return `Its token could not be given back either (${answer.message}): remove runner ${id} in the coordinator's web pages`;
  } catch (error) {
    return `Its token could not be given back either (${describeError(error)}): remove runner ${id} in the coordinator's web pages`;
  }
}
