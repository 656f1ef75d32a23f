import { win32 } from "node:path";
import type { Argv } from "../../shell.ts";
import { runArguments, type Service, type ServiceManager } from "./service.ts";
import { MARKER, run, type Step, tryRun } from "./step.ts";

export interface WindowsPlaces {
  /** `alloy-runner-service.exe`, which answers the service manager and keeps the runner as its child. Absolute. */
  readonly host: string;
  /** `C:\ProgramData`. */
  readonly programData: string;
}

/**
 * The service manager, through `sc.exe`. It talks to programs in a way that neither Node nor Bun can answer, so the service is a
 * small program of its own that starts the runner, keeps its log, and tells it on its standard input to drain or to stop.
 */
export function windows({ host, programData }: WindowsPlaces): ServiceManager {
  const folder = win32.join(programData, "alloy-runner");
  return {
    title: "the service manager",
    async definition({ name }, runTool, signal) {
      // The registry has the same words in each language of Windows, unlike the output of `sc qc`.
      const key = `HKLM\\SYSTEM\\CurrentControlSet\\Services\\${name}`;
      const { status, stdout } = await runTool(["reg.exe", "query", key], signal);
      if (status !== 0) return null;
      // The command line shows whose service it is, also if an install was interrupted before the description was set.
      const ours = /ImagePath.* --drain-seconds \d+ -- /.test(stdout);
      return { place: `The service ${name}`, text: ours ? `${MARKER}\n${stdout}` : stdout };
    },
    install: (service, replaces) => {
      const logFile = win32.join(folder, `${service.name}.log`);
      const { name, runnerUser, password } = service;
      const command = ["binPath=", serviceCommand(service, host, logFile)];
      const account = runnerUser === undefined ? "LocalSystem" : accountOf(runnerUser);
      // If this is interrupted before the service has its account, the service would start with all rights.
      const withPassword: Step[] = [
        ...(replaces ? [] : [run("sc.exe", "create", name, ...command, "start=", "disabled")]),
        { ...run(host, "--set-account", name, account), input: `${password ?? ""}\n` },
        run("sc.exe", "config", name, ...command, "start=", "auto"),
      ];
      return [
        { do: "directory", path: folder, mode: 0o700 },
        ...(runnerUser !== undefined && password !== undefined
          ? withPassword
          : [run("sc.exe", replaces ? "config" : "create", name, ...command, "start=", "auto", "obj=", account)]),
        run("sc.exe", "description", service.name, `Runs CI jobs for an AlloyCI or GitLab coordinator. ${MARKER}.`),
        // Started again 10 s after it ended, also when it ended by itself with a status; never given up.
        run("sc.exe", "failure", service.name, "reset=", "60", "actions=", "restart/10000/restart/10000/restart/10000"),
        tryRun("sc.exe", "failureflag", service.name, "1"),
      ];
    },
    uninstall: ({ name }) => [...stopSteps(name), run("sc.exe", "delete", name)],
    start: ({ name }) => [startStep(name)],
    stop: ({ name }) => stopSteps(name),
    restart: ({ name }) => [...stopSteps(name), startStep(name)],
    async state({ name }, runTool, signal) {
      const { stdout } = await runTool(["sc.exe", "query", name], signal);
      // `STATE : 4  RUNNING`: 1 is stopped, whatever the language calls it.
      const [, state = "1", word = "STOPPED"] =
        /:\s*([1-7])\s+(\w+)/.exec(stdout.replace(/^.*(?:SERVICE_NAME|TYPE).*$/gm, "")) ?? [];
      return { running: state !== "1", stopping: state === "3", detail: word.toLowerCase().replaceAll("_", " ") };
    },
    advice: ({ name, runnerUser, password }) => [
      `its log is ${win32.join(folder, `${name}.log`)}`,
      ...(runnerUser === undefined || password === undefined
        ? []
        : [`${accountOf(runnerUser)} needs the right to log on as a service (secpol.msc, User Rights Assignment)`]),
    ],
  };
}

function startStep(name: string): Step {
  return { ...run("sc.exe", "start", name), needlessWhen: "running" };
}

/** `sc stop` only asks: the service has stopped when its host says so. */
function stopSteps(name: string): Step[] {
  return [{ ...run("sc.exe", "stop", name), needlessWhen: "stopped" }, { do: "await-stopped" }];
}

/** The command line that the service manager starts. */
function serviceCommand(service: Service, host: string, logFile: string): string {
  const drainSeconds = String(Math.ceil(service.drainTimeoutMs / 1000));
  const settings = ["--name", service.name, "--log", logFile, "--drain-seconds", drainSeconds, "--"];
  return windowsCommandLine([host, ...settings, ...service.program, ...runArguments(service), "--wishes-on-stdin"]);
}

/** `builder` means the machine's own account. */
function accountOf(user: string): string {
  return /[\\@]/.test(user) || /^LocalSystem$/i.test(user) ? user : `.\\${user}`;
}

/** Words as one command line, by the rules of CommandLineToArgvW. */
export function windowsCommandLine(words: Argv): string {
  return words
    .map((word) =>
      word !== "" && !/[\s"]/.test(word)
        ? word
        : `"${word.replaceAll(/(\\*)"/g, '$1$1\\"').replace(/(\\+)$/, "$1$1")}"`,
    )
    .join(" ");
}
