import { join } from "node:path";
import { definedByFile, runArguments, type Service, type ServiceManager, type ServiceName } from "./service.ts";
import { MARKER, run, tryRun } from "./step.ts";

export interface LaunchdPlaces {
  /** Home directory of the account that calls. */
  readonly home: string;
  readonly uid: number;
}

/** What launchd waits between SIGTERM and SIGKILL: more than the runner's `shutdown_timeout` of 30 s. */
const EXIT_SECONDS = 60;

/** `/Library/LaunchDaemons`, or `~/Library/LaunchAgents` of the account that calls. */
export function launchd({ home, uid }: LaunchdPlaces): ServiceManager {
  const file = ({ name, scope }: ServiceName): string =>
    scope === "system" ? `/Library/LaunchDaemons/${name}.plist` : join(home, "Library/LaunchAgents", `${name}.plist`);
  const domain = ({ scope }: ServiceName): string => (scope === "system" ? "system" : `gui/${uid}`);
  const target = (service: ServiceName): string => `${domain(service)}/${service.name}`;
  const logFile = ({ name, scope }: ServiceName): string =>
    scope === "system" ? `/var/log/${name}.log` : join(home, "Library/Logs", `${name}.log`);

  return {
    title: "launchd",
    definition: (service) => definedByFile(file(service)),
    install: (service) => [
      { do: "write", file: file(service), text: launchdPlist(service, logFile(service)), mode: 0o644 },
      // The service may have been disabled when somebody uninstalled it by hand.
      run("launchctl", "enable", target(service)),
    ],
    uninstall: (service) => [tryRun("launchctl", "bootout", target(service)), { do: "remove", file: file(service) }],
    start: (service) => [
      // This fails if the service is loaded already; then the next call starts it.
      tryRun("launchctl", "bootstrap", domain(service), file(service)),
      run("launchctl", "kickstart", target(service)),
    ],
    stop: (service) => [tryRun("launchctl", "bootout", target(service))],
    restart: (service) => [
      // This fails if the service is loaded already.
      tryRun("launchctl", "bootstrap", domain(service), file(service)),
      // It waits for jobs that are not durable, and is started again once it has ended.
      run("launchctl", "kill", "SIGUSR2", target(service)),
    ],
    async state(service, runTool, signal) {
      const { status, stdout } = await runTool(["launchctl", "print", target(service)], signal);
      // launchd knows only services that are loaded.
      if (status !== 0) return { running: false, detail: "stopped" };
      const state = /^\s*state = (.+)$/m.exec(stdout)?.[1] ?? "unknown";
      const pid = /^\s*pid = (\d+)$/m.exec(stdout)?.[1];
      return {
        running: state === "running",
        detail: pid === undefined ? state : `${state}, pid ${pid}`,
      };
    },
    advice: (service) => [
      `its log is ${logFile(service)}`,
      `launchd cannot wait for jobs: a stop ends them within ${EXIT_SECONDS} s. To let them finish first, send SIGQUIT and then stop: launchctl kill SIGQUIT ${target(service)}`,
    ],
  };
}

/** Source: launchd.plist(5). */
export function launchdPlist(service: Service, logFile: string): string {
  const words = [...service.program, ...runArguments(service)];
  return `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- ${MARKER}; "alloy-runner uninstall" removes it, the next install replaces it. -->
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>${xml(service.name)}</string>
  <key>ProgramArguments</key>
  <array>
${words.map((word) => `    <string>${xml(word)}</string>`).join("\n")}
  </array>
${service.runnerUser === undefined ? "" : `  <key>UserName</key>\n  <string>${xml(service.runnerUser)}</string>\n`}  <key>EnvironmentVariables</key>
  <dict>
    <key>PATH</key>
    <string>/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin</string>
  </dict>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <true/>
  <key>AbandonProcessGroup</key>
  <true/>
  <key>ThrottleInterval</key>
  <integer>10</integer>
  <key>ExitTimeOut</key>
  <integer>${EXIT_SECONDS}</integer>
  <key>SoftResourceLimits</key>
  <dict>
    <key>NumberOfFiles</key>
    <integer>8192</integer>
  </dict>
  <key>StandardOutPath</key>
  <string>${xml(logFile)}</string>
  <key>StandardErrorPath</key>
  <string>${xml(logFile)}</string>
</dict>
</plist>
`;
}

function xml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
