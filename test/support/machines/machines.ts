import { execFileSync, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isRoot, sshdMissing } from "../sshd.ts";

/** Why no guests can be started on this machine; `null`: they can. */
export function machinesMissing(): string | null {
  const missing = process.platform !== "linux" ? "needs Linux" : !isRoot ? "needs root" : sshdMissing();
  if (missing !== null) return missing;
  for (const program of ["/usr/bin/unshare", "/usr/bin/nsenter", "/usr/bin/setpriv", "/usr/bin/python3"]) {
    if (!existsSync(program)) return `needs ${program}`;
  }
  return null;
}

export type Hypervisor = "virtualbox" | "parallels";

/**
 * Machines of a program that stands in for a hypervisor's, which lies beside this file, and their common beginnings.
 */
export interface Machines {
  readonly dir: string;
  readonly keyFile: string;
  /** What a runner needs to find the stand-in. */
  readonly env: Readonly<Record<string, string>>;
  readonly base: { readonly name: string; readonly id: string };
  /**
   * Adds a machine of somebody else's, with a disk like the base's.
   * @returns its id
   */
  add(name: string): string;
  /** Names of all machines but the base, those that were added, and templates. */
  copies(): string[];
  /** Names of the machines that run. */
  running(): string[];
  /** The arguments of each call. */
  calls(): string[];
  /** Removes a machine as somebody could do by hand. */
  forget(name: string): void;
  /** Stops a machine as a power failure would. */
  unplug(name: string): void;
  /** The address of a running machine on its network. */
  addressOf(name: string): string;
  /** Processes of the stand-in's program that still run. */
  processes(): string[];
  /** The directory of a machine. */
  pathOf(name: string): string;
  /** Decides what the next calls of a verb do: see `fault` of guest.sh. `null`: they work as always. */
  fault(verb: string, how: string | null, times?: number): void;
  /** Writes a file of the stand-in's: `boot`, `copying`, `linger`, `linux`, `version`. `null` removes it. */
  set(name: string, text: string | null): void;
  close(): void;
}

const here = import.meta.dirname;

