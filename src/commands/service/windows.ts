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

/** More than the runner's `shutdown_timeout` of 30 s. */
const STOP_SECONDS = 60;
/** `sc query` of a name that is not there: ERROR_SERVICE_DOES_NOT_EXIST. */
const NO_SUCH_SERVICE = 1060;
/** ERROR_SERVICE_NOT_ACTIVE, ERROR_SERVICE_ALREADY_RUNNING. */
const NOT_ACTIVE = 1062;
const RUNNING_ALREADY = 1056;

/**
 * The service manager, through `sc.exe`. It talks to programs in a way that neither Node nor Bun can answer, so the service is a
 * small program of its own that starts the runner, keeps its log, and ends it by Ctrl-Break, which the runner takes as a stop.
 */
export function windows({ host, programData }: WindowsPlaces): ServiceManager {
  const folder = win32.join(programData, "alloy-runner");
  return {
    title: "the service manager",
    async definition({ name }, runTool, signal) {
      const { status, stdout } = await runTool(["sc.exe", "qdescription", name, "4096"], signal);
      return status === 0 ? { place: `service ${name}`, text: stdout } : null;
    },
    install: (service) => {
      const logFile = win32.join(folder, `${service.name}.log`);
      const account = accountOf(service);
      // "create" refuses a name that exists, "config" one that does not: what is right is right after both.
      const settings = ["binPath=", serviceCommand(service, host, logFile), "start=", "delayed-auto", ...account];
      const secrets = service.password === undefined ? [] : [service.password];
      const steps: Step[] = [
        { do: "directory", path: folder, mode: 0o700 },
        { do: "run", argv: ["sc.exe", "create", service.name, ...settings], optional: true, secrets },
        { do: "run", argv: ["sc.exe", "config", service.name, ...settings], optional: false, secrets },
        run("sc.exe", "description", service.name, `Runs CI jobs for an AlloyCI or GitLab coordinator. ${MARKER}.`),
        // Also when it ends by itself with a status: three times after 10 s each, counted anew after a minute.
        run("sc.exe", "failure", service.name, "reset=", "60", "actions=", "restart/10000/restart/10000/restart/10000"),
        tryRun("sc.exe", "failureflag", service.name, "1"),
      ];
      return steps;
    },
    uninstall: ({ name }) => [...stopSteps(name), run("sc.exe", "delete", name)],
    start: ({ name }) => [{ ...run("sc.exe", "start", name), accept: [RUNNING_ALREADY] }],
    stop: ({ name }) => stopSteps(name),
    restart: ({ name }) => [...stopSteps(name), run("sc.exe", "start", name)],
    async state({ name }, runTool, signal) {
      const { status, stdout } = await runTool(["sc.exe", "query", name], signal);
      if (status === NO_SUCH_SERVICE) return { installed: false };
      const state = /STATE\s*:\s*\d+\s+(\w+)/.exec(stdout)?.[1] ?? "UNKNOWN";
      return { installed: status === 0, running: /^(RUNNING|START_PENDING|STOP_PENDING)$/.test(state), detail: state };
    },
    advice: ({ name }) => [
      `its log is ${win32.join(folder, `${name}.log`)}`,
      `Windows cannot wait for jobs: a stop ends them within ${STOP_SECONDS} s`,
    ],
  };
}

/** `sc stop` only asks: the service has stopped when its host says so. */
function stopSteps(name: string): Step[] {
  return [
    { ...run("sc.exe", "stop", name), accept: [NOT_ACTIVE] },
    { do: "await-stopped", limitMs: (STOP_SECONDS + 30) * 1000 },
  ];
}

/** The command line that the service manager starts. */
export function serviceCommand(service: Service, host: string, logFile: string): string {
  const settings = ["--name", service.name, "--log", logFile, "--stop-seconds", String(STOP_SECONDS), "--"];
  return windowsCommandLine([host, ...settings, ...service.program, ...runArguments(service)]);
}

function accountOf({ runnerUser, password }: Service): string[] {
  if (runnerUser === undefined) return ["obj=", "LocalSystem"];
  // `builder` means the machine's own account.
  const account = /[\\@]/.test(runnerUser) ? runnerUser : `.\\${runnerUser}`;
  return ["obj=", account, ...(password === undefined ? [] : ["password=", password])];
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
