import { readFile } from "node:fs/promises";
import { CommandError, describeError } from "../../errors.ts";
import type { Argv } from "../../shell.ts";
import type { Step } from "./step.ts";

/** Which service is meant: several may be on one machine, by name. */
export interface ServiceName {
  /** `alloy-runner`, or what `--service` says: letters, digits, `-`, `_` and `.`. */
  readonly name: string;
  /** `user`: of the account that calls; nothing of it needs root. */
  readonly scope: "system" | "user";
}

/** A service to be installed. Paths are absolute. */
export interface Service extends ServiceName {
  /** What starts this program: the binary, or a runtime and its script. */
  readonly program: Argv;
  readonly configFile: string;
  readonly workingDirectory: string;
  /** Account of the shell executor's scripts; `undefined`: that of the runner. */
  readonly jobsUser: string | undefined;
  /** Account of the runner itself; `undefined`: root, LocalSystem or, in user scope, who calls. */
  readonly runnerUser: string | undefined;
  /** The password of `runnerUser`, where Windows wants one. */
  readonly password: string | undefined;
  readonly syslog: boolean;
  /** How long a stop waits for running jobs. */
  readonly drainTimeoutMs: number;
}

interface ServiceState {
  /** True also while the service starts or stops. */
  readonly running: boolean;
  /** Whether it was told to stop already. */
  readonly stopping?: boolean;
  /** For a person: `active (running), asking for jobs of 2 runners, pid 123`. */
  readonly detail: string;
}

/** A program that was run to its end. */
export interface Ran {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}
/** Runs a program and never rejects because of its status. @throws {CommandError} it cannot be started */
export type RunTool = (argv: ToolCall, signal: AbortSignal) => Promise<Ran>;
/** A program's words, or these and what it reads on its standard input. */
type ToolCall = Argv | { readonly argv: Argv; readonly input: string };

/**
 * `hand over`, `drain`: the runner is told so itself, and started again once it has ended. The first is for service managers that do
 * not tell a restart from a stop, the second for a running process that does not know what handing over is.
 */
export type RestartWay = "by the manager" | "hand over" | "drain";

/** What starts, stops and watches services on this platform. All but `definition` and `state` is pure. */
export interface ServiceManager {
  /** For messages: `systemd`. */
  readonly title: string;
  /** What defines the service now, as text; `null`: nothing does. `place` is its file, or the manager's own database. */
  definition(
    service: ServiceName,
    run: RunTool,
    signal: AbortSignal,
  ): Promise<{ readonly place: string; readonly text: string } | null>;
  /** @param replaces a service of this name is there */
  install(service: Service, replaces: boolean): readonly Step[];
  uninstall(service: ServiceName): readonly Step[];
  start(service: ServiceName): readonly Step[];
  /** Lets running jobs finish where the platform can; resolves when it has stopped. */
  stop(service: ServiceName): readonly Step[];
  restart(service: ServiceName, way: RestartWay): readonly Step[];
  /** How a service is restarted so that nothing of its jobs is lost; absent: `by the manager`. */
  restartWay?(service: ServiceName, run: RunTool, signal: AbortSignal): Promise<RestartWay>;
  /** The state of a service that is defined. */
  state(service: ServiceName, run: RunTool, signal: AbortSignal): Promise<ServiceState>;
  /** What a person should do or know after `install`; empty: nothing. */
  advice(service: Service): readonly string[];
}

/** A definition that is a file. */
export async function definedByFile(file: string): Promise<{ readonly place: string; readonly text: string } | null> {
  try {
    return { place: file, text: await readFile(file, "utf8") };
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ENOTDIR")) return null;
    throw new CommandError(`Cannot read ${file}, which defines the service: ${describeError(error)}`, { cause: error });
  }
}

/** Arguments of the runner as a service. */
export function runArguments(service: Service): string[] {
  const words = ["run", "--working-directory", service.workingDirectory, "--config", service.configFile];
  words.push("--service", service.name);
  if (service.syslog) words.push("--syslog");
  if (service.jobsUser !== undefined) words.push("--user", service.jobsUser);
  return words;
}

/** The hidden command that ends what a service has left, once it has stopped. */
export const END_JOBS_COMMAND = "end-jobs";

/** Its arguments, without the name that the service manager has for the service. */
export function endJobsArguments({ configFile, scope }: Service): string[] {
  return [END_JOBS_COMMAND, "--config", configFile, ...(scope === "user" ? ["--user-service"] : [])];
}
