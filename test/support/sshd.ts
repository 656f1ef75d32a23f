import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { freePort } from "./free-port.ts";

/** Why there can be no sshd here; `null` where there is one. With CI=true a missing one is a failure. */
export function sshdMissing(): string | null {
  const missing = sshdPath() === undefined ? "no sshd (Debian: openssh-server)" : null;
  if (missing !== null && process.env.CI === "true") throw new Error(`${missing}: run scripts/setup-tests.sh`);
  return missing;
}

function sshdPath(): string | undefined {
  return ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"].find(existsSync);
}

export const isRoot = process.geteuid?.() === 0;

export interface SshUser {
  readonly name: string;
  readonly home: string;
  readonly password: string;
}

export interface Sshd {
  readonly host: "127.0.0.1";
  readonly port: number;
  readonly pid: number;
  readonly dir: string;
  /** Private key that opens every account here. */
  readonly keyFile: string;
  readonly knownHostsFile: string;
  /** Line of known_hosts without the name: type and base64. */
  readonly hostKey: string;
  /** What sshd has logged so far. */
  log(): string;
  /** Makes an account (only as root), with a home directory inside `dir`. */
  addUser(options?: { shell?: string }): SshUser;
  /** Restarts sshd with new host keys and options on the same port. */
  restart(options?: { newHostKey?: boolean; config?: string }): Promise<void>;
  /** Sends SIGSTOP or SIGCONT to the listener and all sessions. */
  freeze(): void;
  thaw(): void;
  /** Processes of its sessions. */
  sessions(): number[];
  close(): Promise<void>;
}

export interface SshdOptions {
  /** Further lines of sshd_config. */
  readonly config?: string;
}

/** Debian's sshd with its own keys, port and configuration, in the foreground. */
export async function startSshd({ config = "" }: SshdOptions = {}): Promise<Sshd> {
  const dir = mkdtempSync(join(tmpdir(), "alloy-sshd-"));
  chmodSync(dir, 0o755);
  const users: string[] = [];
  const keyFile = join(dir, "id");
  const hostKeyFile = join(dir, "host_key");
  const knownHostsFile = join(dir, "known_hosts");
  const makeKey = (file: string): void => {
    rmSync(file, { force: true });
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file]);
  };
  makeKey(keyFile);
  makeKey(hostKeyFile);
  const hostKey = (): string => readFileSync(`${hostKeyFile}.pub`, "utf8").trim();
  writeFileSync(join(dir, "authorized_keys"), readFileSync(`${keyFile}.pub`));
  if (isRoot) mkdirSync("/run/sshd", { recursive: true, mode: 0o755 });

  let child: ChildProcess | null = null;
  let log = "";
  let port = 0;
  let more = config;

  // If the tests are killed, the guard's input ends, and it removes all of this, accounts included.
  const guard = spawn("sh", ["-c", GUARD, "sshd-guard", dir], { stdio: ["pipe", "ignore", "ignore"], detached: true });
  guard.unref();

  const launch = async (): Promise<void> => {
    for (let round = 0; ; round++) {
      const wanted = port === 0 ? await freePort() : port;
      const file = join(dir, "sshd_config");
      // The first value of a keyword counts, so the test's lines stand on top.
      writeFileSync(
        file,
        `${more}\nPort ${wanted}\nListenAddress 127.0.0.1\nHostKey ${hostKeyFile}\nPidFile none\nUsePAM no\nStrictModes no
AuthorizedKeysFile ${join(dir, "authorized_keys")}\nPermitRootLogin yes\nPasswordAuthentication yes
KbdInteractiveAuthentication no\nUseDNS no\nPrintMotd no\nLogLevel VERBOSE\nSubsystem sftp internal-sftp\n`,
      );
      const started = spawn(sshdPath() ?? "sshd", ["-D", "-e", "-f", file], { stdio: ["ignore", "ignore", "pipe"] });
      child = started;
      const from = log.length;
      started.stderr?.setEncoding("utf8").on("data", (text: string) => {
        log = (log + text).slice(-1_000_000);
      });
      while (started.exitCode === null && !log.slice(from).includes("Server listening")) {
        await Promise.race([once(started.stderr ?? started, "data"), once(started, "exit")]);
      }
      if (started.exitCode === null) {
        writeFileSync(join(dir, "pid"), String(started.pid));
        port = wanted;
        return;
      }
      if (round >= 20) throw new Error(`sshd does not start: ${log.slice(from)}`);
      await wait(100);
    }
  };

  const sessions = (): number[] => (child?.pid === undefined ? [] : descendants(child.pid));
  const stop = async (): Promise<void> => {
    const running = child;
    if (running === null || running.pid === undefined) return;
    const all = [...sessions(), running.pid];
    const exited = running.exitCode === null && running.signalCode === null ? once(running, "exit") : Promise.resolve();
    for (const pid of all) signalTo(pid, "SIGKILL");
    await exited;
    child = null;
  };

  await launch();
  writeFileSync(knownHostsFile, `[127.0.0.1]:${port} ${hostKey()}\n`);
  return {
    host: "127.0.0.1",
    get port() {
      return port;
    },
    get pid() {
      return child?.pid ?? -1;
    },
    dir,
    keyFile,
    knownHostsFile,
    get hostKey() {
      return hostKey();
    },
    log: () => log,
    addUser: ({ shell = "/bin/bash" } = {}) => {
      if (!isRoot) throw new Error("only root can add accounts");
      const name = `alloy-${randomBytes(5).toString("hex")}`;
      const password = randomBytes(9).toString("base64url");
      const home = join(dir, "home", name);
      mkdirSync(join(dir, "home"), { recursive: true });
      const hash = execFileSync("openssl", ["passwd", "-6", "-stdin"], { input: password }).toString().trim();
      users.push(name);
      writeFileSync(join(dir, "users"), `${users.join("\n")}\n`);
      // A number of its own: what is left of the account is killed, and containers give away the next free number, too.
      const uid = String(randomInt(20_000, 60_000));
      locked(() => ["useradd", "-m", "-u", uid, "-d", home, "-s", shell, "-p", hash, name]);
      return { name, home, password };
    },
    restart: async ({ newHostKey = false, config: next } = {}) => {
      await stop();
      if (newHostKey) makeKey(hostKeyFile);
      if (next !== undefined) more = next;
      await launch();
    },
    freeze: () => {
      for (const pid of [child?.pid ?? -1, ...sessions()]) signalTo(pid, "SIGSTOP");
    },
    thaw: () => {
      for (const pid of [child?.pid ?? -1, ...sessions()]) signalTo(pid, "SIGCONT");
    },
    sessions,
    close: async () => {
      await stop();
      for (const name of users) {
        for (const pid of processesOf(name)) signalTo(pid, "SIGKILL");
        locked(() => ["userdel", "-f", name]);
      }
      rmSync(dir, { recursive: true, force: true });
      guard.stdin.destroy();
    },
  };
}

