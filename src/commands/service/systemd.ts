import { join } from "node:path";
import { definedByFile, type Ran, type RunTool, type ServiceManager, type ServiceName } from "./service.ts";
import { run, tryRun } from "./step.ts";
import { systemdUnit } from "./systemd-unit.ts";

export interface SystemdPlaces {
  /** Configuration directory of the account that calls: `~/.config`, or `XDG_CONFIG_HOME`. */
  readonly userConfigDir: string;
}

/** Units in `/etc/systemd/system`, or `systemctl --user` and `~/.config/systemd/user`. */
export function systemd({ userConfigDir }: SystemdPlaces): ServiceManager {
  const systemctl = ({ scope }: ServiceName): [string, ...string[]] =>
    scope === "user" ? ["systemctl", "--user"] : ["systemctl"];
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
    restart: (service) => [run(...systemctl(service), "restart", unit(service))],
    async state(service, runTool, signal) {
      const shown = await show(systemctl(service), unit(service), runTool, signal);
      const active = shown.get("ActiveState") ?? "unknown";
      // A unit that is restarted again and again because it fails is "activating", too.
      const starting = active === "activating" && shown.get("SubState") !== "auto-restart";
      const text = shown.get("StatusText") ?? "";
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

async function show(
  systemctl: [string, ...string[]],
  unit: string,
  runTool: RunTool,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, string>> {
  const ran: Ran = await runTool(
    [...systemctl, "show", "--property=FragmentPath,ActiveState,SubState,StatusText,MainPID", unit],
    signal,
  );
  return new Map(
    ran.stdout.split("\n").flatMap((line) => {
      const at = line.indexOf("=");
      return at === -1 ? [] : [[line.slice(0, at), line.slice(at + 1)] as const];
    }),
  );
}
