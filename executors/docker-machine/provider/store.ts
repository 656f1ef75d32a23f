import { access, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { SystemFailure } from "../../../src/errors.ts";

/** docker-machine's own directory, which all machines of an account share. */
export interface MachineStore {
  readonly path: string;
  /** Names of all machines in it, half-made ones included. */
  names(): Promise<string[]>;
  /** docker-machine knows nothing of what has none: no cloud was asked for such a machine. */
  hasConfig(name: string): Promise<boolean>;
  /** Folder with `ca.pem`, `cert.pem` and `key.pem` for a machine's engine. */
  certificatesOf(name: string): Promise<string>;
  /** How docker-machine itself logs in there. `null`: it has no key for it. */
  loginOf(name: string): Promise<MachineLogin | null>;
}

/** An account of a machine, and its key: where docker-machine logs in to set the machine up. */
export interface MachineLogin {
  readonly user: string;
  readonly port: number;
  /** Of a private key. */
  readonly identityFile: string;
}

const configSchema = z.object({
  Driver: z
    .object({ SSHUser: z.string().optional(), SSHPort: z.int().optional(), SSHKeyPath: z.string().optional() })
    .optional(),
  HostOptions: z.object({ AuthOptions: z.object({ StorePath: z.string() }) }),
});

/** @throws {SystemFailure} neither variable says where it is */
export function findStore(env: Readonly<Record<string, string | undefined>>): MachineStore {
  const path = env.MACHINE_STORAGE_PATH || (env.HOME ? join(env.HOME, ".docker", "machine") : "");
  if (path === "") {
    throw new SystemFailure(
      "Neither HOME nor MACHINE_STORAGE_PATH is set: docker-machine would keep its machines where nobody finds them. Set MACHINE_STORAGE_PATH for the runner's service",
      { reason: "runner_configuration_error" },
    );
  }
  const machines = join(path, "machines");
  const configOf = async (name: string) =>
    configSchema.parse(JSON.parse(await readFile(join(machines, name, "config.json"), "utf8")));
  return {
    path,
    async names() {
      try {
        const entries = await readdir(machines, { withFileTypes: true });
        return entries.filter((one) => one.isDirectory() && !one.name.startsWith(".")).map(({ name }) => name);
      } catch (error) {
        if (error instanceof Error && "code" in error && error.code === "ENOENT") return [];
        throw new SystemFailure(`Cannot list the machines in ${machines}`, { cause: error, retry: true });
      }
    },
    hasConfig: (name) =>
      access(join(machines, name, "config.json")).then(
        () => true,
        () => false,
      ),
    async certificatesOf(name) {
      const own = join(machines, name);
      try {
        return (await configOf(name)).HostOptions.AuthOptions.StorePath || own;
      } catch {
        return own;
      }
    },
    async loginOf(name) {
      const { SSHUser, SSHPort, SSHKeyPath } = (await configOf(name).catch(() => null))?.Driver ?? {};
      // Drivers that make a key put it here, and need not say so.
      const identityFile = SSHKeyPath || join(machines, name, "id_rsa");
      const isThere = await access(identityFile).then(
        () => true,
        () => false,
      );
      return isThere ? { user: SSHUser || "root", port: SSHPort || 22, identityFile } : null;
    },
  };
}