export function openMachines(hypervisor: Hypervisor, version: string): Machines {
  const dir = mkdtempSync(join(tmpdir(), "alloy-machines-"));
  const state = join(dir, hypervisor);
  const keyFile = join(dir, "id");
  for (const name of ["machines", "faults", "folder", "disks"]) mkdirSync(join(state, name), { recursive: true });
  writeFileSync(join(state, "version"), `${version}\n`);
  writeFileSync(join(state, "calls"), "");
  const makeKey = (file: string): void =>
    void execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file]);
  makeKey(keyFile);
  const disk = join(dir, "disk");
  for (const name of ["root/.ssh", "tmp", "etc/ssh", "usr/local/bin"]) mkdirSync(join(disk, name), { recursive: true });
  execFileSync("chmod", ["700", join(disk, "root"), join(disk, "root/.ssh")]);
  execFileSync("chmod", ["1777", join(disk, "tmp")]);
  makeKey(join(disk, "etc/ssh/ssh_host_ed25519_key"));
  writeFileSync(join(disk, "root/.ssh/authorized_keys"), readFileSync(`${keyFile}.pub`), { mode: 0o600 });
  writeFileSync(
    join(disk, "etc/ssh/sshd_config"),
    `Port 22\nHostKey /etc/ssh/ssh_host_ed25519_key\nPidFile none\nUsePAM no\nPermitRootLogin yes\nUseDNS no\nPrintMotd no
StrictModes no\nPasswordAuthentication no\n`,
  );
  const macs = { virtualbox: "080027AABB", parallels: "001C42AABB" };
  const own = new Set<string>();
  const add = (name: string): string => {
    const id = randomUUID();
    const path = join(state, "machines", id);
    mkdirSync(join(path, "snapshots"), { recursive: true });
    cpSync(disk, join(path, "disk"), { recursive: true, preserveTimestamps: true });
    execFileSync("cp", ["-a", `${disk}/.`, join(path, "disk")]);
    const files = {
      name,
      folder: join(state, "folder"),
      state: hypervisor === "virtualbox" ? "poweroff\n" : "stopped\n",
      nic: "nat",
      rules: "guestssh,tcp,127.0.0.1,2222,,22\n",
      mac: `${macs[hypervisor]}${String(own.size).padStart(2, "0")}`,
    };
    for (const [file, text] of Object.entries(files)) writeFileSync(join(path, file), text);
    own.add(name);
    return id;
  };
  const base = { name: 'Debian "12" base', id: add('Debian "12" base') };
  const all = (): { path: string; name: string }[] =>
    readdirSync(join(state, "machines"))
      .filter((name) => !name.startsWith("."))
      .flatMap((name) => {
        const path = join(state, "machines", name);
        return existsSync(join(path, "name")) ? [{ path, name: readFileSync(join(path, "name"), "utf8") }] : [];
      });
  const runs = (path: string): boolean => {
    try {
      const pid = readFileSync(join(path, "run/pid"), "utf8").trim();
      return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
    } catch {
      return false;
    }
  };
  // If the tests are killed, the guard's input ends, and it removes all of this.
  const guard = spawn("sh", ["-c", GUARD, "machines-guard", dir], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  guard.unref();
  return {
    dir,
    keyFile,
    env: { FAKE_MACHINES: dir, PATH: `${here}:${process.env.PATH ?? ""}` },
    base,
    add,
    copies: () =>
      all().flatMap(({ name, path }) => (own.has(name) || existsSync(join(path, "template")) ? [] : [name])),
    running: () => all().flatMap(({ name, path }) => (runs(path) ? [name] : [])),
    calls: () => readFileSync(join(state, "calls"), "utf8").split("\n").filter(Boolean),
    forget: (name) => {
      const found = all().find((one) => one.name === name);
      if (found !== undefined) rmSync(found.path, { recursive: true, force: true });
    },
    unplug: (name) => {
      const path = all().find((one) => one.name === name)?.path ?? "";
      for (const one of ["run/forwarder", "run/pid"]) {
        if (existsSync(join(path, one))) process.kill(Number(readFileSync(join(path, one), "utf8")), "SIGKILL");
      }
    },
    addressOf: (name) => {
      const path = all().find((one) => one.name === name)?.path ?? "";
      return readFileSync(join(path, "run/address"), "utf8").trim();
    },
    processes: () =>
      readdirSync("/proc").filter((pid) => {
        if (!/^\d+$/.test(pid)) return false;
        try {
          // A guest has the same environment, but was started by another program.
          const words = readFileSync(`/proc/${pid}/cmdline`, "latin1");
          return (
            words.includes(here) && readFileSync(`/proc/${pid}/environ`, "latin1").includes(`FAKE_MACHINES=${dir}`)
          );
        } catch {
          return false;
        }
      }),
    pathOf: (name) => all().find((one) => one.name === name)?.path ?? join(state, "none"),
    fault: (verb, how, times) => {
      const file = join(state, "faults", verb);
      rmSync(`${file}.times`, { force: true });
      if (how === null) return rmSync(file, { force: true });
      if (times !== undefined) writeFileSync(`${file}.times`, `${times}\n`);
      writeFileSync(file, how);
    },
    set: (name, text) => {
      if (text === null) rmSync(join(state, name), { force: true });
      else writeFileSync(join(state, name), text);
    },
    close: () => {
      execFileSync("sh", ["-c", END, "machines-end", dir]);
      guard.stdin.destroy();
    },
  };
}

/** `$1` is a directory of machines: ends all processes that work there, then removes it. */
const END = `
for file in $(grep -lsz "^FAKE_MACHINES=$1$" /proc/[0-9]*/environ); do
  pid=\${file#/proc/}
  kill -KILL "\${pid%/environ}" 2>/dev/null
done
for file in "$1"/*/machines/*/run/pid "$1"/*/machines/*/run/forwarder; do
  [ -e "$file" ] && kill -KILL "$(cat "$file")" 2>/dev/null
done
rm -rf "$1"`;
const GUARD = `trap '' HUP INT TERM
cat >/dev/null
[ -d "$1" ] || exit 0
${END}`;