/** `$1` is the directory of an sshd: once stdin ends, everything that is left of it is removed. */
const GUARD = `
trap '' HUP INT TERM
cat >/dev/null
[ -d "$1" ] || exit 0
pid=$(cat "$1/pid" 2>/dev/null)
case $(ps -o args= -p "\${pid:-0}") in *"$1/sshd_config"*)
  kill -STOP "$pid"
  kill -KILL $(ps -o pid= --ppid "$pid") "$pid" ;;
esac
for user in $(cat "$1/users" 2>/dev/null); do
  pkill -KILL -u "$user"
  for try in 1 2 3 4 5 6 7 8 9 10; do
    userdel -f "$user"
    case $? in 0 | 6) break ;; esac
    sleep 0.5
  done
done
rm -rf "$1"
`;

/** The account that logs in: a new one if the tests run as root, otherwise their own. */
export function loginUser(sshd: Sshd, shell?: string): SshUser {
  if (isRoot) return sshd.addUser(shell === undefined ? {} : { shell });
  const home = join(sshd.dir, "home");
  mkdirSync(home, { recursive: true });
  return { name: userInfo().username, home, password: "" };
}

/** Adds another key that may log in. */
export function authorize(sshd: Sshd, publicKeyLine: string): void {
  appendFileSync(join(sshd.dir, "authorized_keys"), `${publicKeyLine.trim()}\n`);
}

function signalTo(pid: number, signal: NodeJS.Signals): void {
  if (pid <= 0) return;
  try {
    process.kill(pid, signal);
  } catch {
    // The process has ended.
  }
}

function table(): { pid: number; parent: number; user: string }[] {
  const lines = execFileSync("ps", ["-axww", "-o", "pid=,ppid=,user:40="]).toString().trim().split("\n");
  return lines.map((line) => {
    const [pid = "0", parent = "0", user = ""] = line.trim().split(/\s+/);
    return { pid: Number(pid), parent: Number(parent), user };
  });
}

/** Only sshd's own processes and their descendants. */
export function descendants(root: number): number[] {
  const all = table();
  const found: number[] = [];
  for (let todo = [root]; todo.length > 0; ) {
    const next = all.filter((one) => todo.includes(one.parent)).map((one) => one.pid);
    found.push(...next);
    todo = next;
  }
  return found;
}

function processesOf(user: string): number[] {
  return table()
    .filter((one) => one.user === user)
    .map((one) => one.pid);
}

/** /etc/passwd is locked while another test adds an account. */
function locked(command: () => readonly [string, ...string[]]): void {
  const [program, ...args] = command();
  for (let round = 0; ; round++) {
    const { status, stderr } = spawnSync(program, args, { encoding: "utf8" });
    if (status === 0 || (program === "userdel" && status === 6)) return;
    if (round >= 100) throw new Error(`${program}: ${stderr}`);
    spawnSync("sleep", ["0.1"]);
  }
}
