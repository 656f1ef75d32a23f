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
}

const configSchema = z.object({
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
        const text = await readFile(join(own, "config.json"), "utf8");
        return configSchema.parse(JSON.parse(text)).HostOptions.AuthOptions.StorePath || own;
      } catch {
        return own;
      }
    },
  };
}
