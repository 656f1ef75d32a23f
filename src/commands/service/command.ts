import { stat } from "node:fs/promises";
import { dirname } from "node:path";
import { CommandError } from "../../errors.ts";
import type { CommandContext } from "../context.ts";
import { type FlagValues, textOf } from "../register/runner-flags.ts";
import { managerFor, type ServicePlace } from "./managers.ts";
import { DEFAULT_NAME, readService, readServiceName } from "./options.ts";
import { type Doing, perform, refuseForeign, toolRunner } from "./perform.ts";
import type { RestartWay, Service, ServiceManager, ServiceName } from "./service.ts";
import { describeStep, type Step } from "./step.ts";

export type ServiceAction = "install" | "uninstall" | "start" | "stop" | "restart" | "status";

/**
 * `install` and its like. Repeating one changes nothing; `--dry-run` prints what would be done and does nothing.
 * @returns the exit status: `status` of a service that does not run is 1
 * @throws {CommandError} what is wrong, and what to do
 */
export async function serviceCommand(
  action: ServiceAction,
  values: FlagValues,
  context: CommandContext,
  place: ServicePlace,
): Promise<number> {
  const { signal, print, say } = context;
  const name = readServiceName(values, context);
  const manager = managerFor(textOf(values, "service-host"), context, place);
  const run = toolRunner(context.env);
  const doing: Doing = { service: name, manager, run, say };

  if (action === "status") return await showStatus(doing, print, signal);

  const service = action === "install" ? readService(values, context, place.program) : undefined;
  const dryRun = values.dryRun === true;
  // A trial shows what would happen also where there is no such service manager.
  const defined = await manager.definition(name, run, signal).catch((error) => {
    if (dryRun) return null;
    throw error;
  });
  if (defined !== null) refuseForeign(defined);
  if (defined !== null && isPackaged(defined.place) && (action === "install" || action === "uninstall")) {
    throw new CommandError(
      action === "install"
        ? `${defined.place} comes with a package: change it with "systemctl edit ${name.name}", or choose another name with --service`
        : `${defined.place} comes with a package: remove that, or stop the service with "stop"`,
    );
  }
  const way = action === "restart" && defined !== null ? await manager.restartWay?.(name, run, signal) : undefined;
  const steps =
    service !== undefined ? installSteps(manager, service, defined !== null) : stepsOf(manager, action, name, way);
  if (dryRun) {
    print(steps.map(describeStep).join("\n"));
    return 0;
  }
  if (service !== undefined) await check(service, run, context);
  else if (defined === null) {
    const absent = `The service ${name.name} is not installed${otherScope(name)}`;
    if (action === "start" || action === "restart") {
      const flag = name.name === DEFAULT_NAME ? "" : ` --service ${name.name}`;
      throw new CommandError(`${absent}: run "alloy-runner install${flag}" first`);
    }
    say(absent);
    return 0;
  }

  if (action === "stop" || action === "restart" || action === "uninstall") await announceStop(doing, action, signal);
  for (const step of steps) await perform(step, doing, signal);
  say(`${name.name}: ${way === "drain" || way === "hand over" ? LATER[way] : DONE[action]}`);
  if (service !== undefined) for (const line of manager.advice(service)) say(line);
  return 0;
}

async function showStatus(
  { manager, service, run, say }: Doing,
  print: (text: string) => void,
  signal: AbortSignal,
): Promise<number> {
  const defined = await manager.definition(service, run, signal);
  const state = defined === null ? null : await manager.state(service, run, signal);
  if (state?.running === true) {
    print(`${service.name}: ${state.detail}`);
    return 0;
  }
  say(`${service.name}: ${state === null ? `not installed${otherScope(service)}` : state.detail}`);
  return 1;
}

const DONE: Readonly<Record<Exclude<ServiceAction, "status">, string>> = {
  install: 'installed, also for the next start of the machine; "start" starts it now',
  uninstall: "stopped and uninstalled; configuration and state are left",
  start: "started",
  stop: "stopped",
  restart: "restarted",
};

/** Of a restart that only begins with the command. */
const LATER: Readonly<Record<Exclude<RestartWay, "by the manager">, string>> = {
  "hand over": "told to hand over; it is started again as soon as it has ended",
  drain:
    "told to finish its jobs, as the running version cannot hand them over; it is started again with this one after the last",
};

function stepsOf(
  manager: ServiceManager,
  action: Exclude<ServiceAction, "status">,
  name: ServiceName,
  way: RestartWay = "by the manager",
): readonly Step[] {
  if (action === "install") return [];
  return action === "restart" ? manager.restart(name, way) : manager[action](name);
}

function installSteps(manager: ServiceManager, service: Service, replaces: boolean): readonly Step[] {
  return [
    { do: "directory", path: dirname(service.configFile), mode: 0o700 },
    { do: "create", file: service.configFile, text: "", mode: 0o600 },
    ...manager.install(service, replaces),
  ];
}

/** @throws {CommandError} the service could not work */
async function check(service: Service, run: Doing["run"], { signal, uid }: CommandContext): Promise<void> {
  const directory = await stat(service.workingDirectory).catch(() => null);
  if (directory?.isDirectory() !== true) {
    throw new CommandError(
      `--working-directory ${service.workingDirectory} is no directory: create it, or name one that exists`,
    );
  }
  for (const user of [service.jobsUser, service.runnerUser]) {
    if (user === undefined || uid === undefined) continue;
    if ((await run(["id", "-u", user], signal)).status !== 0) {
      throw new CommandError(
        `There is no account "${user}" on this machine: create it (useradd --create-home ${user}), or name another`,
      );
    }
  }
}

async function announceStop(
  { manager, service, run, say }: Doing,
  action: "stop" | "restart" | "uninstall",
  signal: AbortSignal,
): Promise<void> {
  const state = await manager.state(service, run, signal);
  if (!state.running) return;
  say(
    `${service.name}: ${action === "restart" ? "restarting; durable jobs go on, others" : "stopping; running jobs"} may finish first`,
  );
}

function isPackaged(place: string): boolean {
  return /^\/(?:usr\/)?lib\/systemd\//.test(place);
}

function otherScope({ scope }: ServiceName): string {
  return scope === "user" ? " for this user (services of the system need root: sudo)" : "";
}
