import { endJobsArguments, runArguments, type Service } from "./service.ts";
import { MARKER } from "./step.ts";

/**
 * The unit of a service, with a reason at each line that needs one: operators read it.
 * Sources: systemd.service(5), systemd.exec(5), systemd.kill(5), systemd.resource-control(5). All keys are known to systemd 239, but for
 * RestartKillSignal (244), without which a restart drains.
 */
export function systemdUnit(service: Service): string {
  const asRoot = service.scope === "system" && (service.runnerUser === undefined || service.runnerUser === "root");
  const name = service.name;
  return `# ${MARKER}; "alloy-runner uninstall" removes it.
# Own settings belong into a drop-in ("systemctl ${service.scope === "user" ? "--user " : ""}edit ${name}"): this file is replaced by the next install.

[Unit]
Description=alloy-runner${name === "alloy-runner" ? "" : ` (${name})`}: runs CI jobs
Documentation=https://github.com/AlloyCI/alloy-runner
${
  service.scope === "system"
    ? `After=network-online.target nss-user-lookup.target docker.service
Wants=network-online.target
`
    : ""
}ConditionFileIsExecutable=${specifiers(service.program[0] ?? "")}
# Never given up: a runner whose disk was full or whose file was broken comes back by itself.
StartLimitIntervalSec=0

[Service]
Type=notify
${
  asRoot
    ? "# Only the runner says how it is; jobs cannot."
    : "# The messages are sent by a child of the runner, as only root may send them in another's name."
}
NotifyAccess=${asRoot ? "main" : "all"}
ExecStart=${commandLine([...service.program, ...runArguments(service)])}
ExecReload=/bin/kill -HUP $MAINPID
# Proxies and the like: HTTPS_PROXY=…
EnvironmentFile=-/etc/default/${name}
EnvironmentFile=-/etc/sysconfig/${name}
${service.scope === "system" && service.runnerUser !== undefined ? `User=${service.runnerUser}\n` : ""}${asRoot || service.scope === "user" ? "" : runtimeDirectory(service)}# Jobs that died with the last process are cleaned up before it is ready.
TimeoutStartSec=5min
Restart=always
RestartSec=1

# A stop drains: SIGQUIT to the runner alone, no new jobs, the running ones finish. What is left after this time is killed and
# reported by the next start. "systemctl kill --kill-whom=main --signal=TERM ${name}" ends running jobs at once and reports them.
KillSignal=SIGQUIT
TimeoutStopSec=${Math.ceil(service.drainTimeoutMs / 1000)}
# A restart hands over: durable jobs go on, and the next process with them; others finish first.
RestartKillSignal=SIGUSR2
# Nothing but the runner is killed: jobs are to outlive it, and after a stop this ends those that did.
KillMode=process
ExecStopPost=-${commandLine([...service.program, ...endJobsArguments(service)])} --unit %n
# The key that secrets of durable jobs are kept with, encrypted for this machine; else it is in /run and goes with the boot:
# LoadCredentialEncrypted=alloy-runner.key:/etc/credstore.encrypted/alloy-runner.key

# The runner keeps a control group for each script, so that nothing a job starts can hide from its end.
Delegate=yes
# A job that needs too much memory loses a process, not the whole service.
OOMPolicy=continue
# Builds start many processes; the limits are those of the machine.
TasksMax=infinity
# The memory of a program that crashed holds secrets. A job that wants its core files says "ulimit -c unlimited".
LimitCORE=0:infinity
${asRoot ? hardening(name) : unprivileged()}
[Install]
WantedBy=${service.scope === "system" ? "multi-user.target" : "default.target"}
`;
}

/** Root has /run itself, and a user's services that of the session. */
function runtimeDirectory({ name, runnerUser }: Service): string {
  return `# In memory: the key that secrets of durable jobs are kept with. Not of the service's own name, which may be root's directory.
RuntimeDirectory=${specifiers(`${name}-${runnerUser}`)}
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=restart
`;
}

/**
 * Jobs are children of the runner and get what it has. Tried and left out, because builds break: see the text.
 */
function hardening(name: string): string {
  return `
# Neither the runner nor what it starts, sudo included, may load kernel modules, set the clock, reboot, or reach hardware past
# the kernel.
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_TIME CAP_WAKE_ALARM CAP_SYS_BOOT CAP_SYS_RAWIO CAP_MAC_ADMIN CAP_MAC_OVERRIDE
# Configuration (tokens) and state (what jobs print) are for root only.
ConfigurationDirectory=alloy-runner
ConfigurationDirectoryMode=0700
StateDirectory=alloy-runner
StateDirectoryMode=0700
# Keys that root keeps in the kernel's keyring are not for jobs.
KeyringMode=private
# Left out, as jobs may need it: NoNewPrivileges and RestrictSUIDSGID (sudo, packaging), ProtectSystem and ProtectHome (installing,
# builds at home), PrivateTmp (docker run -v /tmp/…), PrivateDevices (kvm, fuse), ProtectKernelModules (reading /lib/modules),
# ProtectKernelTunables, ProtectHostname and RestrictNamespaces (podman, buildah, bubblewrap), LockPersonality (gdb, 32-bit
# builds), MemoryDenyWriteExecute (every JIT compiler), SystemCallArchitectures (wine, 32-bit programs).
# Where your jobs do without, add what you can: systemctl edit ${name}
`;
}

function unprivileged(): string {
  return `
# The runner has no more rights than its account; sandboxing options would set NoNewPrivileges and so take sudo from jobs.
`;
}

/** The value of ExecStart= and its like. */
function commandLine(words: readonly string[]): string {
  return words.map((word, index) => (index === 0 ? quote(specifiers(word)) : argument(word))).join(" ");
}

/** A word of ExecStart=, where `%` and `$` are special even in quotes. */
function argument(word: string): string {
  return quote(specifiers(word).replaceAll("$", "$$$$"));
}

function specifiers(word: string): string {
  return word.replaceAll("%", "%%");
}

function quote(word: string): string {
  return /^[\w@+=:,./%-]+$/.test(word) ? word : `"${word.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}
