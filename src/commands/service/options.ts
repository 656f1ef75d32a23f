import { isAbsolute, join } from "node:path";
import { parseDuration } from "../../config/units.ts";
import { CommandError } from "../../errors.ts";
import type { Argv } from "../../shell.ts";
import { type CommandContext, configFileOf } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";
import type { Service, ServiceName } from "./service.ts";

export const DEFAULT_NAME = "alloy-runner";
/** How long `stop` lets jobs go on: nearly all jobs are shorter. */
const DEFAULT_DRAIN_MS = 2 * 3600 * 1000;

/** `--service` and `--user-service`. @throws {CommandError} a name that a service manager would not take */
export function readServiceName(values: FlagValues, { uid }: Pick<CommandContext, "uid">): ServiceName {
  const name = (textOf(values, "service") ?? DEFAULT_NAME).replace(/\.service$/, "");
  if (!/^[A-Za-z0-9][\w.-]{0,99}$/.test(name)) {
    throw new CommandError(
      `--service is up to 100 letters, digits, "-", "_" and ".", beginning with a letter or digit; not "${name}"`,
    );
  }
  // Windows has no users' services.
  const scope = uid !== undefined && (uid !== 0 || values.userService === true) ? "user" : "system";
  return { name, scope };
}

/**
 * What `install` is asked for.
 * @param program what starts this program
 * @throws {CommandError} what is missing or cannot be
 */
export function readService(
  values: FlagValues,
  context: Pick<CommandContext, "cwd" | "uid" | "env">,
  program: Argv,
): Service {
  const { name, scope } = readServiceName(values, context);
  const { cwd, uid } = context;
  const given = textOf(values, "working-directory") ?? cwd;
  const jobsUser = textOf(values, "user");
  const runnerUser = textOf(values, "init-user");
  const password = typeof values.password === "string" && values.password !== "" ? values.password : undefined;
  if (scope === "user" && (jobsUser ?? runnerUser) !== undefined) {
    throw new CommandError(
      "--user and --init-user need root (sudo): a user's service and its jobs run as that user and nobody else",
    );
  }
  if (
    uid === 0 &&
    scope === "system" &&
    jobsUser === undefined &&
    (runnerUser === undefined || runnerUser === "root")
  ) {
    throw new CommandError(
      "As whom do jobs run? Name an account with --user (such as --user builder), or --user root if jobs shall have all rights here",
    );
  }
  if (
    runnerUser !== undefined &&
    runnerUser !== "root" &&
    jobsUser !== undefined &&
    jobsUser !== runnerUser &&
    uid === 0
  ) {
    throw new CommandError(`--user ${jobsUser} needs a runner that runs as root: leave out --init-user ${runnerUser}`);
  }
  if (password !== undefined && /[\0\r\n]/.test(password)) {
    throw new CommandError("--password is one line");
  }
  const service: Service = {
    name,
    scope,
    program,
    configFile: configFileOf(textOf(values, "config"), context),
    workingDirectory: isAbsolute(given) ? given : join(cwd, given),
    // The runner's own account needs no change of account.
    jobsUser: jobsUser === runnerUser ? undefined : jobsUser,
    runnerUser,
    password,
    syslog: values.syslog === true,
    drainTimeoutMs: readDrainTimeout(textOf(values, "drain-timeout")),
  };
  for (const [what, text] of Object.entries({
    "--working-directory": service.workingDirectory,
    "--config": service.configFile,
    "--user": jobsUser,
    "--init-user": runnerUser,
    "the path of this program": program.join(" "),
  })) {
    // They would end the line of a unit, or break a plist.
    if (text !== undefined && /[\u0000-\u001f\u007f]/.test(text)) {
      throw new CommandError(`${what} contains a control character, which no service definition can hold`);
    }
  }
  for (const [flag, user] of [
    ["--user", jobsUser],
    ["--init-user", runnerUser],
  ] as const) {
    if (user !== undefined && context.uid !== undefined && !/^[A-Za-z0-9_][\w.@-]{0,63}\$?$/.test(user)) {
      throw new CommandError(`${flag} is the name of an account, not "${user}"`);
    }
  }
  return service;
}

function readDrainTimeout(text: string | undefined): number {
  if (text === undefined) return DEFAULT_DRAIN_MS;
  const ms = parseDuration(text);
  if (ms === null) throw new CommandError(`--drain-timeout is a time such as 90s, 30m or 2h, not "${text}"`);
  // Service managers take 0 for no limit.
  return Math.max(1000, ms);
}
