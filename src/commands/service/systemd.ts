import { constants } from "node:os";
import { join } from "node:path";
import { CommandError } from "../../errors.ts";
import { catches } from "./caught.ts";
import { definedByFile, type Ran, type RunTool, type ServiceManager, type ServiceName } from "./service.ts";
import { run, tryRun } from "./step.ts";
import { systemdUnit } from "./systemd-unit.ts";

const SIGNALS = { "hand over": "SIGUSR2", drain: "SIGQUIT" } as const;
/** As systemd shows `RestartKillSignal`. */
const HAND_OVER = String(constants.signals.SIGUSR2);

function systemctl({ scope }: Pick<ServiceName, "scope">): [string, ...string[]] {
  return scope === "user" ? ["systemctl", "--user"] : ["systemctl"];
}

export interface SystemdPlaces {
  /** Configuration directory of the account that calls: `~/.config`, or `XDG_CONFIG_HOME`. */
  readonly userConfigDir: string;
}

/** Units in `/etc/systemd/system`, or `systemctl --user` and `~/.config/systemd/user`. */
export function systemd({ userConfigDir }: SystemdPlaces): ServiceManager {
  const unit = ({ name }: ServiceName): string => `${name}.service`;
  const file = (service: ServiceName): string =>
    service.scope === "user"
      ? join(userConfigDir, "systemd", "user", unit(service))
      : join("/etc/systemd/system", unit(service));

  return {
    title: "systemd",
    async definition(service, runTool, signal) {
      // A package's unit lies in another directory, which systemd knows.
      const known = (await show(systemctl(service), unit(service), runTool, signal)).get("FragmentPath") ?? "";
      return (known === "" ? null : await definedByFile(known)) ?? (await definedByFile(file(service)));
    },
    install: (service) => [
      { do: "write", file: file(service), text: systemdUnit(service), mode: 0o644 },
      run(...systemctl(service), "daemon-reload"),
      run(...systemctl(service), "enable", "--quiet", unit(service)),
    ],
    uninstall: (service) => [
      tryRun(...systemctl(service), "disable", "--quiet", "--now", unit(service)),
      { do: "remove", file: file(service) },
      run(...systemctl(service), "daemon-reload"),
      // Without this call a unit that failed stays in the list of units.
      tryRun(...systemctl(service), "reset-failed", "--quiet", unit(service)),
    ],
    start: (service) => [run(...systemctl(service), "start", unit(service))],
    stop: (service) => [run(...systemctl(service), "stop", unit(service))],
    restart: (service, way) => [
      way === "by the manager"
        ? run(...systemctl(service), "restart", unit(service))
        : run(...systemctl(service), "kill", "--kill-who=main", `--signal=${SIGNALS[way]}`, unit(service)),
    ],
    async restartWay(service, runTool, signal) {
      const shown = await show(systemctl(service), unit(service), runTool, signal);
      const pid = Number(shown.get("MainPID") ?? 0);
      const restarts = shown.get("RestartKillSignal");
      if (pid === 0 || (restarts !== undefined && restarts !== HAND_OVER)) return "by the manager";
      const knows = await catches(pid, "SIGUSR2");
      // Before systemd 244 a restart is a stop and a start, and drains.
      if (restarts === undefined) return knows ? "hand over" : "by the manager";
      return knows ? "by the manager" : "drain";
    },
    async state(service, runTool, signal) {
      const shown = await show(systemctl(service), unit(service), runTool, signal);
      const active = shown.get("ActiveState") ?? "unknown";
      // A unit that is restarted again and again because it fails is "activating", too.
      const starting = active === "activating" && shown.get("SubState") !== "auto-restart";
      // What a process said last is shown for ever, also once it is gone.
      const text = active === "inactive" || active === "failed" ? "" : (shown.get("StatusText") ?? "");
      const pid = shown.get("MainPID") ?? "0";
      const parts = [
        `${active} (${shown.get("SubState") ?? "unknown"})`,
        ...(text === "" ? [] : [text]),
        ...(pid === "0" ? [] : [`pid ${pid}`]),
        ...(active === "failed"
          ? [`see: journalctl ${service.scope === "user" ? "--user " : ""}-u ${unit(service)}`]
          : []),
      ];
      return {
        running: starting || ["active", "reloading", "deactivating"].includes(active),
        detail: parts.join(", "),
      };
    },
    advice: (service) =>
      service.scope === "system"
        ? []
        : ["it runs while you are logged in; to let it run always: loginctl enable-linger"],
  };
}

/** Whether the unit is being stopped, as a shutdown does, too: not restarted, and not to be started again after a crash. */
export async function isStopping(
  { unit, scope }: { readonly unit: string; readonly scope: ServiceName["scope"] },
  runTool: RunTool,
  signal: AbortSignal,
): Promise<boolean> {
  const { status, stdout, stderr } = await runTool([...systemctl({ scope }), "list-jobs", "--no-legend"], signal);
  if (status !== 0) throw new CommandError(`Cannot ask systemd what becomes of ${unit}: ${stderr.trim()}`);
  return stdout.split("\n").some((line) => {
    const [, name, type] = line.trim().split(/\s+/);
    return name === unit && type === "stop";
  });
}

const SHOWN = "FragmentPath,ActiveState,SubState,StatusText,MainPID,RestartKillSignal";

async function show(
  systemctl: [string, ...string[]],
  unit: string,
  runTool: RunTool,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, string>> {
  const ran: Ran = await runTool([...systemctl, "show", `--property=${SHOWN}`, unit], signal);
  return new Map(
    ran.stdout.split("\n").flatMap((line) => {
      const at = line.indexOf("=");
      return at === -1 ? [] : [[line.slice(0, at), line.slice(at + 1)] as const];
    }),
  );
}
