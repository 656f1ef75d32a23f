import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { homedir, userInfo } from "node:os";
import { join } from "node:path";
import { loginUser, type Sshd, type SshUser, startSshd } from "../sshd.ts";

/** A host that instances are made of. */
export interface CloudHost {
  readonly name: string;
  readonly sshd: Sshd;
  readonly user: SshUser;
}

/** Hosts with an sshd each, and a program that makes instances of them for the exec provider. */
export interface CloudStand {
  readonly dir: string;
  readonly hosts: readonly CloudHost[];
  /** `[runners.autoscaler.plugin_config]` */
  readonly config: { readonly command: string; readonly dir: string };
  /** Ids of those that there are. */
  instances(): string[];
  /** The host that an instance is made of. */
  hostOf(id: string): CloudHost;
  /** What the program is to do at an operation, instead of its work: `refuse`, `hang`, or text that it prints. */
  trouble(operation: string, what: string | null): void;
  /** Requests so far. */
  calls(): { readonly operation: string; readonly id?: string; readonly ids?: readonly string[] }[];
  /** An instance is away, as if somebody else had removed it: its host answers nobody, and the cloud knows nothing of it. */
  lose(id: string): Promise<void>;
  close(): Promise<void>;
}

const PROGRAM = join(import.meta.dirname, "cloud.py");

export interface CloudOptions {
  /** Jobs log in as whoever runs the tests, not by accounts of their own. */
  readonly root?: boolean;
  /** Further lines of each host's sshd_config. */
  readonly config?: string;
}

/** @param dir which must exist */
export async function openCloudStand(
  dir: string,
  count: number,
  { root = false, config = "" }: CloudOptions = {},
): Promise<CloudStand> {
  for (const name of ["hosts", "taken", "names", "instances", "trouble"]) mkdirSync(join(dir, name));
  const hosts = await Promise.all(
    Array.from({ length: count }, async (_, index): Promise<CloudHost> => {
      const sshd = await startSshd({ config });
      const self = { name: userInfo().username, home: homedir(), password: "" };
      return { name: `h${index}`, sshd, user: root ? self : loginUser(sshd) };
    }),
  );
  for (const { name, sshd, user } of hosts) {
    const key = readFileSync(sshd.keyFile, "utf8");
    const answer = { address: `${sshd.host}:${sshd.port}`, username: user.name, key };
    writeFileSync(join(dir, "hosts", name), JSON.stringify(answer));
  }
  chmodSync(PROGRAM, 0o755);
  const hostOf = (id: string): CloudHost => {
    const host = hosts.find(({ name }) => id.endsWith(`-${name}`));
    if (host === undefined) throw new Error(`there is no host of ${id}`);
    return host;
  };
  const at = (...names: readonly string[]): string => join(dir, ...names);
  return {
    dir,
    hosts,
    config: { command: PROGRAM, dir },
    instances: () =>
      readdirSync(at("instances"))
        .filter((name) => !name.startsWith("."))
        .sort(),
    hostOf,
    trouble(operation, what) {
      if (what === null) rmSync(at("trouble", operation), { force: true });
      else writeFileSync(at("trouble", operation), what);
    },
    calls: () =>
      existsSync(at("calls"))
        ? readFileSync(at("calls"), "utf8")
            .trim()
            .split("\n")
            .map((line) => JSON.parse(line))
        : [],
    async lose(id) {
      rmSync(at("instances", id));
      rmSync(at("hosts", hostOf(id).name));
      await hostOf(id).sshd.close();
    },
    async close() {
      for (const { sshd } of hosts) await sshd.close();
    },
  };
}
