import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * A booted system: systemd as the first process of a container, with this machine's programs and network, and an /etc
 * and a /var of its own; nothing is written through to the machine. Needs root, systemd and systemd-nspawn.
 */
export interface Booted {
  /** Its root directory as seen from here: files can be read and written below. */
  readonly root: string;
  /** Runs a command in it as root. */
  exec(argv: readonly string[], env?: Readonly<Record<string, string>>): Promise<Ended>;
  /** Like `exec`, but a status other than 0 rejects, with what was printed. */
  must(argv: readonly string[], env?: Readonly<Record<string, string>>): Promise<string>;
  close(): Promise<void>;
}

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What is copied from this machine's /etc: accounts, linking, PAM, D-Bus. */
const ETC = "passwd group shadow gshadow pam.d security login.defs ld.so.cache ld.so.conf ld.so.conf.d nsswitch.conf";
const MORE_ETC = "alternatives skel dbus-1 debian_version os-release shells bash.bashrc profile ssl dpkg rpm";

/** Why no system can be booted on this machine; `null`: it can. */
export function cannotBoot(): string | null {
  if (process.platform !== "linux") return "needs Linux";
  if (process.getuid?.() !== 0) return "needs root";
  for (const program of ["/usr/bin/systemd-nspawn", "/usr/bin/unshare", "/usr/bin/nsenter", "/lib/systemd/systemd"]) {
    try {
      readFileSync(program, { flag: "r" }).subarray(0, 1);
    } catch {
      return `needs ${program}`;
    }
  }
  return null;
}

/** @param setup shell lines that run before it boots, with the root directory in `$root` */
export async function boot(setup = ""): Promise<Booted> {
  const dir = await mkdtemp(join(tmpdir(), "alloy-boot-"));
  // All mounts are in a mount namespace of their own: they end with its last process, however the test ends.
  const script = `set -e
cd ${dir}
mount -t tmpfs -o mode=0755 none .
cd ${dir}
root=$PWD/root
mkdir -p root/etc/systemd/system root/usr upper work root/etc root/var/lib root/run root/tmp root/proc root/sys root/dev root/root root/home root/opt
mount -t overlay -o lowerdir=/usr,upperdir=$PWD/upper,workdir=$PWD/work overlay root/usr
for link in bin sbin lib lib64; do ln -s usr/$link root/$link; done
for name in ${ETC} ${MORE_ETC}; do [ ! -e /etc/$name ] || cp -a /etc/$name root/etc/; done
echo alloy-test >root/etc/hostname
# A machine id says that this is no first boot, which would start every service that this machine has installed.
tr -d - </proc/sys/kernel/random/uuid >root/etc/machine-id
rm -f root/usr/sbin/policy-rc.d
echo "127.0.0.1 localhost" >root/etc/hosts
cp -a /var/lib/dpkg root/var/lib/ 2>/dev/null || true
rm -f root/var/lib/dpkg/lock*
${setup}
exec systemd-nspawn --directory=root --boot --register=no --keep-unit --machine=${dir.split("/").pop()} --console=pipe systemd.log_level=warning
`;
  const child = spawn("unshare", ["--mount", "--propagation", "private", "sh", "-c", script], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  child.stdout.on("data", (bytes) => (printed += bytes));
  child.stderr.on("data", (bytes) => (printed += bytes));
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const remove = async (): Promise<void> => await rm(dir, { recursive: true, force: true });
  try {
    const leader = await leaderOf(child, () => printed);
    const booted = open(leader, child, ended, remove);
    await untilRunning(booted, () => printed);
    return booted;
  } catch (error) {
    child.kill("SIGKILL");
    await ended;
    await remove();
    throw error;
  }
}

function open(leader: number, child: ChildProcess, ended: Promise<void>, remove: () => Promise<void>): Booted {
  const root = `/proc/${leader}/root`;
  const exec: Booted["exec"] = (argv, env = {}) =>
    new Promise((resolve, reject) => {
      const inside = ["--target", String(leader), "--all"];
      const clean = {
        PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        HOME: "/root",
        LANG: "C.UTF-8",
        ...env,
      };
      execFile("nsenter", [...inside, "--", ...argv], { env: clean, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
        if (error !== null && typeof error.code !== "number") reject(error);
        else resolve({ code: typeof error?.code === "number" ? error.code : 0, stdout, stderr });
      });
    });
  return {
    root,
    exec,
    async must(argv, env) {
      const { code, stdout, stderr } = await exec(argv, env);
      if (code !== 0) throw new Error(`${argv.join(" ")} ended with ${code}\n${stdout}${stderr}`);
      return stdout;
    },
    async close() {
      // nspawn asks its first process to halt; a container that does not obey is killed.
      child.kill("SIGTERM");
      const timer = setTimeout(() => process.kill(leader, "SIGKILL"), 20_000);
      await ended;
      clearTimeout(timer);
      await remove();
    },
  };
}

/** The first process of the container, by its number on this machine. */
async function leaderOf(child: ChildProcess, printed: () => string): Promise<number> {
  const until = Date.now() + 60_000;
  for (;;) {
    if (child.exitCode !== null) throw new Error(`nothing booted:\n${printed()}`);
    if (Date.now() > until) throw new Error(`nothing booted in time:\n${printed()}`);
    for (const pid of childrenOf(child.pid ?? -1)) {
      const status = read(`/proc/${pid}/status`);
      if (/^Name:\tsystemd$/m.test(status) && /^NSpid:\t\d+\t1$/m.test(status)) return pid;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function childrenOf(pid: number): number[] {
  return read(`/proc/${pid}/task/${pid}/children`).trim().split(" ").filter(Boolean).map(Number);
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

async function untilRunning(booted: Booted, printed: () => string): Promise<void> {
  const until = Date.now() + 60_000;
  for (;;) {
    const { stdout } = await booted.exec(["systemctl", "is-system-running"]);
    if (/^(running|degraded)/.test(stdout)) return;
    if (Date.now() > until) throw new Error(`the system did not come up (${stdout}):\n${printed()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
